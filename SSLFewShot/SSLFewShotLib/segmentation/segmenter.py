"""The one interface of everything that segments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress

SPEEDS = ("fast", "balanced", "best")
"""How much time a scan may take; the best trains a network on the supports first."""


class Segmenter(ABC):
    """scikit-learn's habit: the constructor takes settings, `fit` takes data, fitted attributes end in "_".

    speeds: for each of `SPEEDS` that there is, the settings that measured well for it.
    trains: whether `fit` trains a network for some time. It leaves its checkpoint in `folder`, None for a
    temporary one, and goes on from there with `resume`; both are set by whoever has a place, and no settings.
    unlabelled: scans, or folders of them, that one which trains may learn from as well.
    """

    name: str
    trains: bool = False
    folder: Path | None = None
    resume: bool = False
    unlabelled: Sequence[Path | str] = ()
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
