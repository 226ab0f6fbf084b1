"""The networks of the context-feature paper, Table 1 (Blendowski, Nickisch, Heinrich, MICCAI 2019).

Every parameter count is the table's. Convolutions have no bias, GroupNorm has 4 groups and is affine, unless
said otherwise at the class.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

DESCRIPTOR_LENGTH = 64
"""Numbers a D2D network gives for one axis; three axes make a voxel's 192."""


def _normalised(convolution: nn.Module, channels: int, pool: nn.Module | None = None) -> list[nn.Module]:
    middle = [] if pool is None else [pool]
    return [convolution, *middle, nn.GroupNorm(4, channels), nn.LeakyReLU()]


class D2D(nn.Module):
    """Descriptor 2D CNN: (N, 3, 42, 42) planes to (N, 64). 139,744 parameters.

    Six convolutions, 3→32→32→64→64→64→64: the seventh row of Table 1 does not fit a 42 × 42 input, and six give
    the table's parameter count. Kept in channels-last memory, where the CPU runs it twice as fast.
    """

    input_size = 42

    def __init__(self) -> None:
        super().__init__()
        channels = [3, 32, 32, 64, 64, 64, 64]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(channels)):
            pool = nn.MaxPool2d(2, 2) if number < 2 else None
            layers += _normalised(nn.Conv2d(before, after, 3, bias=False), after, pool)
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """(N, 3, 42, 42) to (N, 64)."""
        return self.layers(planes.contiguous(memory_format=torch.channels_last)).flatten(1)


class TwoParameterHead(nn.Module):
    """2-Param CNN: (N, 128) pair of descriptors to (N, 2) offsets. 27,138 parameters.

    Only the last convolution has a bias.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_normalised(nn.Conv2d(128, 128, 1, bias=False), 128),
            *_normalised(nn.Conv2d(128, 64, 1, bias=False), 64),
            *_normalised(nn.Conv2d(64, 32, 1, bias=False), 32),
            nn.Conv2d(32, 2, 1),
        )

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        """(N, 128) to (N, 2)."""
        return self.layers(pair[:, :, None, None]).flatten(1)


class HeatmapHead(nn.Module):
    """Heatmap CNN: (N, 128) pair of descriptors to (N, 19, 19) heatmaps. 28,189 parameters.

    The two 3 × 3 convolutions that follow a transposed one have BatchNorm; the last one is 3 × 3 with bias.
    """

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Sequential(
            *_normalised(nn.Conv2d(128, 64, 1, bias=False), 64),
            *_normalised(nn.Conv2d(64, 32, 1, bias=False), 32),
            *_normalised(nn.Conv2d(32, 16, 1, bias=False), 16),
            *_normalised(nn.ConvTranspose2d(16, 16, 5, bias=False), 16),
            *(nn.Conv2d(16, 16, 3, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU()),
        )
        self.middle = nn.Sequential(
            *_normalised(nn.ConvTranspose2d(16, 16, 5, bias=False), 16),
            *(nn.Conv2d(16, 8, 3, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU()),
            *_normalised(nn.ConvTranspose2d(8, 4, 5, bias=False), 4),
        )
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        """(N, 128) to (N, 19, 19)."""
        x = self.middle(upscaled(self.start(pair[:, :, None, None]), 11))
        return self.last(upscaled(x, 19))[:, 0]


class D3D(nn.Module):
    """Descriptor 3D CNN: (N, 1, 25, 25, 25) cubes to (N, 192). 393,392 parameters."""

    input_size = 25

    def __init__(self) -> None:
        super().__init__()
        rows = [(1, 16, 5, 1), (16, 32, 3, 2), (32, 32, 3, 2), (32, 32, 3, 2), (32, 32, 3, 1), (32, 32, 5, 1)]
        layers: list[nn.Module] = []
        for before, after, kernel, dilation in [*rows, (32, 192, 3, 1)]:
            layers += _normalised(nn.Conv3d(before, after, kernel, dilation=dilation, bias=False), after)
        self.layers = nn.Sequential(*layers)

    def forward(self, cubes: torch.Tensor) -> torch.Tensor:
        """(N, 1, 25, 25, 25) to (N, 192)."""
        return self.layers(cubes).flatten(1)


class SixNeighbourHead(nn.Module):
    """6-Neighbour CNN: (N, 384) pair of descriptors to (N, 6) logits. 31,238 parameters.

    Only the last convolution has a bias.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_normalised(nn.Conv3d(384, 64, 1, bias=False), 64),
            *_normalised(nn.Conv3d(64, 64, 1, bias=False), 64),
            *_normalised(nn.Conv3d(64, 32, 1, bias=False), 32),
            nn.Conv3d(32, 6, 1),
        )

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        """(N, 384) to (N, 6)."""
        return self.layers(pair[:, :, None, None, None]).flatten(1)


def upscaled(planes: torch.Tensor, size: int) -> torch.Tensor:
    """Scale square planes (N, C, n, n) up to (N, C, size, size) bilinearly, half-pixel centres.

    As two matrix products: the gradient of torch's own interpolation adds in no fixed order on a GPU, so that the
    same seed would not give the same weights there.
    """
    unit = torch.eye(planes.shape[-1], device=planes.device, dtype=planes.dtype)
    weights = F.interpolate(unit[None], size=size, mode="linear", align_corners=False)[0]
    return weights.T @ planes @ weights


def initialise_xavier(module: nn.Module, seed: int) -> None:
    """Draw every convolution's weights by Glorot and Bengio's uniform rule, the paper's XAVIER baseline."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(part.weight, generator=generator)
                if part.bias is not None:
                    part.bias.zero_()
