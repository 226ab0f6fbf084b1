"""The library's version; every card, report and segmentation names it."""

__version__ = "0.1.0"
