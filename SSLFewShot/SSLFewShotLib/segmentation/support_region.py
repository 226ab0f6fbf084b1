"""Where in a scan the marked structures of a support lie, and what its scan shows: the coarse alignment alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.imaging.box import Box, grid_axes
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.views import sampled
from SSLFewShotLib.segmentation.alignment import DescribedScan
from SSLFewShotLib.segmentation.matching import box_map, mutual_matches, robust_affine, voted_shift

_OTHER_SIZE = 1.25
"""From here on, as a factor of a side, two bodies' boxes may show different parts of a patient."""
_PROBES, _TRIED = 1500, 400
"""Places of a structure's surroundings that are compared; those of them that shifts are tried with."""
_SURROUNDINGS = 24.0
"""mm around a structure in which it is compared; less says little of small ones."""
_REACH = 3
"""Voxels of the described grid, each way, that a structure may lie off the common map."""


@dataclass(frozen=True)
class Region:
    """A part of a support: points (N, 3) LPS mm whose hull it is, and probes (M, 3) LPS mm in and around it."""

    name: str
    hull: np.ndarray
    probes: np.ndarray


@dataclass(frozen=True)
class FoundRegion:
    """Where a region lies in a scan. certainty: 0..1; inside: the share of it that the scan shows."""

    box: Box
    certainty: float
    inside: float


