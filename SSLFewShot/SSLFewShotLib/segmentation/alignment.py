"""Where each place of a scan lies in a support, found by dense descriptors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.views import sampled
from SSLFewShotLib.segmentation.deformable import convex_search, descended
from SSLFewShotLib.segmentation.matching import box_map, mutual_matches, robust_affine

_MATCH_STEP = 3
"""Voxels between the places that are matched."""
_MOST_PLACES = 40_000
"""Of a scan, that are matched: the time grows with their square, and a head and neck has about 7,000."""
_SURROUNDINGS = 8
"""Voxels around what matters that are aligned as well."""


@dataclass(frozen=True)
class AlignmentSettings:
    """spatial_weight: how much the place in the body counts beside a vector of length 1, in matching.

    reach: of the coarse search, in steps of two voxels each way; steps, stiffness: of the gradient descent.
    structure: the share of the fine structure, see `DescribedScan`, in what is compared where scans have one.
    """

    spatial_weight: float = 2.0
    reach: int = 2
    steps: int = 60
    stiffness: float = 0.4
    structure: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.spatial_weight < np.inf or not 0 <= self.stiffness < np.inf:
            raise InputError(
                f"spatial weight {self.spatial_weight}, stiffness {self.stiffness}: numbers from 0 up are expected"
            )
        if not 0 <= self.structure < 1:
            raise InputError(f"structure {self.structure}: a share from 0 up and below 1 was expected")
        if not 1 <= self.reach <= 8 or self.steps < 0:
            raise InputError(f"reach {self.reach}, {self.steps} steps: 1 to 8 and at least 0 were expected")


@dataclass(frozen=True)
class Alignment:
    """Where a place of a scan lies in a support: affine (4, 4), LPS mm, of the place moved by a displacement.

    agreement: share of the matches that the affine map brings together; displacement: (3, K, J, I), voxels of the
    scan's grid along (k, j, i), 0 where nothing was aligned; fit: (K, J, I), how alike the vectors are, −1 to 1.
    """

    affine: np.ndarray
    agreement: float
    displacement: np.ndarray
    fit: np.ndarray

    def places(self, scan: PreparedScan, points: np.ndarray) -> np.ndarray:
        """(N, 3) LPS mm in the support of (N, 3) LPS mm in the scan that was aligned."""
        moved = looked_up(self.displacement, scan.indices(points))[:, ::-1]
        return (points + moved * scan.spacing) @ self.affine[:3, :3].T + self.affine[:3, 3]


@dataclass(frozen=True)
class DescribedScan:
    """A scan as it is aligned.

    field: (C, K, J, I) vectors of unit length on the grid of `scan`; structure: (12, K, J, I) `fine_structure` of
    what is aligned. places: (N, 3) LPS mm of every third voxel of the body, 40,000 at most; voxels: (N, 3) their
    indices (k, j, i); box: (2, 3) LPS mm of the body.
    """

    scan: PreparedScan
    field: torch.Tensor
    structure: torch.Tensor | None
    places: np.ndarray
    voxels: np.ndarray
    box: np.ndarray

    @classmethod
    def of(cls, scan: PreparedScan, field: np.ndarray, structure: torch.Tensor | None = None) -> DescribedScan:
        """Take the field of a prepared scan, and its fine structure where that counts."""
        body = scan.body.numpy()
        voxels = np.argwhere(body if body.any() else np.ones_like(body))
        box = scan.origin + scan.spacing * np.stack([voxels.min(axis=0), voxels.max(axis=0)])[:, ::-1]
        chosen = voxels[(voxels % _MATCH_STEP == 0).all(axis=1)]
        if len(chosen) > _MOST_PLACES:
            chosen = chosen[np.sort(np.random.default_rng(0).permutation(len(chosen))[:_MOST_PLACES])]
        places = scan.origin + scan.spacing * chosen[:, ::-1]
        return cls(scan, torch.from_numpy(field), structure, places, chosen, box)

    @property
    def vectors(self) -> np.ndarray:
        """(N, C) float32, those of the places."""
        return self._at_places(self.field)

    def matched_vectors(self, spatial_weight: float, share: float = 0.0) -> np.ndarray:
        """(N, D) float32: vectors, structure where it has a share, and the places relative to the body's box."""
        places = (self.places - self.box[0]) / np.maximum(self.box[1] - self.box[0], 1e-3)
        parts = [(1 - share) ** 0.5 * self.vectors, spatial_weight * places]
        if share:
            parts.insert(1, share**0.5 * self._at_places(self.structure))
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def _at_places(self, maps: torch.Tensor) -> np.ndarray:
        k, j, i = self.voxels.T
        return maps.movedim(0, -1).numpy()[k, j, i]


