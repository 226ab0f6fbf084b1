"""Tiles that cover a scan and overlap, and the weights with which they are blended."""

from __future__ import annotations

import numpy as np
import torch


def tile_starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles begin along an axis, evenly spread; neighbours share `overlap` of a side at least."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side * (1 - overlap)))) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def tiles_of(
    shape: tuple[int, int, int], side: tuple[int, int, int], overlap: float
) -> list[tuple[slice, slice, slice]]:
    """All tiles (k, j, i) of a grid; they reach beyond it where it is smaller than a tile."""
    starts = [tile_starts(n, s, overlap) for n, s in zip(shape, side, strict=True)]
    corners = [(k, j, i) for k in starts[0] for j in starts[1] for i in starts[2]]
    return [tuple(slice(at, at + s) for at, s in zip(corner, side, strict=True)) for corner in corners]


def gaussian_window(size: tuple[int, int, int], width: float, least: float = 1e-4) -> torch.Tensor:
    """(k, j, i) weights: highest in a tile's middle, where it has seen the surroundings on all sides.

    width: the Gaussian's standard deviation, in sides of the tile; least: added, so that no voxel is without any.
    """
    axes = [torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (width * n)) ** 2) for n in size]
    return axes[0][:, None, None] * axes[1][:, None] * axes[2] + least