class SupportRegions:
    """Carries the boxes of a support's structures to other scans, through the map that matches agree on.

    Each structure then follows the shift, of up to three voxels of the described grid, with which its surroundings
    fit best. Certainty is how far the chance that a vector fits its place in the scan better than another place,
    50 % by guessing, is above that; of several supports the median box counts, by certainty.

    After `fit`: segments_, supports_, regions_ (of each support, by segment), shown_ (each support's whole scan).
    """

    def __init__(self, descriptor: DenseDescriptor, spatial_weight: float = 2.0, seed: int = 0):
        self.descriptor = descriptor
        self.spatial_weight = spatial_weight
        self.seed = seed

    def fit(self, support: SupportSet, progress: Progress = ignore_progress) -> SupportRegions:
        """Describe every support."""
        self.segments_ = list(support.segments)
        self.supports_: list[DescribedScan] = []
        self.regions_: list[dict[str, Region]] = []
        self.shown_: list[Region] = []
        for number, (volume, _) in enumerate(support):
            part = portion(progress, number / len(support), (number + 1) / len(support))
            described = self._described(volume, part)
            rng = np.random.default_rng([self.seed, number])
            masks = support.masks(number)
            self.supports_.append(described)
            self.regions_.append(
                {
                    segment.name: _region(segment.name, volume, masks[segment.value], described, rng)
                    for segment in support.marked(number)
                }
            )
            everywhere = described.places[rng.permutation(len(described.places))[:_PROBES]]
            self.shown_.append(Region(volume.name, volume.corners(), everywhere))
        return self

    def find(self, volume: Volume, progress: Progress = ignore_progress) -> dict[str, FoundRegion]:
        """The box of each marked structure in a scan, along the scan's own axes, by the segment's name."""
        target, maps = self._mapped(volume, progress)
        axes = grid_axes(volume)
        found: dict[str, list[FoundRegion]] = {}
        for support, regions, affine in zip(self.supports_, self.regions_, maps, strict=True):
            for name, region in regions.items():
                local = _shifted(target, support, region, affine)
                found.setdefault(name, []).append(self._carried(volume, target, support, region, local, axes))
        return {name: _median(boxes, name) for name, boxes in found.items()}

    def find_shown(self, volume: Volume, progress: Progress = ignore_progress) -> FoundRegion:
        """The box of what the supports' scans show as a whole."""
        target, maps = self._mapped(volume, progress)
        axes = grid_axes(volume)
        found = [
            self._carried(volume, target, support, region, affine, axes)
            for support, region, affine in zip(self.supports_, self.shown_, maps, strict=True)
        ]
        return _median(found, "region of the support")

    def _mapped(self, volume: Volume, progress: Progress) -> tuple[DescribedScan, list[np.ndarray]]:
        target = self._described(volume, portion(progress, 0.0, 0.7))
        maps = []
        for number, support in enumerate(self.supports_):
            progress(0.7 + 0.3 * number / len(self.supports_), "matching places")
            maps.append(self._map(target, support))
        progress(1.0, f"compared {volume.name} with the support")
        return target, maps

    def _map(self, target: DescribedScan, support: DescribedScan) -> np.ndarray:
        """(4, 4) from the target's places to the support's: of those that start differently, the one that fits."""
        sides = [np.maximum(scan.box[1] - scan.box[0], 1e-3) for scan in (target, support)]
        ratio = sides[0] / sides[1]
        maps = []
        first, second = (scan.matched_vectors(self.spatial_weight) for scan in (target, support))
        rows = mutual_matches(first, second)
        pairs = target.places[rows[:, 0]], support.places[rows[:, 1]]
        maps.append(robust_affine(*pairs, box_map(target.box, support.box))[0])
        if np.maximum(ratio, 1 / ratio).max() > _OTHER_SIZE:
            # The place in the body's box means something else in each of them.
            rows = mutual_matches(*(np.ascontiguousarray(scan.vectors, np.float32) for scan in (target, support)))
            pairs = target.places[rows[:, 0]], support.places[rows[:, 1]]
            maps.append(robust_affine(*pairs, voted_shift(*pairs), widths=(40.0, 30.0, 20.0, 15.0, 15.0))[0])
        if len(maps) == 1:
            return maps[0]
        rng = np.random.default_rng(self.seed)
        probes = support.places[rng.permutation(len(support.places))[:_PROBES]]
        return max(maps, key=lambda affine: self._certainty(target, support, probes, affine))

    def _carried(
        self,
        volume: Volume,
        target: DescribedScan,
        support: DescribedScan,
        region: Region,
        affine: np.ndarray,
        axes: np.ndarray,
    ) -> FoundRegion:
        back = np.linalg.inv(affine)
        box = Box.around(region.hull @ back[:3, :3].T + back[:3, 3], axes, name=region.name)
        within = box.clipped(volume)
        inside = 0.0 if within is None else within.volume / box.volume
        certainty = self._certainty(target, support, region.probes, affine) * min(1.0, inside / 0.25)
        return FoundRegion(replace(box, certainty=certainty), certainty, inside)

    def _certainty(
        self, target: DescribedScan, support: DescribedScan, probes: np.ndarray, affine: np.ndarray
    ) -> float:
        """2 · AUC − 1, from 0 up, of cosines of vectors at corresponding places against those at other places."""
        back = np.linalg.inv(affine)
        there = probes @ back[:3, :3].T + back[:3, 3]
        size = np.array(target.scan.values.shape[::-1])
        index = target.scan.indices(there)
        shown = ((index > -0.5) & (index < size - 0.5)).all(axis=1)
        if shown.sum() < 8:
            return 0.0
        ours = _at(support, probes[shown])
        theirs = _at(target, there[shown])
        rng = np.random.default_rng(self.seed)
        others = rng.integers(len(target.places), size=(4, len(ours)))
        away = np.linalg.norm(target.places[others] - there[shown], axis=2) > 2 * _SURROUNDINGS
        null = np.stack([(ours * _at(target, target.places[row])).sum(axis=1) for row in others])
        right = (ours * theirs).sum(axis=1)
        wins = (right > null) + 0.5 * (right == null)
        if not away.any():
            return 0.0
        return float(np.clip(2 * wins[away].mean() - 1, 0, 1))

    def _described(self, volume: Volume, progress: Progress) -> DescribedScan:
        scan = self.descriptor.prepare(volume)
        return DescribedScan.of(scan, self.descriptor.field(scan, progress))


def _region(
    name: str, volume: Volume, mask: np.ndarray, described: DescribedScan, rng: np.random.Generator
) -> Region:
    hull = volume.points_from_indices(_outermost(mask))
    scan = described.scan
    low = np.floor(scan.indices(hull.min(axis=0)[None] - _SURROUNDINGS))[0]
    high = np.ceil(scan.indices(hull.max(axis=0)[None] + _SURROUNDINGS))[0]
    start = np.clip(low, 0, np.array(scan.values.shape[::-1]) - 1).astype(int)
    stop = np.clip(high + 1, start + 1, scan.values.shape[::-1]).astype(int)
    axes = [np.arange(a, b) for a, b in zip(start, stop, strict=True)]
    i, j, k = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    body = scan.body.numpy()[k, j, i]
    chosen = np.stack([i, j, k], axis=1)
    chosen = chosen[body] if body.any() else chosen
    chosen = chosen[rng.permutation(len(chosen))[:_PROBES]]
    return Region(name, hull, scan.origin + scan.spacing * chosen)


