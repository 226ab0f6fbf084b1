"""How a segment's intensities differ from those around it in the supports, and what that says of a voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SSLFewShotLib.imaging.mask_box import box_with_margin
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.sampling.preparation import PreparedScan

_SURROUNDINGS = 3.0
"""Voxels of the prepared scan around a segment that count as its surroundings."""
_PARTS = 4
"""A finer scan is read at every so many parts of a prepared voxel: more say no more of a distribution."""
_BINS = 32
_TELLING = (0.7, 0.95)
"""Areas under the ROC curve at which intensities begin to count, and count in full."""
_MOST = 3.0


@dataclass(frozen=True)
class Samples:
    """Normalised intensities inside of a segment and around it; thickness: about that of the segment, mm."""

    inside: np.ndarray
    around: np.ndarray
    thickness: float

    @classmethod
    def of(cls, volume: Volume, scan: PreparedScan, mask: np.ndarray) -> Samples:
        """Read a support around a mask (K, J, I) on its grid, which holds a voxel."""
        spacing = volume.spacing[::-1]
        reach = _SURROUNDINGS * float(scan.spacing.min())
        steps = np.maximum(1, np.floor(scan.spacing.min() / _PARTS / spacing)).astype(int)
        margin = np.ceil(reach / spacing).astype(int)
        box = box_with_margin(mask, margin, steps)
        if not mask[box].any():  # thinner than the steps
            steps = np.ones(3, int)
            box = box_with_margin(mask, margin)
        part, marked = volume.array[box], mask[box]
        depth = ndimage.distance_transform_edt(marked, sampling=spacing * steps)
        away = ndimage.distance_transform_edt(~marked, sampling=spacing * steps)
        values = scan.scale(part)
        # Of a slab, the mean depth is a quarter of its thickness and, from voxel to voxel, half a voxel.
        step = float((spacing * steps).min())
        thickness = max(step, 4 * (float(depth[marked].mean()) - step / 2))
        return cls(values[marked], values[(away > 0) & (away <= reach)], thickness)


class Appearance:
    """Log likelihood ratios of intensities, inside of a segment to around it, weighed by how well they tell.

    A segment whose intensities are those of its surroundings gets 0; `strength` is the share of the ratio that
    counts for one that they tell entirely: neighbouring voxels do not speak independently.
    """

    def __init__(self, samples: Sequence[Sequence[Samples]], strength: float):
        """samples: of every segment, those of each support that shows it."""
        self._edges, self._ratios = [], []
        for of_segment in samples:
            inside = np.concatenate([one.inside for one in of_segment] or [np.zeros(0, np.float32)])
            around = np.concatenate([one.around for one in of_segment] or [np.zeros(0, np.float32)])
            edges, ratio = np.zeros(0), np.zeros(1)
            if len(inside) and len(around):
                edges = np.unique(
                    np.quantile(np.concatenate([inside, around]), np.linspace(0, 1, _BINS + 1)[1:-1])
                )
                bins = [np.searchsorted(edges, values, side="right") for values in (inside, around)]
                shares = [_shares(one, len(edges) + 1) for one in bins]
                ratio = np.log(shares[0] / shares[1])
                low, high = _TELLING
                telling = np.clip((_area(ratio[bins[0]], ratio[bins[1]]) - low) / (high - low), 0, 1)
                ratio = np.clip(strength * telling * ratio, -_MOST, _MOST)
            self._edges.append(edges)
            self._ratios.append(ratio.astype(np.float32))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Normalised intensities of shape (…) to (S, …) float32."""
        found = np.zeros((len(self._ratios), *values.shape), np.float32)
        for row, edges, ratio in zip(found, self._edges, self._ratios, strict=True):
            if ratio.any():
                row[...] = ratio[np.searchsorted(edges, values, side="right")]
        return found


def weighed(probabilities: np.ndarray, ratios: np.ndarray, overlapping: bool) -> np.ndarray:
    """(S, …) probabilities with log likelihood ratios (S, …), by Bayes' rule.

    Segments and background share what there is; with overlap each segment has a background of its own.
    """
    found = probabilities * np.exp(ratios)
    rest = 1 - probabilities if overlapping else 1 - probabilities.sum(axis=0)
    total = np.maximum(rest, 0) + (found if overlapping else found.sum(axis=0))
    return found / np.maximum(total, 1e-6)


def _shares(bins: np.ndarray, count: int) -> np.ndarray:
    """(count,) smoothed shares of the bins, none of them 0."""
    found = ndimage.gaussian_filter1d(np.bincount(bins, minlength=count).astype(float), 1.0, mode="nearest")
    found += 0.02 * found.sum() / count
    return found / found.sum()


def _area(inside: np.ndarray, around: np.ndarray) -> float:
    """Area under the ROC curve of a score: how often it is higher inside, ties as a half."""
    order = np.sort(around)
    below, upto = (np.searchsorted(order, inside, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / (2 * len(around)))
