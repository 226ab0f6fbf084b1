"""Several descriptors as one: what one does not tell apart, another may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.preparation import PreparedScan


class JointDescriptor(Descriptor):
    """The numbers of several descriptors one after another, D = ΣD.

    Each part prepares scans in its own way. Numbers are not brought to one scale here; a segmenter that compares
    them standardises them over its support.
    """

    def __init__(self, parts: Sequence[Descriptor]):
        super().__init__()
        self.parts = list(parts)
        self.name = "+".join(part.name for part in parts)
        self.dimension = sum(part.dimension for part in parts)
        made_for = {part.modality for part in parts} - {"any"}
        self.modality = made_for.pop() if len(made_for) == 1 else "any"

    def provenance(self) -> dict[str, Any]:
        return {"name": self.name, "method": "joint", "parts": [part.provenance() for part in self.parts]}

    def prepare(self, volume: Volume, progress: Progress = ignore_progress) -> PreparedScan:
        """The scan as the first part sees it."""
        return self.parts[0].prepare(volume, progress)

    def describe(self, volume: Volume, points: np.ndarray, progress: Progress = ignore_progress) -> np.ndarray:
        count = len(self.parts)
        found = [
            part.describe(volume, points, portion(progress, number / count, (number + 1) / count))
            for number, part in enumerate(self.parts)
        ]
        return np.concatenate(found, axis=1)

    def _describe(self, scan: PreparedScan, points: np.ndarray, progress: Progress) -> np.ndarray:
        raise TypeError("the parts describe, each on its own preparation of the scan")
