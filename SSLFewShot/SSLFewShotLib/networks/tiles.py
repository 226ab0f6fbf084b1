"""Tiles of a scan through a fully convolutional network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from SSLFewShotLib.networks.device import short_floats

TILES_AT_ONCE = 2
"""For a single small tile torch takes a convolution on the CPU that is three times as slow."""


def through_network(
    network: nn.Module,
    finish: Callable[[torch.Tensor], torch.Tensor],
    tiles: Sequence[torch.Tensor],
    size: tuple[int, int, int],
    device: torch.device,
) -> torch.Tensor:
    """(K, J, I) values of tiles, of `size` at most, to what `finish` makes of the (N, C, *size) output, on CPU.

    What a tile lacks is filled by its last voxels. In 16-bit floats where the device is faster with them; `finish`
    gets float32, which it may change in place.
    """
    # Weights that are moved in inference mode could not be used outside of it any more.
    network.to(device)
    filled = []
    for tile in tiles:
        padding = [p for n, side in zip(reversed(tile.shape), reversed(size), strict=True) for p in (0, side - n)]
        filled.append(F.pad(tile[None, None], padding, mode="replicate"))
    if len(filled) < TILES_AT_ONCE:
        # Never a single one; and a tile's result is the same to the last bit in whatever company.
        filled.append(filled[0])
    with torch.inference_mode():
        values = torch.cat(filled).to(device).contiguous(memory_format=torch.channels_last_3d)
        short = short_floats(device)
        with torch.autocast(device.type, short, enabled=short is not None):
            found = network(values)
        return finish(found[: len(tiles)].float()).cpu()
