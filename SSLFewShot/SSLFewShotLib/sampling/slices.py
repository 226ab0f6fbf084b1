"""Whole slices of a scan, across any axis of the patient, as a network sees them: square, turned, one size."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn import functional as F

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.foreground import without_background
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import Preparation, PreparedScan

_RIM = 3.0
"""Half pixels by which the circle is smaller than the slice: at its rim, interpolation mixes in what is beyond."""

_LONGEST = 5_000.0
"""mm; no patient is longer."""

AXES = "LPS"
"""An axis by its letter; slices across it are numbered along it."""


@dataclass(frozen=True)
class SliceScan(PreparedScan):
    """A prepared scan without its background. fill: the value of what was taken out and of all beyond the scan."""

    fill: float = 0.0


@dataclass(frozen=True)
class SlicePreparation(Preparation):
    """A scan on a grid along L, P and S of cubic voxels, of which `side` make its longest side.

    Sizes are relative to the scan, as in the paper: a tomogram of a tenth of a millimetre and a patient alike.
    What an axis shows from end to end is taken out (`sampling.foreground`).
    """

    extent: Extent = field(default_factory=lambda: Extent("normalised", 1.0))
    intensity: Intensity = field(default_factory=Intensity)
    step: float = 1.0
    side: int = 96

    def __call__(self, volume: Volume, progress: Progress = ignore_progress) -> SliceScan:
        """Resample and normalise, as `Preparation` does with a length in millimetres, and clear the background."""
        corners = volume.corners()
        longest = float((corners.max(axis=0) - corners.min(axis=0)).max())
        if longest < _LONGEST:
            scan = Preparation(Extent("mm", longest), self.intensity, 1 / self.side)(volume, progress)
            values, fill = without_background(scan.values)
            parts = {**vars(scan), "values": values}
            return SliceScan(**parts, fill=float(values.min()) if fill is None else fill)
        # A specimen whose file gives micrometres for millimetres.
        shrink = 0.1 * _LONGEST / longest
        small = Volume(volume.array, np.diag([shrink] * 3 + [1.0]) @ volume.ijkToLps, volume.name, volume.modality)
        scan = self(small, progress)
        return replace(scan, origin=scan.origin / shrink, spacing=scan.spacing / shrink, unit=scan.unit / shrink)


def axes_in(text: str) -> list[int]:
    """The axes that letters name, "PS" → [1, 2]. Raises InputError for others, none, or one given twice."""
    letters = str(text).upper()
    if not letters or len(set(letters)) != len(letters) or not set(letters) <= set(AXES):
        raise InputError(f"axes '{text}': letters of {AXES} were expected, such as S or LPS")
    return [AXES.index(letter) for letter in letters]


def planes(scan: PreparedScan, axis: int, numbers: np.ndarray) -> torch.Tensor:
    """(N, H, W) slices across axis 0 (L), 1 (P) or 2 (S), by their numbers along it."""
    index = torch.as_tensor(np.asarray(numbers), dtype=torch.int64)
    return scan.values.movedim(2 - axis, 0)[index]


def turned(
    slices: torch.Tensor,
    angles: torch.Tensor,
    side: int,
    fill: float,
    shifts: torch.Tensor | None = None,
    circle: bool = True,
    zoom: float = 1.0,
) -> torch.Tensor:
    """(N, side, side): slices (N, H, W), padded to squares with `fill`, turned and scaled.

    angles: (N,) degrees, counter-clockwise as the array is drawn with row 0 on top; shifts: (N, 2) pixels of the
    slice, to the right and down. zoom: how many times as wide a field is shown, with `fill` beyond the slice.
    circle: what is outside the largest circle becomes 0, so that a turn leaves no trace at the border.
    """
    height, width = slices.shape[1:]
    half = max(height, width) / 2
    steps = (torch.arange(side, dtype=torch.float32, device=slices.device) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    radians = torch.deg2rad(angles.to(slices.device, torch.float32))[:, None, None]
    cos, sin = torch.cos(radians), torch.sin(radians)
    # Where each pixel of the result comes from, in half sides of the square.
    from_x, from_y = cos * x - sin * y, sin * x + cos * y
    from_x, from_y = zoom * from_x, zoom * from_y
    if shifts is not None:
        from_x = from_x + shifts[:, 0, None, None].to(slices.device) / half
        from_y = from_y + shifts[:, 1, None, None].to(slices.device) / half
    grid = torch.stack([from_x * half / (width / 2), from_y * half / (height / 2)], dim=-1)
    found = F.grid_sample(slices[:, None] - fill, grid, "bilinear", "zeros", align_corners=False)[:, 0] + fill
    if circle:
        found = found * (x**2 + y**2 <= (1 - _RIM / side) ** 2)
    return found
