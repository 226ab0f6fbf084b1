"""A scan made ready for patches: axes along L, P, S, one spacing, normalised intensities, body mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.body import body_mask
from SSLFewShotLib.imaging.resampling import resample
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion, renamed, watched
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import AS_IT_IS, Intensity, Scale

_MOST_VOXELS = 200_000_000
"""More than ten times what a whole trunk needs; beyond, memory would run out."""


@dataclass(frozen=True)
class Preparation:
    """How a scan is prepared.

    step: distance of two samples of a patch, in units of `extent`; also the prepared grid's spacing, so that
        a patch is read at whole voxels apart (one interpolation weight a patch and axis).
    """

    extent: Extent
    intensity: Intensity
    step: float

    def __call__(self, volume: Volume, progress: Progress = ignore_progress) -> PreparedScan:
        """Resample to an LPS-aligned grid that covers the scan (anti-aliased), and normalise.

        Raises InputError when the extent is so small for the scan that the grid would not fit into memory, and for
        NaN or infinite voxels.
        """
        corners = volume.corners()
        low, high = corners.min(axis=0), corners.max(axis=0)
        unit = self.extent.unit_mm(high - low)
        spacing = unit * self.step
        size = np.maximum(np.round((high - low) / spacing), 1)
        if (excess := float(np.prod(size)) / _MOST_VOXELS) > 1:
            raise InputError(
                f"{volume.name}: the extent of {self.extent.scale:g} mm a unit is too small for a scan of "
                f"{' × '.join(f'{s:.0f}' for s in high - low)} mm; give at least "
                f"{self.extent.scale * excess ** (1 / 3):.2g} mm"
            )
        size = size.astype(int)
        origin = (low + high) / 2 - spacing * (size - 1) / 2
        matrix = np.diag([*spacing, 1.0])
        matrix[:3, 3] = origin
        grid = Volume(np.broadcast_to(np.int8(0), size[::-1]), matrix, volume.name, volume.modality)
        what = f"preparing {volume.name}"
        resampled = resample(volume, grid, progress=renamed(portion(progress, 0.0, 0.5), what))
        body = body_mask(resampled, progress=renamed(portion(progress, 0.5, 0.9), what))
        scale = watched(lambda: self.intensity.scale(resampled.array, body), progress, 0.9, what)
        values = scale(resampled.array)
        if not np.isfinite(values).all():
            raise InputError(f"{volume.name}: holds NaN or infinite voxels; replace them, by the value of air say")
        voxels, inside = torch.from_numpy(values), torch.from_numpy(body)
        return PreparedScan(voxels, inside, origin, spacing, unit, volume.name, scale)


@dataclass(frozen=True)
class PreparedScan:
    """values, body: (K, J, I) float32 and bool, K along S, J along P, I along L.

    origin, spacing: (3,) LPS mm of voxel (0, 0, 0) and between voxels.
    unit: (3,) mm of one unit of the extent along L, P, S. scale: from the scan's own values to these.
    """

    values: torch.Tensor
    body: torch.Tensor
    origin: np.ndarray
    spacing: np.ndarray
    unit: np.ndarray
    name: str = "scan"
    scale: Scale = AS_IT_IS

    def indices(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) LPS mm to (N, 3) continuous indices (i, j, k)."""
        return (np.asarray(points, dtype=np.float64) - self.origin) / self.spacing

    def points(self, part: tuple[slice, slice, slice]) -> np.ndarray:
        """(N, 3) LPS mm of the voxels in slices (k, j, i) with a start and a stop, i fastest."""
        k, j, i = np.meshgrid(*(np.arange(one.start, one.stop) for one in part), indexing="ij")
        return self.origin + self.spacing * np.stack([i.ravel(), j.ravel(), k.ravel()], axis=1)

    @property
    def nbytes(self) -> int:
        """Memory of the voxels and the mask."""
        return self.values.numel() * 4 + self.body.numel()
