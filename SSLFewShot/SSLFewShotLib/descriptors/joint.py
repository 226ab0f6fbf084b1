"""Several descriptors as one: what one does not tell apart, another may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.views import sampled


class JointDescriptor(Descriptor):
    """The numbers of several descriptors one after another, D = ΣD.

    Each part prepares scans in its own way. Numbers are not brought to one scale here; a segmenter that compares
    them standardises them over its support.
    """

    def __init__(self, parts: Sequence[Descriptor]):
        super().__init__()
        self.parts = list(parts)
        self.name = _name(parts)
        self.dimension = sum(part.dimension for part in parts)
        self.modality = _modality(parts)

    def provenance(self) -> dict[str, Any]:
        return _provenance(self.parts)

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


@dataclass(frozen=True)
class JointScan(PreparedScan):
    """A scan as the first of several descriptors prepared it; others: as the others did."""

    others: tuple[PreparedScan, ...] = ()


class JointDenseDescriptor(DenseDescriptor):
    """The vectors of several dense descriptors one after another, at unit length and each counting the same.

    Each part prepares scans in its own way; the vectors of the others are read at the voxels of the first, whose
    network is also the one that is trained where one is (`network`).
    """

    def __init__(self, parts: Sequence[DenseDescriptor]):
        first = parts[0]
        extent, intensity = first.preparation.extent, first.preparation.intensity
        super().__init__(
            first.network, extent, intensity, _name(parts), first.device, _modality(parts), tile=first.tile
        )
        self.parts = list(parts)
        self.dimension = sum(part.dimension for part in parts)

    def provenance(self) -> dict[str, Any]:
        return _provenance(self.parts)

    def _prepare(self, volume: Volume, progress: Progress) -> PreparedScan:
        count = len(self.parts)
        first, *others = (
            part.preparation(volume, portion(progress, number / count, (number + 1) / count))
            for number, part in enumerate(self.parts)
        )
        return JointScan(**vars(first), others=tuple(others))

    def _computed(self, scan: JointScan, progress: Progress) -> np.ndarray:
        count = len(self.parts)
        total = np.moveaxis(np.empty((*scan.values.shape, self.dimension), np.float32), -1, 0)
        start = 0
        for number, (part, seen) in enumerate(zip(self.parts, (scan, *scan.others), strict=True)):
            found = part._computed(seen, portion(progress, number / count, (number + 1) / count))
            into = total[start : start + part.dimension]
            np.multiply(found if seen is scan else _on_grid_of(scan, seen, found), count**-0.5, out=into)
            start += part.dimension
        return total


def _on_grid_of(scan: PreparedScan, seen: PreparedScan, field: np.ndarray) -> np.ndarray:
    """(C, K, J, I) unit vectors at the voxels of `scan`, read from a field on the grid of `seen`."""
    where = torch.from_numpy(seen.indices(scan.points(tuple(slice(0, n) for n in scan.values.shape)))).float()
    found = sampled(torch.from_numpy(field), where).T.reshape(-1, *scan.values.shape)
    return F.normalize(found, dim=0).numpy()


def _name(parts: Sequence[Descriptor]) -> str:
    return "+".join(part.name for part in parts)


def _modality(parts: Sequence[Descriptor]) -> str:
    """The one that they were made for; "any" where they differ."""
    made_for = {part.modality for part in parts} - {"any"}
    return made_for.pop() if len(made_for) == 1 else "any"


def _provenance(parts: Sequence[Descriptor]) -> dict[str, Any]:
    return {"name": _name(parts), "method": "joint", "parts": [part.provenance() for part in parts]}
