"""Which slices of a scan to look at, and which way round: axial, coronal, sagittal in radiological convention."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from SSLFewShotLib.imaging.body import body_mask
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.volume import Volume

# Name, the LPS axis that is looked along, those that run to the right and down, and whether they do so negatively.
# Axial: patient's left on the right, front on top. Coronal: head on top. Sagittal: face to the left.
_CONVENTION = (
    ("axial", 2, (0, 1), (1, 1), ("R", "L", "A", "P")),
    ("coronal", 1, (0, 2), (1, -1), ("R", "L", "S", "I")),
    ("sagittal", 0, (1, 2), (1, -1), ("A", "P", "S", "I")),
)


@dataclass(frozen=True)
class Plane:
    """One slice of a grid, the way it is shown.

    name: "axial", "coronal" or "sagittal": the anatomical plane that the grid's own slices are closest to.
    across, right, down: the axis of the (K, J, I) array that the slice cuts, and those that run right and down.
    index: where it cuts `across`.
    flips: whether the right and the down axis are shown backwards.
    spacing: mm a pixel, to the right and down.
    sides: letters at the left, right, upper and lower edge.
    """

    name: str
    across: int
    right: int
    down: int
    index: int
    flips: tuple[bool, bool]
    spacing: tuple[float, float]
    sides: tuple[str, str, str, str]

    def cut(self, array: np.ndarray, box: Sequence[slice] | None = None) -> np.ndarray:
        """The 2D slice of a (K, J, I) array, row 0 on top; `box` crops the array's axes."""
        region = list(box) if box is not None else [slice(None)] * 3
        region[self.across] = self.index
        image = array[tuple(region)]
        if self.right < self.down:
            image = image.T
        return image[:: -1 if self.flips[1] else 1, :: -1 if self.flips[0] else 1]


def three_planes(labels: LabelMap) -> list[Plane]:
    """The axial, coronal and sagittal slice that show most of the structures of `labels`.

    Each structure counts with the share of its largest cross-section, so that small ones weigh as much as large
    ones. Without any foreground the middle slices are taken.
    """
    axes = _anatomical_axes(labels)
    planes = []
    for name, along, (right, down), signs, sides in _CONVENTION:
        across = axes[along]
        flips = tuple(
            bool(labels.direction[lps, 2 - axes[lps]] * sign < 0)
            for lps, sign in zip((right, down), signs, strict=True)
        )
        spacing = (float(labels.spacing[2 - axes[right]]), float(labels.spacing[2 - axes[down]]))
        index = _richest_slice(labels, across)
        planes.append(Plane(name, across, axes[right], axes[down], index, flips, spacing, sides))
    return planes


def shown_boxes(
    volume: Volume, labels: LabelMap, planes: Sequence[Plane], margin: float = 8.0
) -> list[tuple[slice, ...]]:
    """For each plane the part of the (K, J, I) array worth showing: what its slice holds of patient and labels.

    margin: mm around it.
    """
    inside = body_mask(volume) | (labels.array.reshape(*volume.array.shape[:3], -1) != 0).any(axis=-1)
    return [_box_of_slice(inside, volume.spacing[::-1], plane, margin) for plane in planes]


def _box_of_slice(inside: np.ndarray, spacing: np.ndarray, plane: Plane, margin: float) -> tuple[slice, ...]:
    region = [slice(None)] * 3
    region[plane.across] = slice(plane.index, plane.index + 1)
    here = inside[tuple(region)]
    box = []
    for axis in range(3):
        there = np.flatnonzero(here.any(axis=tuple(a for a in range(3) if a != axis)))
        if axis == plane.across or not len(there):
            box.append(slice(None))
            continue
        extra = int(np.ceil(margin / spacing[axis]))
        box.append(slice(max(int(there[0]) - extra, 0), int(there[-1]) + extra + 1))
    return tuple(box)


def _anatomical_axes(volume: Volume) -> tuple[int, int, int]:
    """The array axis closest to L, to P and to S; each is used once."""
    alignment = np.abs(volume.direction)
    best = max(itertools.permutations(range(3)), key=lambda order: sum(alignment[a, order[a]] for a in range(3)))
    return tuple(2 - axis for axis in best)


def _richest_slice(labels: LabelMap, across: int) -> int:
    others = tuple(axis for axis in range(3) if axis != across)
    score = np.zeros(labels.array.shape[across])
    middles = []
    for segment in labels.segments:
        areas = labels.mask(segment).sum(axis=others)
        if areas.any():
            score += areas / areas.max()
            middles.append(np.average(np.arange(len(areas)), weights=areas))
    if not middles:
        return len(score) // 2
    # Of slices that show equally much the one nearest to the middle of all structures.
    distance = np.abs(np.arange(len(score)) - np.mean(middles)) / len(score)
    return int(np.argmax(score - 1e-3 * distance))
