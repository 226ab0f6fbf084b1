"""The last layer's vectors of a network for slices: of each superpixel, and back to where they lie in the scan."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional as F

from SSLFewShotLib.localisation.slice_model import SliceModel
from SSLFewShotLib.progress import Progress, ignore_progress
from SSLFewShotLib.sampling.slices import SliceScan, planes, turned

_SLICES_AT_ONCE = 32
_RIM = 2
"""Superpixels beyond each border that are seen and left out."""
_SHOWN = 0.01
"""By how much a pixel differs from what was taken out of the scan when it shows something."""


def slice_features(
    model: SliceModel, scan: SliceScan, axis: int, every: int = 1, progress: Progress = ignore_progress
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(N,) slice numbers, (N, s, s, D) vectors and (N, s, s) whether a superpixel is empty; across an axis.

    `every` so many of the slices are seen. Empty is what shows nothing but what was taken out of the scan.

    A model of slice-rotation looks at a slice and the next one, not turned against each other. Slices are not cut
    to the circle, and background goes on beyond their border: both edges would look like something.
    """
    rim = _RIM * model.network.stride
    side = model.preparation.side + 2 * rim
    zoom = side / model.preparation.side
    length = scan.values.shape[2 - axis]
    numbers = np.arange(0, length, every)
    for start in range(0, len(numbers), _SLICES_AT_ONCE):
        progress(start / len(numbers), "looking at slices")
        part = numbers[start : start + _SLICES_AT_ONCE]
        views = [part]
        if model.angles:
            views.append(np.where(part + 1 < length, part + 1, np.maximum(part - 1, 0)))
        still = torch.zeros(len(part))
        slices = [
            turned(planes(scan, axis, view), still, side, scan.fill, circle=False, zoom=zoom) for view in views
        ]
        with torch.inference_mode():
            found = model.network.features(torch.stack(slices, dim=1).to(model.device)).float().cpu()
        shown = F.max_pool2d((slices[0] - scan.fill).abs()[:, None], model.network.stride)[:, 0] > _SHOWN
        inner = slice(_RIM, -_RIM)
        yield part, found[:, :, inner, inner].permute(0, 2, 3, 1).numpy(), ~shown[:, inner, inner].numpy()


def back_to_slice(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N, H, W): numbers (N, s, s) of a square's superpixels, on the slices that were padded to that square."""
    side = max(height, width)
    square = F.interpolate(torch.as_tensor(values)[:, None].float(), size=(side, side), mode="bilinear")[:, 0]
    top, left = (side - height) // 2, (side - width) // 2
    return square[:, top : top + height, left : left + width].numpy()
