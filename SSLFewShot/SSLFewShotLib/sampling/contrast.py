"""Random changes of a crop's intensities, so that a network looks at anatomy and not at a scanner's habit."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F


def changed_contrast(
    values: torch.Tensor, rng: np.random.Generator, strength: float = 1.0, inversion: float = 0.0
) -> torch.Tensor:
    """A crop (k, j, i) with other gamma, contrast, brightness, sharpness, slice distance and noise.

    strength: 0 leaves all but slice distance and noise, 1 is for scans of one modality and kind; inversion: how
    often bright and dark change places.
    """
    low, high = values.min(), values.max()
    spread = (high - low).clamp(min=1e-6)
    gamma = float(np.exp(strength * rng.uniform(-0.35, 0.35)))
    values = low + spread * ((values - low) / spread).clamp(min=0) ** gamma
    if rng.random() < inversion:
        values = low + high - values
    factor = float(np.exp(strength * rng.uniform(-0.2, 0.2)))
    values = values * factor + float(strength * rng.uniform(-0.1, 0.1))
    if rng.random() < 0.3:
        values = _thick_slices(values, axis=int(rng.integers(3)), factor=float(rng.uniform(1.3, 3.0)))
    if rng.random() < 0.2:
        values = F.avg_pool3d(values[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    noise = rng.standard_normal(values.shape, dtype=np.float32)
    return values + float(rng.uniform(0, 0.08)) * torch.from_numpy(noise).to(values.device)


def _thick_slices(values: torch.Tensor, axis: int, factor: float) -> torch.Tensor:
    """As if slices lay `factor` times as far apart along an axis."""
    size = list(values.shape)
    fewer = [max(2, round(n / factor)) if a == axis else n for a, n in enumerate(size)]
    thick = F.interpolate(values[None, None], size=fewer, mode="area")
    return F.interpolate(thick, size=size, mode="trilinear", align_corners=False)[0, 0]
