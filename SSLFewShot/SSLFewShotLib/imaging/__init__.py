"""Scans, labels and supports: types, files, resampling, body mask, phantoms. No torch here."""

from SSLFewShotLib.imaging.labelmap import LabelMap, Segment
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume

__all__ = ["LabelMap", "Segment", "SupportSet", "Volume"]
