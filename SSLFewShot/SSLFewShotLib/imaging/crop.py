"""Cutting a scan down to a box: original voxels, exact geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.volume import Volume

_EDGE = 1e-6
"""Voxels: a centre that lies on a face of the box counts as in it, whatever rounding says."""


@dataclass(frozen=True)
class CropRange:
    """The voxels `first` to `first` + `size` − 1 along i, j, k of a grid of `whole` voxels."""

    first: tuple[int, int, int]
    size: tuple[int, int, int]
    whole: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Of the (K, J, I) array."""
        i, j, k = (slice(first, first + size) for first, size in zip(self.first, self.size, strict=True))
        return k, j, i

    @property
    def saved(self) -> float:
        """The share of the voxels that is left out, 0..1."""
        return 1 - float(np.prod(self.size, dtype=np.float64) / np.prod(self.whole, dtype=np.float64))

    def matrix(self, ijkToLps: np.ndarray) -> np.ndarray:
        """(4, 4) ijkToLps of the cropped grid."""
        matrix = np.array(ijkToLps, dtype=np.float64)
        matrix[:3, 3] += matrix[:3, :3] @ np.array(self.first)
        return matrix

    def to_dict(self, itemsize: int) -> dict[str, Any]:
        """As plain JSON values; itemsize: bytes of a voxel."""
        return {
            "first": list(self.first),
            "size": list(self.size),
            "bytes_before": int(np.prod(self.whole, dtype=object)) * itemsize,
            "bytes_after": int(np.prod(self.size, dtype=object)) * itemsize,
            "saved": round(self.saved, 4),
        }


def crop_range(volume: Any, box: Box, margin: float = 0.0) -> CropRange:
    """The voxels of a scan that a box needs.

    volume: anything with `ijkToLps`, `size` and `name`; margin: mm added on every side.

    Along each axis of the grid, every voxel whose centre lies between the box's extreme points, at least one; so
    for a box that is turned against the grid, all of its voxels and some more.
    Raises InputError when the box lies outside the scan.
    """
    inverse = np.linalg.inv(volume.ijkToLps)
    ijk = box.grown(margin).corners() @ inverse[:3, :3].T + inverse[:3, 3]
    low, high = ijk.min(axis=0), ijk.max(axis=0)
    size = np.array(volume.size)
    if (high < -0.5).any() or (low > size - 0.5).any():
        raise InputError(
            f"{volume.name}: the box {box.name} lies outside of this scan; choose the box of this scan, or move it"
        )
    first = np.clip(np.ceil(low - _EDGE), 0, size - 1).astype(int)
    last = np.clip(np.floor(high + _EDGE), 0, size - 1).astype(int)
    # Of a box thinner than a voxel, the voxel that it lies in.
    thin = last < first
    first[thin] = last[thin] = np.clip(np.round((low + high) / 2), 0, size - 1).astype(int)[thin]
    return CropRange(*(tuple(int(n) for n in part) for part in (first, last - first + 1, size)))


def crop(volume: Volume, box: Box, margin: float = 0.0) -> Volume:
    """The part of a scan that a box needs (see `crop_range`), with its own copy of the voxels."""
    part = crop_range(volume, box, margin)
    return Volume(
        np.array(volume.array[part.slices]),
        part.matrix(volume.ijkToLps),
        volume.name,
        volume.modality,
        dict(volume.metadata),
    )
