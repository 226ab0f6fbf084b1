"""From marked scans to labels on new ones."""

from SSLFewShotLib.segmentation.segmenter import Segmenter

__all__ = ["Segmenter"]
