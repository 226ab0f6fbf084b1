"""Coarse alignment: places of two scans that look alike, and the affine map that most of them agree on."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from SSLFewShotLib.segmentation.neighbours import NeighbourIndex

_LEAST_MATCHES = 12


def mutual_matches(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(M, 2) rows of (N, D) and (P, D) vectors that are each other's nearest neighbour."""
    to_second = NeighbourIndex(second, "exact", 0).search(first, 1)[1][:, 0]
    to_first = NeighbourIndex(first, "exact", 0).search(second, 1)[1][:, 0]
    rows = np.arange(len(first))
    mutual = to_first[to_second] == rows
    return np.stack([rows[mutual], to_second[mutual]], axis=1)


def robust_affine(
    sources: np.ndarray,
    targets: np.ndarray,
    start: np.ndarray,
    widths: tuple[float, ...] = (60.0, 40.0, 30.0, 20.0, 15.0, 15.0, 15.0),
    stiffness: float = 0.02,
) -> tuple[np.ndarray, float]:
    """(4, 4) map of (N, 3) sources onto (N, 3) targets, mm, and the share of them that it brings within 15 mm.

    Iteratively reweighted least squares with Geman and McClure's weights w² / (w² + r²)², w from `widths`, from
    `start` on. stiffness: how much the linear part is held to that of `start`, as a share of the points' spread.
    Fewer than 12 points, or such that agree on nothing, leave `start` as it is.
    """
    found = start.astype(np.float64)
    if len(sources) < _LEAST_MATCHES:
        return found, 0.0
    homogeneous = np.concatenate([sources, np.ones((len(sources), 1))], axis=1)
    middle = sources.mean(axis=0)
    spread = float(((sources - middle) ** 2).sum(axis=1).mean())
    held = np.zeros((4, 4))
    centring = np.eye(4)
    centring[:3, 3] = middle
    # The held part is about the points' middle, so that it does not tie the translation.
    held[:3, :3] = np.eye(3) * stiffness * spread
    for width in widths:
        residual = ((homogeneous @ found.T)[:, :3] - targets) ** 2
        weight = width**4 / (width**2 + residual.sum(axis=1)) ** 2
        if weight.sum() < _LEAST_MATCHES / 4:
            return start.astype(np.float64), 0.0
        local = homogeneous.copy()
        local[:, :3] -= middle
        normal = (local * weight[:, None]).T @ local + held * weight.sum()
        right = (local * weight[:, None]).T @ targets + held @ np.vstack(
            [start[:3, :3].T, np.zeros(3)]
        ) * weight.sum()
        solved = np.linalg.solve(normal, right)
        found = np.eye(4)
        found[:3, :3] = solved[:3].T
        found[:3, 3] = solved[3] - solved[:3].T @ middle
    distance = np.linalg.norm((homogeneous @ found.T)[:, :3] - targets, axis=1)
    return found, float((distance < 15).mean())


def box_map(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(4, 4) map that brings one box, (2, 3) mm, onto another."""
    scale = (second[1] - second[0]) / np.maximum(first[1] - first[0], 1e-3)
    matrix = np.diag([*scale, 1.0])
    matrix[:3, 3] = second[0] - scale * first[0]
    return matrix


def voted_shift(sources: np.ndarray, targets: np.ndarray, width: float = 20.0) -> np.ndarray:
    """(4, 4) translation that most pairs of (N, 3) sources and targets, mm, agree on within about `width`.

    The identity when there are no pairs.
    """
    found = np.eye(4)
    if len(sources):
        shifts = targets - sources
        low = shifts.min(axis=0)
        cells = np.floor((shifts - low) / width).astype(int)
        votes = np.zeros(cells.max(axis=0) + 1, np.float32)
        np.add.at(votes, tuple(cells.T), 1)
        votes = ndimage.gaussian_filter(votes, 0.7, mode="constant")
        peak = low + width * (np.array(np.unravel_index(votes.argmax(), votes.shape)) + 0.5)
        near = np.linalg.norm(shifts - peak, axis=1) < 1.5 * width
        found[:3, 3] = np.median(shifts[near], axis=0) if near.any() else peak
    return found
