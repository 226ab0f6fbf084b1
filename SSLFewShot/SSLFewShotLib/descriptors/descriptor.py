"""The one interface of all descriptors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from SSLFewShotLib.descriptors.kept import KeptWith
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.resampling import grid_like
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.preparation import Preparation, PreparedScan


class Descriptor(ABC):
    """Describes points of a scan by vectors that are alike where the anatomy is alike.

    name: of the model or the hand-crafted descriptor; modality: what it was made for, or "any";
    dimension: D; batch_size: points described at once, which bounds the memory whatever the volume.
    """

    name: str
    modality: str = "any"
    dimension: int
    preparation: Preparation
    batch_size: int = 512

    def __init__(self) -> None:
        self._prepared: KeptWith[PreparedScan] = KeptWith()

    @abstractmethod
    def _describe(self, scan: PreparedScan, points: np.ndarray, progress: Progress) -> np.ndarray:
        """(N, 3) LPS mm to (N, D) float32."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """What a report says of this descriptor: name, method, checksum of the weights, settings."""

    def prepare(self, volume: Volume, progress: Progress = ignore_progress) -> PreparedScan:
        """The scan as this descriptor sees it; the last one is kept while its voxels are in use."""
        geometry = volume.ijkToLps.tobytes()
        scan = self._prepared.get(volume.array, geometry)
        if scan is None:
            scan = self._prepared.put(volume.array, self._prepare(volume, progress), geometry)
        return scan

    def _prepare(self, volume: Volume, progress: Progress) -> PreparedScan:
        return self.preparation(volume, progress)

    def describe(self, volume: Volume, points: np.ndarray, progress: Progress = ignore_progress) -> np.ndarray:
        """Describe points.

        points: (N, 3) LPS mm, anywhere; outside the scan its border repeats.

        Returns (N, D) float32. Raises InputError for points that are not (N, 3) or not finite.
        """
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise InputError(f"{volume.name}: finite points of shape (N, 3) were expected, got {points.shape}")
        if not len(points):
            return np.empty((0, self.dimension), np.float32)
        scan = self.prepare(volume, portion(progress, 0.0, 0.1))
        return self._describe(scan, points, portion(progress, 0.1, 1.0))

    def dense(
        self, volume: Volume, spacing: float | tuple[float, float, float], progress: Progress = ignore_progress
    ) -> Volume:
        """Describe a whole grid with the scan's axes and `spacing` (mm, along i, j, k).

        Returns a field of vectors, array (K, J, I, D) float32.
        """
        grid = grid_like(volume, spacing)
        i, j, k = np.meshgrid(*(np.arange(n) for n in grid.size), indexing="ij")
        indices = np.stack([axis.transpose(2, 1, 0).ravel() for axis in (i, j, k)], axis=1)
        vectors = self.describe(volume, grid.points_from_indices(indices), progress)
        return Volume(
            vectors.reshape(*grid.array.shape[:3], self.dimension), grid.ijkToLps, volume.name, volume.modality
        )
