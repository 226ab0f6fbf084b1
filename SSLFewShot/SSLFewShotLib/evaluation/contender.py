"""The interface of what an evaluation compares."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.segmenter import Segmenter

Supports = tuple[str, ...]


class Contender(ABC):
    """A method and, when it needs one, the name of its model ("" otherwise)."""

    method: str
    model: str = ""
    fitted: dict[Supports, Segmenter]
    share_of_fitting: float = 0.1
    """Of the time that a fold takes."""

    @property
    def title(self) -> str:
        """What messages and reports call it: "knn heatmap-head-neck-ct", "box"."""
        return f"{self.method} {self.model}".strip()

    @abstractmethod
    def _segmenter(self) -> Segmenter:
        """A new one, not yet fitted. Raises InputError for settings that it does not have."""

    def fit(self, sets: Mapping[Supports, SupportSet], progress: Progress = ignore_progress) -> None:
        """Fit one segmenter to each support set; those of an earlier call are forgotten."""
        self.fitted = {}
        for number, (supports, support) in enumerate(sets.items()):
            report = portion(progress, number / len(sets), (number + 1) / len(sets))
            self.fitted[supports] = self._segmenter().fit(support, report)

    def predict(
        self, supports: Supports, volume: Volume, progress: Progress = ignore_progress
    ) -> tuple[LabelMap, dict[str, float]]:
        """Label a scan from one of the sets.

        Returns the labels, and measured numbers: seconds that a fitted segmenter takes, as if no other set had
        been there; recall of its neighbour search, where there is one.
        """
        began = time.perf_counter()
        labels, _ = self.fitted[supports].predict(volume, progress)
        return labels, {"seconds": time.perf_counter() - began}

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a report says of it: descriptor, checksum, settings, and the data that it was pretrained on."""
