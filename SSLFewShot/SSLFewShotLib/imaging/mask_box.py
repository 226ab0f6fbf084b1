"""The part of a grid that a mask lies in."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def mask_box(mask: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The slices (k, j, i) around all that a (K, J, I) bool mask holds; None when it holds nothing."""
    return ndimage.find_objects(mask.view(np.uint8), max_label=1)[0]


def box_with_margin(
    mask: np.ndarray, margin: np.ndarray | list[int], steps: np.ndarray | None = None
) -> tuple[slice, slice, slice]:
    """The same with so many voxels (k, j, i) more on either side, as far as the grid goes; of `steps` voxels one.

    The mask must hold a voxel.
    """
    each = np.ones(3, int) if steps is None else steps
    around = zip(mask_box(mask), margin, mask.shape, each, strict=True)
    return tuple(slice(max(0, b.start - m), min(n, b.stop + m), step) for b, m, n, step in around)
