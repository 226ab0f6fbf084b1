"""Which points of a support vote: all structures evenly, and background mostly where it borders on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SSLFewShotLib.imaging.volume import Volume


@dataclass
class SupportPoints:
    """Points of one support that vote.

    points: (N, 3) LPS mm; member: (N, S) bool, which of the common segments a point belongs to (none:
    background); weight: (N,) mm³ of the scan that each point stands for.
    """

    points: np.ndarray
    member: np.ndarray
    weight: np.ndarray


def draw_support_points(
    volume: Volume,
    body: np.ndarray,
    masks: dict[int, np.ndarray],
    segments: int,
    rng: np.random.Generator,
    per_segment: int = 800,
    background: int = 8000,
    border: float = 15.0,
) -> SupportPoints:
    """Draw the points of one support (class-balanced subsampling).

    body: (K, J, I) bool; masks: segment value (1-based) → (K, J, I) bool; segments: how many there are in common.
    per_segment, background: most points for each segment and for all that is none; half of the background
    points lie within `border` mm of a structure, the other half farther off.
    """
    foreground = np.zeros(volume.array.shape, bool)
    for mask in masks.values():
        foreground |= mask
    near = _dilated(foreground, border, volume.spacing[::-1]) & body & ~foreground
    far = body & ~near & ~foreground
    groups = [(mask, per_segment) for mask in masks.values()]
    groups += [(near, background // 2), (far, background // 2)]
    chosen: dict[int, float] = {}
    for mask, most in groups:
        voxels = np.flatnonzero(mask)
        if not len(voxels):
            continue
        taken = voxels if len(voxels) <= most else rng.choice(voxels, most, replace=False)
        weight = volume.voxel_volume * len(voxels) / len(taken)
        for voxel in taken:
            # A voxel of two overlapping segments stands for the smaller amount of either.
            chosen[int(voxel)] = min(weight, chosen.get(int(voxel), weight))
    voxels = np.fromiter(chosen, np.int64, len(chosen))
    weights = np.fromiter(chosen.values(), np.float64, len(chosen))
    member = np.zeros((len(voxels), segments), bool)
    for value, mask in masks.items():
        member[:, value - 1] = mask.ravel()[voxels]
    k, j, i = np.unravel_index(voxels, volume.array.shape)
    points = volume.points_from_indices(np.stack([i, j, k], axis=1))
    return SupportPoints(points, member, weights)


def _dilated(mask: np.ndarray, distance: float, spacing: np.ndarray) -> np.ndarray:
    """Voxels within `distance` mm of the mask, computed on the mask's surroundings only."""
    if not mask.any():
        return mask
    margin = np.ceil(distance / spacing).astype(int) + 1
    ranges = [np.flatnonzero(mask.any(axis=tuple(o for o in range(3) if o != a))) for a in range(3)]
    box = tuple(
        slice(max(0, r[0] - m), min(n, r[-1] + m + 1)) for r, m, n in zip(ranges, margin, mask.shape, strict=True)
    )
    near = np.zeros_like(mask)
    near[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing) <= distance
    return near
