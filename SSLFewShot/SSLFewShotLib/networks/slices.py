"""Networks that look at whole slices: ResNet-50, and a small one of the same kind for the CPU.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (CVPR 2016), table 1, with the stride in a
block's 3 × 3 convolution, as everybody has it by now. With three input channels and 1000 classes ResNet-50 has
25,557,032 parameters, without its last layer 23,508,032.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from SSLFewShotLib.errors import InputError

KINDS = ("small", "resnet50")
NORMS = ("batch", "group")


class Block(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str):
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            _normalisation(norm, outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            _normalisation(norm, outputs),
        )
        self.shortcut = _shortcut(inputs, outputs, stride, _normalisation(norm, outputs))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return F.relu(self.path(values) + self.shortcut(values))


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3 and 1 × 1 convolutions beside a shortcut, with batch normalisation."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = 4 * width
        self.path = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = _shortcut(inputs, outputs, stride, nn.BatchNorm2d(outputs))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return F.relu(self.path(values) + self.shortcut(values))


class SliceNetwork(nn.Module):
    """(N, inputs, S, S) slices to (N, outputs) numbers; `features` gives the last layer's map before its mean.

    kind: "resnet50" (a map at a 32nd of the resolution, 2048 numbers a place) or "small" (an eighth, 96 numbers).
    norm: of the small one: "batch", with which empty places look alike whatever else a slice shows, or "group",
    with which a place's vector depends on the whole slice.

    dimension: D of a place's vector; stride: pixels between places.
    """

    def __init__(self, inputs: int = 1, outputs: int = 1, kind: str = "small", norm: str = "batch"):
        super().__init__()
        if kind not in KINDS:
            raise InputError(f"network '{kind}' is not known; choose one of {', '.join(KINDS)}")
        if norm not in NORMS:
            raise InputError(f"normalisation '{norm}' is not known; choose one of {', '.join(NORMS)}")
        self.settings = {"inputs": inputs, "outputs": outputs, "kind": kind, "norm": norm}
        if kind == "resnet50":
            self.layers = _resnet50(inputs)
            self.dimension, self.stride = 2048, 32
        else:
            self.layers = nn.Sequential(
                nn.Conv2d(inputs, 16, 5, 2, 2, bias=False),
                _normalisation(norm, 16),
                nn.ReLU(inplace=True),
                Block(16, 16, 1, norm),
                Block(16, 32, 2, norm),
                Block(32, 64, 2, norm),
                Block(64, 96, 1, norm),
            )
            self.dimension, self.stride = 96, 8
        self.head = nn.Linear(self.dimension, outputs)
        self.to(memory_format=torch.channels_last)

    def features(self, slices: torch.Tensor) -> torch.Tensor:
        """(N, D, s, s): a vector for each place of the last layer's map."""
        return self.layers(slices.contiguous(memory_format=torch.channels_last))

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(slices).mean(dim=(2, 3)))


def _normalisation(norm: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(8, channels)


def _shortcut(inputs: int, outputs: int, stride: int, norm: nn.Module) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm)


def _resnet50(inputs: int) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    before = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for number in range(blocks):
            layers.append(Bottleneck(before, width, 2 if stage and not number else 1))
            before = 4 * width
    return nn.Sequential(*layers)
