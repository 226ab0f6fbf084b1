"""The voxels of a prepared scan around what alignments carry to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from SSLFewShotLib.imaging.mask_box import box_with_margin
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.segmentation.carried_labels import CarriedLabels, LatticeProbabilities

REACH = 4
"""Voxels: so far a place of the support that looks more like one of the scan may lie from where it was aligned."""
_DIFFERENT = 0.01
"""Where the labels within reach differ by less, it is beyond doubt which is right."""


@dataclass(frozen=True)
class Nearby:
    """part: slices (k, j, i) of the scan's grid; labels: (S, K, J, I) float32 carried to them.

    doubtful, reached: (K, J, I) bool, where labels differ within `REACH` voxels; there, and what is labelled.
    """

    scan: PreparedScan
    part: tuple[slice, slice, slice]
    labels: np.ndarray
    doubtful: np.ndarray
    reached: np.ndarray

    @classmethod
    def of(cls, scan: PreparedScan, carried: CarriedLabels) -> Nearby:
        """Around what is carried to a scan; of what lies beyond it, its border is shown."""
        first, last = scan.indices(carried.box())
        size = np.array(scan.values.shape[::-1])
        start = np.clip(np.floor(first).astype(int) - REACH, 0, size - 1)
        stop = np.clip(np.ceil(last).astype(int) + REACH + 1, start + 1, size)
        part = tuple(slice(a, b) for a, b in zip(start[::-1], stop[::-1], strict=True))
        labels = carried(scan.points(part)).reshape(-1, *(stop - start)[::-1])
        doubtful = np.zeros(labels.shape[1:], bool)
        for one in labels:
            if (one > 0).any():
                box = box_with_margin(one > 0, np.full(3, 2 * REACH))
                most, least = (
                    change(one[box], 2 * REACH + 1, mode="nearest")
                    for change in (ndimage.maximum_filter, ndimage.minimum_filter)
                )
                doubtful[box] |= most - least > _DIFFERENT
        doubtful &= scan.body[part].numpy()
        return cls(scan, part, labels, doubtful, doubtful | (labels.max(axis=0) > 0))

    @cached_property
    def places(self) -> np.ndarray:
        """(N, 3) LPS mm of all voxels."""
        return self.scan.points(self.part)

    def as_source(self, probabilities: np.ndarray) -> LatticeProbabilities:
        """Of (S, K, J, I) on this grid."""
        start = np.array([one.start for one in self.part])[::-1]
        return LatticeProbabilities(self.scan.origin + self.scan.spacing * start, self.scan.spacing, probabilities)
