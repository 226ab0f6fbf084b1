"""A whole prepared scan through a segmentation network, in tiles that overlap, blended with Gaussian weights."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from SSLFewShotLib.networks.device_memory import on_device_or_cpu
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
_TILES_AT_ONCE = 2
"""For a single small tile torch takes a convolution on the CPU that is three times as slow."""


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
    for start in range(0, len(parts), _TILES_AT_ONCE):
        progress(start / len(parts), f"segmenting {scan.name}")
        some = parts[start : start + _TILES_AT_ONCE]
        through = functools.partial(_through, network, [scan.values[part] for part in some], patch, loss)
        found, device = on_device_or_cpu(through, device, scan.name)
        for part, probabilities in zip(some, found, strict=True):
            inside = tuple(slice(n) for n in scan.values[part].shape)
            total[(slice(None), *part)] += probabilities[(slice(None), *inside)] * window[inside]
            spoken[part] += window[inside]
    total /= spoken.clamp(min=1e-6)
    total[total < NEGLIGIBLE] = 0
    progress(1.0, f"segmented {scan.name}")
    return total.numpy()


def _through(
    network: nn.Module, tiles: list[torch.Tensor], patch: tuple[int, int, int], loss: str, device: torch.device
) -> torch.Tensor:
    """(N, S, *patch) probabilities of tiles, of `patch` at most, on the CPU."""
    network.to(device)
    filled = []
    for tile in tiles:
        padding = [p for n, side in zip(reversed(tile.shape), reversed(patch), strict=True) for p in (0, side - n)]
        filled.append(F.pad(tile[None, None], padding, mode="replicate"))
    if len(filled) < _TILES_AT_ONCE:
        filled.append(filled[0])
    with torch.inference_mode():
        values = torch.cat(filled).to(device).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            logits = network(values)
        return probabilities_from(logits[: len(tiles)].float(), loss).cpu().clone()
