"""The 3D U-Net of the pretext-task paper: its analysis path, and the whole network for segmentation.

Taleb et al., "3D self-supervised methods for medical imaging" (NeurIPS 2020), which takes the network of Çiçek et
al. (MICCAI 2016). Numbers are those of the authors' code (github.com/HealthML/self-supervised-3d-tasks,
models/unet3d.py): 16 filters, doubled with each of 4 poolings, two 3 × 3 × 3 convolutions a level, transposed
convolutions. Normalisation is by groups of channels, where theirs is by batches, with patches of one scan in a
batch; their dropout of half of the channels is left out.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from SSLFewShotLib.networks.padding import cut, padded
from SSLFewShotLib.networks.unet3d import DoubleConvolution


class AnalysisEncoder(nn.Module):
    """Two convolutions a level and max pooling between levels.

    features: of the first level, doubled with every further one. levels: that pooling follows; the bottom comes
    after them. widths: channels of each level, the finest first; sides must be multiples of `multiple`.
    """

    def __init__(self, inputs: int = 1, features: int = 16, levels: int = 4):
        super().__init__()
        self.settings = {"inputs": inputs, "features": features, "levels": levels}
        self.widths = [features * 2**level for level in range(levels + 1)]
        self.multiple = 2**levels
        self.blocks = nn.ModuleList(
            DoubleConvolution(before, wide, wide)
            for wide, before in zip(self.widths, [inputs, *self.widths[:-1]], strict=True)
        )

    def encode(self, values: torch.Tensor) -> list[torch.Tensor]:
        """(N, inputs, K, J, I) to the feature maps of every level, the finest first."""
        maps = []
        for level, block in enumerate(self.blocks):
            values = block(F.max_pool3d(values, 2) if level else values)
            maps.append(values)
        return maps

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(N, inputs, K, J, I) to the bottom's maps (N, widths[-1], K / multiple, …)."""
        return self.encode(values)[-1]


class AnalysisUNet(nn.Module):
    """(N, inputs, K, J, I) to logits (N, outputs, K, J, I); any size, padded inside.

    encoder: used as it is, with its weights.
    """

    def __init__(self, encoder: AnalysisEncoder, outputs: int):
        super().__init__()
        self.encoder = encoder
        widths = encoder.widths
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for wide, below in zip(widths[-2::-1], widths[:0:-1], strict=True):
            self.up.append(nn.ConvTranspose3d(below, wide, 2, stride=2))
            self.decoder.append(DoubleConvolution(2 * wide, wide, wide))
        self.head = nn.Conv3d(widths[0], outputs, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        size = values.shape[2:]
        maps = self.encoder.encode(padded(values, self.encoder.multiple))
        values = maps[-1]
        for up, block, skip in zip(self.up, self.decoder, maps[-2::-1], strict=True):
            values = block(torch.cat([up(values), skip], dim=1))
        return cut(self.head(values), size)
