"""Which points of a support vote: all structures evenly, and background mostly where it borders on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.imaging.mask_box import box_with_margin
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion, watched
from SSLFewShotLib.segmentation.lattice import Lattice

_LEAST_PER_SEGMENT, _LEAST_BACKGROUND = 50, 500
_DISTANCE_VOXELS = 4_000_000  # more take seconds and, at some twenty bytes each, gigabytes


@dataclass
class SupportPoints:
    """Points of one support that vote.

    voxels: (N,) flat indices; points: (N, 3) LPS mm; member: (N, S) bool, which of the common segments a point
    belongs to (none: background); weight: (N,) mm³ of the scan that each point stands for.
    """

    voxels: np.ndarray
    points: np.ndarray
    member: np.ndarray
    weight: np.ndarray


def draw_support_points(
    volume: Volume,
    body: np.ndarray,
    masks: Mapping[int, np.ndarray],
    segments: int,
    rng: np.random.Generator,
    per_segment: int = 800,
    background: int = 8000,
    border: float = 15.0,
    supports: int = 1,
    progress: Progress = ignore_progress,
) -> SupportPoints:
    """Draw the points of one support (class-balanced subsampling).

    body: (K, J, I) bool; masks: segment value (1-based) → (K, J, I) bool; segments: how many there are in common.
    per_segment, background: most points for each segment and for all that is none; half of the background
    points lie within `border` mm of a structure, the other half farther off.
    supports: how many supports share these numbers (each then gives at least 50 for a segment and 500 of
    background). The points of a share are the first ones of the whole, so that with one seed a support gives the
    same points to every set it is in.
    """
    what = f"choosing points of {volume.name}"
    foreground = np.zeros(volume.array.shape, bool)
    for mask in masks.values():
        progress(0.0, what)
        foreground |= mask
    near = watched(lambda: _dilated(foreground, border, volume.spacing[::-1]), progress, 0.1, what)
    near = watched(lambda: near & body & ~foreground, progress, 0.4, what)
    far = watched(lambda: body & ~near & ~foreground, progress, 0.4, what)
    segment_share = max(_LEAST_PER_SEGMENT, per_segment // supports)
    background_share = max(_LEAST_BACKGROUND, background // supports) // 2
    groups = [(masks, value, max(per_segment, segment_share), segment_share) for value in masks]
    grounds = {"near": near, "far": far}
    groups += [(grounds, key, max(background // 2, background_share), background_share) for key in grounds]
    chosen: dict[int, float] = {}
    for number, (source, key, most, share) in enumerate(groups):
        progress(0.5 + 0.5 * number / len(groups), what)
        mask = source[key]
        count = int(np.count_nonzero(mask))
        if not count:
            continue
        ranks = rng.choice(count, min(most, count), replace=False)[:share]
        here = portion(progress, *(0.5 + 0.5 * n / len(groups) for n in (number, number + 1)))
        taken = _voxels_of_rank(mask, ranks, here, what)
        weight = volume.voxel_volume * count / len(taken)
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
    return SupportPoints(voxels, points, member, weights)


class SupportVectors:
    """The vectors of support points, each computed once however many support sets a scan is in.

    One for each descriptor; it keeps the scans' arrays alive, to know them again.
    """

    def __init__(self, descriptor: Descriptor):
        self.descriptor = descriptor
        self._known: dict[tuple[int, bytes], tuple[np.ndarray, dict[int, np.ndarray]]] = {}
        self._boxes: dict[tuple[int, bytes, float], np.ndarray] = {}

    def describe(self, volume: Volume, points: SupportPoints, progress: Progress = ignore_progress) -> np.ndarray:
        """(N, D) float32 descriptors of a scan's support points."""
        known = self._vectors_of(volume)
        voxels = points.voxels.tolist()
        missing = [row for row, voxel in enumerate(voxels) if voxel not in known]
        described = self.descriptor.describe(volume, points.points[missing], progress)
        known.update(zip((voxels[row] for row in missing), described, strict=True))
        return np.stack([known[voxel] for voxel in voxels])

    def body_box(self, volume: Volume, spacing: float, progress: Progress = ignore_progress) -> np.ndarray:
        """(2, 3) LPS mm: the box of the body, as on the lattice on which a query is classified."""
        self._vectors_of(volume)
        key = *_identity(volume), spacing
        if key not in self._boxes:
            self._boxes[key] = Lattice(volume, self.descriptor, spacing, progress).box
        return self._boxes[key]

    def _vectors_of(self, volume: Volume) -> dict[int, np.ndarray]:
        return self._known.setdefault(_identity(volume), (volume.array, {}))[1]


def _identity(volume: Volume) -> tuple[int, bytes]:
    return id(volume.array), volume.ijkToLps.tobytes()


def _voxels_of_rank(
    mask: np.ndarray, ranks: np.ndarray, progress: Progress = ignore_progress, what: str = ""
) -> np.ndarray:
    """np.flatnonzero(mask)[ranks], a plane at a time: of a large scan's body the whole list takes a gigabyte."""
    counts = np.array([np.count_nonzero(plane) for plane in mask])
    ends = np.cumsum(counts)
    planes = np.searchsorted(ends, ranks, side="right")
    voxels = np.empty(len(ranks), np.int64)
    for k in np.unique(planes):
        progress(k / len(mask), what)
        here = planes == k
        within = np.flatnonzero(mask[k])[ranks[here] - (ends[k] - counts[k])]
        voxels[here] = within + k * mask[k].size
    return voxels


def _dilated(mask: np.ndarray, distance: float, spacing: np.ndarray) -> np.ndarray:
    """Voxels within about `distance` mm of the mask, along the grid's axes (exact unless they are sheared).

    Computed on the mask's surroundings only, and on blocks of voxels where those are many.
    """
    if not mask.any():
        return mask
    margin = np.ceil(distance / spacing).astype(int) + 1
    box = box_with_margin(mask, margin)
    coarse, steps = mask[box], np.ones(3, int)
    while np.prod(np.ceil(coarse.shape / steps)) > _DISTANCE_VOXELS:
        steps[np.argmin(steps * spacing)] += 1
    for axis in range(3):
        coarse = np.logical_or.reduceat(coarse, np.arange(0, coarse.shape[axis], steps[axis]), axis=axis)
    reached = ndimage.distance_transform_edt(~coarse, sampling=spacing * steps) <= distance
    for axis in range(3):
        reached = reached.repeat(steps[axis], axis=axis)
    near = np.zeros_like(mask)
    near[box] = reached[tuple(slice(n) for n in mask[box].shape)]
    return near
