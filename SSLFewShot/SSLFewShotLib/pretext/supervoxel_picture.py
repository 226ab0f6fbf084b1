"""The supervoxels of a scan on three planes, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from skimage.segmentation import find_boundaries

from SSLFewShotLib.outputs import written_atomically
from SSLFewShotLib.sampling.preparation import PreparedScan

_ENLARGED = 6
"""Pixels for a voxel, so that a boundary is thinner than one."""


def draw_supervoxels(scan: PreparedScan, regions: np.ndarray, path: Path) -> None:
    """Draw the axial, coronal and sagittal plane through the body's middle with the regions' boundaries to a PNG.

    regions: (K, J, I) integers on the scan's grid. In radiological convention: the patient's right on the left.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    body = scan.body.numpy()
    voxels = np.argwhere(body) if body.any() else np.argwhere(np.ones_like(body))
    middle = np.round(voxels.mean(axis=0)).astype(int)
    low, high = np.percentile(scan.values.numpy()[body] if body.any() else scan.values.numpy(), [2, 98])
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, across) in zip(
        figure.subplots(1, 3), (("axial", 0), ("coronal", 1), ("sagittal", 2)), strict=True
    ):
        values, numbers = (np.take(array, middle[across], across) for array in (scan.values.numpy(), regions))
        # K runs along S, which is up on the coronal and the sagittal plane.
        origin = "upper" if across == 0 else "lower"
        across_mm, down_mm = np.delete(scan.spacing[::-1], across)[::-1]
        shown = {"origin": origin, "aspect": down_mm / across_mm, "extent": _extent(values.shape, origin)}
        axes.imshow(values, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), **shown)
        fine = numbers.repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
        edges = np.ma.masked_equal(find_boundaries(fine, mode="inner").astype(np.uint8), 0)
        axes.imshow(edges, cmap="autumn_r", vmin=0, vmax=1, interpolation="nearest", **shown)
        axes.set(title=title, xticks=[], yticks=[])
    figure.suptitle(f"{scan.name}: {len(np.unique(regions[regions > 0]))} supervoxels")
    with written_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _extent(shape: tuple[int, int], origin: str) -> tuple[float, float, float, float]:
    rows, columns = shape
    return (0, columns, rows, 0) if origin == "upper" else (0, columns, 0, rows)
