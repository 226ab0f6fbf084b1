"""The densely connected 3D U-Net of side prediction, with its branch that reconstructs the scan.

Dhere and Sivaswamy, "Self-supervised learning for segmentation", section 3.1. The paper gives layers
and their order but no numbers of feature maps: here each dense layer adds `growth`, the 1 × 1 × 1 convolution
keeps half, and the decoder has about half of those again.

Group normalisation precedes every convolution, as in the paper, but the very first: over the one channel of a scan
it would normalise the input, which the paper has done already for whole volumes, and would take from a crop what
its intensities mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from SSLFewShotLib.networks.padding import cut, padded


class DenseBlock(nn.Module):
    """Layers of which each sees the block's input and all that the layers before it gave (Huang et al. 2017)."""

    def __init__(self, inputs: int, growth: int, layers: int, first: bool = False):
        super().__init__()
        self.width = inputs + growth * layers
        self.layers = nn.ModuleList(
            nn.Conv3d(inputs, growth, 3, padding=1)
            if first and not n
            else _normalised(inputs + growth * n, growth)
            for n in range(layers)
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            values = torch.cat([values, layer(values)], dim=1)
        return values


class DenselyConnectedEncoder(nn.Module):
    """Dense blocks; after each a convolution of stride 2 and one of 1 × 1 × 1 that keeps half of the maps.

    growth: feature maps that a layer adds; layers: of each block. widths: channels of each level, the finest
    first, the bottom last; sides must be multiples of `multiple`.
    """

    def __init__(self, inputs: int = 1, growth: int = 16, layers: Sequence[int] = (2, 2, 4, 8)):
        super().__init__()
        self.settings = {"inputs": inputs, "growth": growth, "layers": list(layers)}
        self.multiple = 2 ** len(layers)
        self.blocks, self.down, self.widths = nn.ModuleList(), nn.ModuleList(), []
        width = inputs
        for number, count in enumerate(layers):
            block = DenseBlock(width, growth, count, first=number == 0)
            width = -(-block.width // 2)
            self.blocks.append(block)
            self.down.append(
                nn.Sequential(_normalised(block.width, block.width, 2), _normalised(block.width, width, size=1))
            )
            self.widths.append(block.width)
        self.widths.append(width)

    def encode(self, values: torch.Tensor) -> list[torch.Tensor]:
        """(N, inputs, K, J, I) to the feature maps of every level, the finest first."""
        maps = []
        for block, down in zip(self.blocks, self.down, strict=True):
            maps.append(block(values))
            values = down(maps[-1])
        return [*maps, values]

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(N, inputs, K, J, I) to the bottom's maps (N, widths[-1], K / multiple, …)."""
        return self.encode(values)[-1]


class DenselyConnectedUNet(nn.Module):
    """(N, inputs, K, J, I) to logits (N, outputs, K, J, I); any size, padded inside.

    encoder: used as it is, with its weights. `reconstruct` is the autoencoder branch, a decoder without skips that
    gives back the input; the paper trains it along with the segmentation as a regulariser.
    """

    def __init__(self, encoder: DenselyConnectedEncoder, outputs: int):
        super().__init__()
        self.encoder = encoder
        self.decoder = _Decoder(encoder.widths, outputs, skips=True)
        self.reconstruction = _Decoder(encoder.widths, encoder.settings["inputs"], skips=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        maps = self.encoder.encode(padded(values, self.encoder.multiple))
        return cut(self.decoder(maps), values.shape[2:])

    def reconstruct(self, values: torch.Tensor) -> torch.Tensor:
        """(N, inputs, K, J, I): the input, through the bottom of the encoder alone."""
        maps = self.encoder.encode(padded(values, self.encoder.multiple))
        return cut(self.reconstruction(maps), values.shape[2:])

    def segment_and_reconstruct(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both, of one pass through the encoder."""
        maps, size = self.encoder.encode(padded(values, self.encoder.multiple)), values.shape[2:]
        return cut(self.decoder(maps), size), cut(self.reconstruction(maps), size)


class _Decoder(nn.Module):
    """Two convolutions a level and a transposed one to the next finer level; 1 × 1 × 1 at the end."""

    def __init__(self, widths: Sequence[int], outputs: int, skips: bool):
        super().__init__()
        self.skips = skips
        narrow = [-(-width // 16) * 4 for width in widths]
        self.bottom = _plain(widths[-1], narrow[-1])
        self.up, self.blocks = nn.ModuleList(), nn.ModuleList()
        for level in range(len(widths) - 2, -1, -1):
            self.up.append(_Up(narrow[level + 1], narrow[level]))
            self.blocks.append(_plain(narrow[level] + (widths[level] if skips else 0), narrow[level]))
        self.head = _normalised(narrow[0], outputs, size=1)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        values = self.bottom(maps[-1])
        for up, block, skip in zip(self.up, self.blocks, maps[-2::-1], strict=True):
            values = up(values)
            values = block(torch.cat([values, skip], dim=1) if self.skips else values)
        return self.head(values)


class _Up(nn.Sequential):
    """Normalisation and a transposed convolution that doubles the resolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(_groups(inputs), nn.LeakyReLU(0.1), nn.ConvTranspose3d(inputs, outputs, 2, stride=2))


def _plain(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_normalised(inputs, outputs), _normalised(outputs, outputs))


def _normalised(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    """Group normalisation, a leaky ReLU and a convolution."""
    convolution = nn.Conv3d(inputs, outputs, size, stride, padding=size // 2)
    return nn.Sequential(_groups(inputs), nn.LeakyReLU(0.1), convolution)


def _groups(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(next(n for n in (8, 6, 4, 3, 2, 1) if channels % n == 0), channels)
