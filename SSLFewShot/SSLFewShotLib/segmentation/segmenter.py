"""The one interface of everything that segments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress

SPEEDS = ("fast", "balanced")
"""How much time a scan may take."""


class Segmenter(ABC):
    """scikit-learn's habit: the constructor takes settings, `fit` takes data, fitted attributes end in "_".

    speeds: for each of `SPEEDS` that there is, the settings that measured well for it.
    """

    name: str
    speeds: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @abstractmethod
    def fit(self, support: SupportSet, progress: Progress = ignore_progress) -> Segmenter:
        """Learn from the support; returns self."""

    @abstractmethod
    def predict(self, volume: Volume, progress: Progress = ignore_progress) -> tuple[LabelMap, Volume]:
        """Label a scan.

        Returns the labels on the scan's own grid, with the support's names, colours and terminology, and the
        confidence, (K, J, I) float32 in 0..1: the estimated probability that the label given is right.
        """

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """What a report says of this segmenter: method, model, settings."""