def _outermost(mask: np.ndarray) -> np.ndarray:
    """(N, 3) indices (i, j, k) of the outer faces of a mask's voxels: the first and the last of each row."""
    rows = np.argwhere(mask.any(axis=2))
    lines = mask[rows[:, 0], rows[:, 1]]
    first, last = lines.argmax(axis=1), mask.shape[2] - 1 - lines[:, ::-1].argmax(axis=1)
    points = []
    for side in (-0.5, 0.5):
        for up in (-0.5, 0.5):
            points += [
                np.stack([first - 0.5, rows[:, 1] + side, rows[:, 0] + up], axis=1),
                np.stack([last + 0.5, rows[:, 1] + side, rows[:, 0] + up], axis=1),
            ]
    return np.concatenate(points)


def _at(scan: DescribedScan, points: np.ndarray) -> np.ndarray:
    """(N, C) vectors of unit length at (N, 3) LPS mm."""
    index = torch.as_tensor(scan.scan.indices(points), dtype=torch.float32)
    return F.normalize(sampled(scan.field, index), dim=1).numpy()


def _shifted(target: DescribedScan, support: DescribedScan, region: Region, affine: np.ndarray) -> np.ndarray:
    """The map with the shift of the target's grid with which the region's surroundings fit best."""
    back = np.linalg.inv(affine)
    probes = region.probes[:_TRIED]
    there = probes @ back[:3, :3].T + back[:3, 3]
    ours = _at(support, probes)
    steps = np.arange(-_REACH, _REACH + 1)
    fit = np.empty((len(steps),) * 3)
    for place in np.ndindex(fit.shape):
        shift = steps[list(place)] * target.scan.spacing
        fit[place] = (ours * _at(target, there + shift)).sum(axis=1).mean()
    fit = ndimage.gaussian_filter(fit, 0.5, mode="nearest")
    best = np.array(np.unravel_index(fit.argmax(), fit.shape))
    shift = (steps[best] + _peak(fit, best)) * target.scan.spacing
    moved = np.array(affine)
    # A place of the target that is `shift` further shows what this place showed before.
    moved[:3, 3] -= affine[:3, :3] @ shift
    return moved


def _peak(fit: np.ndarray, best: np.ndarray) -> np.ndarray:
    """(3,) where between the steps the top of a parabola lies, −0.5 to 0.5; 0 at the border."""
    offset = np.zeros(3)
    for axis, place in enumerate(best):
        if 0 < place < fit.shape[axis] - 1:
            line = fit[tuple(slice(None) if a == axis else best[a] for a in range(3))]
            below, here, above = line[place - 1 : place + 2]
            curve = below - 2 * here + above
            offset[axis] = np.clip((below - above) / (2 * curve), -0.5, 0.5) if curve < 0 else 0.0
    return offset


def _median(found: list[FoundRegion], name: str) -> FoundRegion:
    """Of several supports' boxes, each face at the median, weighted by their certainties."""
    axes = found[0].box.axes
    faces = np.array([[f.box.centre @ axes - f.box.size / 2, f.box.centre @ axes + f.box.size / 2] for f in found])
    weights = np.array([max(f.certainty, 1e-6) for f in found])
    low, high = (_weighted_median(faces[:, side], weights) for side in (0, 1))
    high = np.maximum(high, low + 1e-6)
    certainty = float(np.average([f.certainty for f in found], weights=weights))
    box = Box(axes @ ((low + high) / 2), high - low, axes, name, certainty)
    return FoundRegion(box, certainty, float(np.average([f.inside for f in found], weights=weights)))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(M,) of (N, M); between the two middle values where they weigh the same."""
    order = np.argsort(values, axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    total = np.cumsum(weights[order], axis=0) / weights.sum()
    lower = np.take_along_axis(ordered, (total >= 0.5 - 1e-9).argmax(axis=0)[None], axis=0)[0]
    upper = np.take_along_axis(ordered, (total > 0.5 + 1e-9).argmax(axis=0)[None], axis=0)[0]
    return (lower + upper) / 2
