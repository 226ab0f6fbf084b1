"""A whole prepared scan through a segmentation network, in tiles that overlap, blended with Gaussian weights."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from SSLFewShotLib.networks.device_memory import on_device_or_cpu
from SSLFewShotLib.networks.tiles import TILES_AT_ONCE, through_network
from SSLFewShotLib.progress import Progress, ignore_progress
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.tiles import gaussian_window, tiles_of
from SSLFewShotLib.tuning.loss import probabilities_from

OVERLAP = 0.5
"""Of two tiles next to each other, as a share of their side."""
WIDTH = 1 / 8
"""Standard deviation of the weights, in sides of a tile (Isensee et al., nnU-Net, 2021, where overlap is a half
too)."""
NEGLIGIBLE = 0.02
"""Probabilities below are taken for 0, so that only what may be a structure is decided on the scan's own grid."""


def segment_probabilities(
    scan: PreparedScan,
    network: nn.Module,
    patch: tuple[int, int, int],
    loss: str,
    segments: int,
    device: torch.device | str = "cpu",
    progress: Progress = ignore_progress,
) -> np.ndarray:
    """(S, K, J, I) float32 probabilities on the prepared scan's grid.

    patch: voxels (k, j, i) of a tile, as in the training; loss: that the network was trained with. Memory is that
    of the result and two tiles. Tiles without any body are left out: there is nothing in the air.
    """
    shape = tuple(scan.values.shape)
    total = torch.zeros(segments, *shape)
    spoken = torch.zeros(shape)
    window = gaussian_window(patch, WIDTH)
    parts = [part for part in tiles_of(shape, patch, OVERLAP) if scan.body[part].any()]
    device = torch.device(device)
    finish = functools.partial(probabilities_from, loss=loss)
    for start in range(0, len(parts), TILES_AT_ONCE):
        progress(start / len(parts), f"segmenting {scan.name}")
        some = parts[start : start + TILES_AT_ONCE]
        through = functools.partial(through_network, network, finish, [scan.values[part] for part in some], patch)
        found, device = on_device_or_cpu(through, device, scan.name)
        for part, probabilities in zip(some, found, strict=True):
            inside = tuple(slice(n) for n in scan.values[part].shape)
            total[(slice(None), *part)] += probabilities[(slice(None), *inside)] * window[inside]
            spoken[part] += window[inside]
    total /= spoken.clamp(min=1e-6)
    total[total < NEGLIGIBLE] = 0
    progress(1.0, f"segmented {scan.name}")
    return total.numpy()
