"""The 3D U-Net that dense descriptors, prototypes and fine-tuning share.

Çiçek et al., "3D U-Net: learning dense volumetric segmentation from sparse annotation" (MICCAI 2016), in the shape
of the public implementation that 3D SSL-ALPNet builds on (Zhang and Liu 2022, section 3.3.1): two convolutions a
level, the first of them up to half as wide in the encoder; resolution halved by max pooling, doubled by
interpolation; skips by concatenation. 32 feature maps and 32 output channels make 4.1 M parameters.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from SSLFewShotLib.networks.padding import cut, padded


class DoubleConvolution(nn.Sequential):
    """Two 3 × 3 × 3 convolutions without bias, each before a normalisation and a leaky ReLU.

    Normalisation is by groups of channels: the paper's batch normalisation means little with one scan a batch.
    """

    def __init__(self, inputs: int, between: int, outputs: int):
        super().__init__(*_convolution(inputs, between), *_convolution(between, outputs))


class UNet3d(nn.Module):
    """(N, inputs, K, J, I) to (N, outputs, K, J, I); any size, padded inside to a multiple of 2^(levels − 1).

    features: feature maps of the first level, doubled with every further one. widths: channels of each level of
    the encoder, the finest first; the sides of what is encoded must be multiples of `multiple`.
    """

    def __init__(self, inputs: int = 1, features: int = 32, outputs: int = 32, levels: int = 4):
        super().__init__()
        self.settings = {"inputs": inputs, "features": features, "outputs": outputs, "levels": levels}
        self.widths = widths = [features * 2**level for level in range(levels)]
        self.multiple = 2 ** (levels - 1)
        self.encoder = nn.ModuleList()
        for wide, before in zip(widths, [inputs, *widths[:-1]], strict=True):
            self.encoder.append(DoubleConvolution(before, max(before, wide // 2), wide))
        self.decoder = nn.ModuleList()
        for wide, below in zip(widths[-2::-1], widths[:0:-1], strict=True):
            self.decoder.append(DoubleConvolution(wide + below, wide, wide))
        self.head = nn.Conv3d(features, outputs, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        maps = self.encode(padded(values, self.multiple))
        return cut(self.head(self.decode(maps)), values.shape[2:])

    def encode(self, values: torch.Tensor) -> list[torch.Tensor]:
        """The feature maps of every level, the finest first. The size must fit the number of levels."""
        maps = []
        for level, block in enumerate(self.encoder):
            values = block(F.max_pool3d(values, 2) if level else values)
            maps.append(values)
        return maps

    def decode(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Feature maps of every level to those of the finest."""
        values = maps[-1]
        for block, skip in zip(self.decoder, maps[-2::-1], strict=True):
            values = block(torch.cat([skip, F.interpolate(values, scale_factor=2.0, mode="nearest")], dim=1))
        return values


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    groups = next(n for n in (8, 6, 4, 3, 2, 1) if outputs % n == 0)
    return nn.Conv3d(inputs, outputs, 3, padding=1, bias=False), nn.GroupNorm(groups, outputs), nn.LeakyReLU(0.1)
