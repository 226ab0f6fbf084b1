"""REG2D: the offset between two planar patches as two numbers (context-feature paper, section 2.1)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from SSLFewShotLib.networks.context import TwoParameterHead
from SSLFewShotLib.pretext.planar_offset import PlanarOffset


class Reg2d(PlanarOffset):
    """Regress (Δ1, Δ2) with the L1 loss, in each axis's own plane.

    (The authors' code regresses the same two coordinates for every axis; the paper's text is followed.)
    """

    name = "reg2d"

    @staticmethod
    def make_head() -> nn.Module:
        return TwoParameterHead()

    def offset_loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.l1_loss(prediction, target)

    def offsets(self, prediction: torch.Tensor) -> torch.Tensor:
        return prediction
