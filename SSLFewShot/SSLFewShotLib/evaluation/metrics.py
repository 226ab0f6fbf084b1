"""How well a segmentation agrees with a reference: overlap, and distances between surfaces in mm.

Everything is taken in the scan's own grid; nothing is resampled.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree
from skimage.measure import marching_cubes

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.mask_box import mask_box
from SSLFewShotLib.progress import Progress, ignore_progress, watched


@dataclass(frozen=True)
class SurfaceMetrics:
    """Distances between the surfaces of a reference and a prediction.

    nsd: normalised surface distance (surface Dice), 0..1: the share of both surfaces that lies within the
        tolerance of the other one.
    hd95: mm; the larger of the two directed 95th percentiles of the distance (from the reference to the
        prediction and back), each surface element counted with its area.
    """

    nsd: float
    hd95: float


def dice(reference: np.ndarray, prediction: np.ndarray) -> float:
    """Dice of two (K, J, I) bool masks, 0..1; NaN when the reference is empty."""
    there = int(np.count_nonzero(reference))
    if not there:
        return math.nan
    both = int(np.count_nonzero(reference & prediction))
    return 2 * both / (there + int(np.count_nonzero(prediction)))


def surface_metrics(
    reference: np.ndarray, prediction: np.ndarray, grid: np.ndarray, tolerance: float = 2.0
) -> SurfaceMetrics:
    """Distances between the surfaces of two masks on one grid.

    The measures of Nikolov et al. (2018, arXiv:1809.04430, "Surface DSC") as in their code `surface-distance`: a
    surface element lies at each corner between voxels where the mask changes, and has the area of the triangles
    that marching cubes lays through it. Their table needs axes at right angles; here areas and positions go
    through the full matrix and distances come from a k-d tree, so that oblique and sheared grids are measured as
    well. Where a mask meets the edge of the scan, its cut face is surface. As in their code, corners stand for
    the surface: below the size of a voxel, distances are only approximate.

    reference, prediction: (K, J, I) bool.
    grid: (4, 4) `ijkToLps`, or (3, 3), or (3,) the spacing (i, j, k); mm.
    tolerance: mm, for the NSD.

    An empty reference gives NaN. An empty prediction of a structure that is there gives an NSD of 0 and, as HD95,
    the diagonal of the scan: the largest error possible there, finite so that means stay meaningful (the
    convention of the BraTS challenge).

    Raises InputError when the shapes differ.
    """
    if reference.shape != prediction.shape:
        raise InputError(f"masks of one shape were expected, not {reference.shape} and {prediction.shape}")
    matrix = np.asarray(grid, dtype=np.float64)
    matrix = np.diag(matrix) if matrix.ndim == 1 else matrix[:3, :3]
    if not reference.any():
        return SurfaceMetrics(math.nan, math.nan)
    if not prediction.any():
        return SurfaceMetrics(0.0, _diagonal(reference.shape, matrix))
    box = mask_box(reference | prediction)
    points, areas = zip(*(_surface(mask[box], matrix) for mask in (reference, prediction)), strict=True)
    # An unbalanced tree is built several times faster and answers as fast for points on a surface.
    trees = [KDTree(p, balanced_tree=False, compact_nodes=False) for p in points]
    distances = [trees[1].query(points[0])[0], trees[0].query(points[1])[0]]
    area = areas[0].sum() + areas[1].sum()
    # A thousandth of a millimetre more, so that a distance of exactly the tolerance is within it.
    near = sum(a[d <= tolerance + 1e-3].sum() for a, d in zip(areas, distances, strict=True))
    hd95 = max(_percentile(d, a, 0.95) for a, d in zip(areas, distances, strict=True))
    return SurfaceMetrics(float(near / area), hd95)


def score_case(
    reference: LabelMap,
    prediction: LabelMap,
    tolerance: float = 2.0,
    progress: Progress = ignore_progress,
) -> list[dict[str, str | float]]:
    """Score one scan: a row for each segment of the reference, matched by name.

    Rows hold segment, dice, nsd, hd95_mm, reference_ml and prediction_ml. A segment that the reference
    names but does not contain has NaN scores, which belong in no mean; one that the prediction lacks is scored as
    empty; one that only the prediction has is not scored.

    Raises InputError when the grids differ, and when no name of the reference occurs in the prediction.
    """
    if not reference.same_grid(prediction):
        raise InputError(
            f"{prediction.name}: not on the grid of its reference {reference.name}; give both on the scan's grid"
        )
    predicted = {segment.name for segment in prediction.segments}
    names = [segment.name for segment in reference.segments]
    if names and predicted and predicted.isdisjoint(names):
        raise InputError(
            f"{prediction.name}: no segment is called as in {reference.name} ({', '.join(names)}); rename them"
        )
    millilitres = reference.voxel_volume / 1000
    rows = []
    for number, name in enumerate(names):
        done, what = number / len(names), f"scoring {name}"
        truth = watched(functools.partial(reference.mask, name), progress, done, what)
        guess = prediction.mask(name) if name in predicted else np.zeros_like(truth)
        measure = functools.partial(surface_metrics, truth, guess, reference.ijkToLps, tolerance)
        surface = watched(measure, progress, done, what)
        rows.append(
            {
                "segment": name,
                "dice": dice(truth, guess),
                "nsd": surface.nsd,
                "hd95_mm": surface.hd95,
                "reference_ml": np.count_nonzero(truth) * millilitres,
                "prediction_ml": np.count_nonzero(guess) * millilitres,
            }
        )
    return rows


def _diagonal(shape: tuple[int, ...], matrix: np.ndarray) -> float:
    """mm between the two corners of the scan that are farthest apart."""
    sides = matrix * np.array(shape[::-1])
    return float(max(np.linalg.norm(sides @ [1, b, c]) for b in (-1, 1) for c in (-1, 1)))


def _surface(mask: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) mm of the surface elements, from a common origin, and their (N,) areas in mm²."""
    padded = np.pad(mask, 1).view(np.uint8)
    k, j, i = (n - 1 for n in padded.shape)
    codes = np.zeros((k, j, i), np.uint8)
    for bit, (a, b, c) in enumerate(np.ndindex(2, 2, 2)):
        codes |= padded[a : a + k, b : b + j, c : c + i] << np.uint8(bit)
    where = np.nonzero((codes != 0) & (codes != 255))
    # Area vectors transform with the cofactor matrix.
    cofactors = np.linalg.det(matrix) * np.linalg.inv(matrix).T
    areas = np.linalg.norm(_triangles() @ cofactors.T, axis=-1).sum(axis=-1)
    return np.stack(where[::-1], axis=1) @ matrix.T, areas[codes[where]]


@functools.cache
def _triangles() -> np.ndarray:
    """(256, T, 3) area vectors (i, j, k) of the triangles through each arrangement of eight voxels."""
    lists = [np.zeros((0, 3))] * 256
    for code in range(1, 255):
        corners = np.array([code >> bit & 1 for bit in range(8)], np.float32).reshape(2, 2, 2)
        vertices, faces, _, _ = marching_cubes(corners, 0.5, allow_degenerate=False)
        a, b, c = vertices[faces].transpose(1, 0, 2)
        lists[code] = 0.5 * np.cross(b - a, c - a)[:, ::-1]
    table = np.zeros((256, max(len(entry) for entry in lists), 3))
    for code, entry in enumerate(lists):
        table[code, : len(entry)] = entry
    return table


def _percentile(distances: np.ndarray, areas: np.ndarray, share: float) -> float:
    """The distance below which `share` of the area lies."""
    order = np.argsort(distances)
    covered = np.cumsum(areas[order])
    return float(distances[order[min(np.searchsorted(covered, share * covered[-1]), len(order) - 1)]])