def aligned(
    target: DescribedScan,
    support: DescribedScan,
    settings: AlignmentSettings,
    region: np.ndarray,
    progress: Progress = ignore_progress,
) -> Alignment:
    """Find where the target's places lie in the support: affinely, then by a coarse search, then by descent.

    region: (2, 3) LPS mm, the part of the support that matters; beyond its surroundings nothing is displaced.
    """
    progress(0.0, "matching places")
    share = settings.structure if target.structure is not None and support.structure is not None else 0.0
    first, second = (scan.matched_vectors(settings.spatial_weight, share) for scan in (target, support))
    rows = mutual_matches(first, second)
    start = box_map(target.box, support.box)
    affine, agreement = robust_affine(target.places[rows[:, 0]], support.places[rows[:, 1]], start)
    progress(0.2, "aligning the support")
    part = _part_showing(target.scan, region, affine)
    weight = target.scan.body[part].float()
    channels, here = len(target.field), (slice(None), *part)
    seen = target.field[here]
    points = target.scan.points(part) @ affine[:3, :3].T + affine[:3, 3]
    where = torch.from_numpy(support.scan.indices(points)).float()
    shown = F.normalize(_warped(support.field, where, weight.shape), dim=0)
    if share:
        seen = _joined(seen, target.structure[here], share)
        shown = _joined(shown, _warped(support.structure, where, weight.shape), share)
    coarse = [_halved(maps) for maps in (seen, shown, weight[None])]
    unit = [F.normalize(field, dim=0).contiguous() for field in coarse[:2]]
    found = convex_search(*unit, coarse[2][0], settings.reach, portion(progress, 0.2, 0.4))
    begin = F.interpolate(2 * found[None], size=weight.shape, mode="trilinear")[0]
    found = descended(seen, shown, weight, begin, settings.steps, settings.stiffness, portion(progress, 0.4, 1.0))
    displacement = np.zeros((3, *target.scan.values.shape), np.float32)
    displacement[(slice(None), *part)] = found.numpy()
    fit = np.full(target.scan.values.shape, -1, np.float32)
    fit[part] = _fit(seen[:channels], shown[:channels], found) / (1 - share)
    return Alignment(affine, agreement, displacement, fit)


def looked_up(maps: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(N, C) float32 of maps (C, K, J, I) float32 at (N, 3) continuous indices (i, j, k); their border repeats."""
    return sampled(torch.from_numpy(maps), torch.from_numpy(where).float()).numpy()


def _part_showing(scan: PreparedScan, region: np.ndarray, affine: np.ndarray) -> tuple[slice, slice, slice]:
    """The slices (k, j, i) of a scan that show a region of the support with its surroundings; all, if none do."""
    back = np.linalg.inv(affine)
    corners = np.array([[region[bit][a] for a, bit in enumerate(bits)] for bits in np.ndindex(2, 2, 2)])
    index = scan.indices(corners @ back[:3, :3].T + back[:3, 3])
    size = np.array(scan.values.shape[::-1])
    start = np.clip(np.floor(index.min(axis=0)) - _SURROUNDINGS, 0, size).astype(int)
    stop = np.clip(np.ceil(index.max(axis=0)) + _SURROUNDINGS + 1, 0, size).astype(int)
    if (stop - start < 4).any():
        start, stop = np.zeros(3, int), size
    return tuple(slice(a, b) for a, b in zip(start[::-1], stop[::-1], strict=True))


def _joined(field: torch.Tensor, structure: torch.Tensor, share: float) -> torch.Tensor:
    """(C + 12, K, J, I), of whose squared length the structure is about `share`; a vector together in memory."""
    parts = ((1 - share) ** 0.5 * field, share**0.5 * structure)
    return torch.cat([part.movedim(0, -1) for part in parts], dim=-1).movedim(-1, 0)


def _halved(maps: torch.Tensor) -> torch.Tensor:
    """(C, K, J, I): means of 2 × 2 × 2 voxels, of fewer at an odd end; faster than torch pools volumes."""
    for axis in (1, 2, 3):
        if maps.shape[axis] % 2:
            maps = torch.cat([maps, maps.narrow(axis, -1, 1)], dim=axis)
        pairs = maps.unfold(axis, 2, 2)
        maps = 0.5 * (pairs[..., 0] + pairs[..., 1])
    return maps


def _warped(maps: torch.Tensor, where: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """(C, K, J, I): a support's maps at continuous indices (i, j, k) in it of every voxel of that size."""
    return sampled(maps, where).T.reshape(-1, *size)


def _fit(field: torch.Tensor, moved: torch.Tensor, displacement: torch.Tensor) -> np.ndarray:
    """(K, J, I) cosine of the vectors that came together, of every second voxel along each axis, smoothed."""
    size = field.shape[1:]
    second = (slice(None), *[slice(None, None, 2)] * 3)
    index = torch.stack(torch.meshgrid(*(torch.arange(0.0, n, 2) for n in size), indexing="ij"))
    index = (index + displacement[second]).flatten(1).flip(0).T
    seen = field[second]
    alike = (sampled(moved, index).T * seen.flatten(1)).sum(dim=0).reshape(1, 1, *seen.shape[1:])
    alike = F.avg_pool3d(alike, 3, 1, 1, count_include_pad=False)[0, 0].numpy()
    return alike[np.ix_(*(np.arange(n) // 2 for n in size))]
