"""DOERSCH: which of six neighbours is this cube? (context-feature paper, section 2.1, after Doersch 2015)"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from SSLFewShotLib.networks.context import D3D, SixNeighbourHead
from SSLFewShotLib.pretext.task import Batch, PretextTask
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.patches import cubic_patches
from SSLFewShotLib.sampling.preparation import Preparation

CUBE_SIDE = 0.4
"""Side of a cube, in units."""
CENTRE_DISTANCE = 0.5
"""Distance of the neighbours' centres, in units: cubes lie a gap of 0.1 apart before jitter."""
JITTER = 0.05
"""Greatest shift of the neighbour's centre along each axis, in units; the gap never closes, so that no line
goes on from one cube into the other. (The paper gives no number.)"""


def cubic_preparation(extent: Extent, intensity: Intensity) -> Preparation:
    """The grid on which 25 samples span a cube's side."""
    return Preparation(extent, intensity, CUBE_SIDE / (D3D.input_size - 1))


class Doersch(PretextTask):
    """Classify on which of the six sides of the anchor cube the other cube lies (cross entropy)."""

    name = "doersch"
    architecture = "D3D"
    control_metric = "accuracy"
    chance = 1 / 6
    higher_is_better = True

    def __init__(self, extent: Extent, intensity: Intensity, batch_size: int = 8):
        self.preparation = cubic_preparation(extent, intensity)
        self.batch_size = batch_size
        self.encoder = D3D()
        self.head = SixNeighbourHead()

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"encoder": self.encoder, "head": self.head})

    def descriptor_modules(self) -> dict[str, nn.Module]:
        return {"cube": self.encoder}

    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """(2N, 1, 25, 25, 25) cubes, anchors first, and (N,) sides: 0, 1 = −L, +L, then P, then S."""
        which = rng.integers(len(volumes), size=self.batch_size)
        normalised = self.preparation.extent.unit == "normalised"
        draw = volumes.draw_central_positions if normalised else volumes.draw_body_positions
        anchors = draw(which, rng)
        sides = rng.integers(6, size=self.batch_size)
        shift = rng.uniform(-JITTER, JITTER, (self.batch_size, 3))
        shift[np.arange(self.batch_size), sides // 2] += CENTRE_DISTANCE * (2 * (sides % 2) - 1)
        positions = np.concatenate([anchors, anchors + shift / self.preparation.step])
        cubes = cubic_patches(
            volumes,
            torch.as_tensor(np.tile(which, 2), device=volumes.device),
            torch.as_tensor(positions, dtype=torch.float32, device=volumes.device),
            D3D.input_size,
        )
        return {"cubes": cubes, "sides": torch.as_tensor(sides, device=volumes.device)}

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        anchor, other = self.encoder(batch["cubes"]).chunk(2)
        logits = self.head(torch.cat([anchor, other], dim=1)).float()
        accuracy = (logits.detach().argmax(dim=1) == batch["sides"]).float().mean()
        return F.cross_entropy(logits, batch["sides"]), {self.control_metric: accuracy}

    def settings(self) -> dict[str, Any]:
        return {
            "cube_side": CUBE_SIDE,
            "centre_distance": CENTRE_DISTANCE,
            "jitter": JITTER,
            "batch_size": self.batch_size,
        }
