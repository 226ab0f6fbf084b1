"""HEATMAP: the offset between two planar patches as a heatmap (context-feature paper, section 2.1)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from SSLFewShotLib.networks.context import HeatmapHead
from SSLFewShotLib.pretext.planar_offset import PlanarOffset


def offset_heatmap(offsets: torch.Tensor) -> torch.Tensor:
    """Heatmaps (N, 19, 19) of offsets (N, 2) in units.

    heat(i, j) = 10 · exp(−15 · [(i/9 − Δ1)² + (j/9 − Δ2)²]), i and j from −9 to 9 (section 2.1).
    """
    ticks = torch.arange(-9, 10, device=offsets.device, dtype=offsets.dtype) / 9
    squared = (ticks - offsets[:, :1])[:, :, None] ** 2 + (ticks - offsets[:, 1:])[:, None, :] ** 2
    return 10 * torch.exp(-15 * squared)


class Heatmap(PlanarOffset):
    """Regress the heatmap of the offset with the mean squared error."""

    name = "heatmap"

    @staticmethod
    def make_head() -> nn.Module:
        return HeatmapHead()

    def offset_loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(prediction, offset_heatmap(target))

    def offsets(self, prediction: torch.Tensor) -> torch.Tensor:
        """The place of the heatmap's maximum."""
        best = prediction.flatten(1).argmax(dim=1)
        return torch.stack([best // 19 - 9, best % 19 - 9], dim=1) / 9
