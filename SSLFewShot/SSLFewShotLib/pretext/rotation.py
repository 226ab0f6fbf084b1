"""ROTATION: by which of ten quarter turns is a cube of a scan turned?

3D rotation prediction (Taleb et al. 2020, section 3.4, after Gidaris, Singh and Komodakis 2018): not at all, or
by 90, 180 or 270 degrees about one of the three axes, by cross-entropy. Before it is turned, the cube is read at
a small random angle: otherwise thick slices would show in its noise alone which axis was the patient's. Its
contrast, sharpness and slice distance are changed after the turn, for the same reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.pretext.encoder_task import EncoderTask, accuracy
from SSLFewShotLib.pretext.task import Batch
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.grids import drawn_centres
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.views import Deformation, View

TURNS = ((0, 0), *((axis, quarters) for axis in range(3) for quarters in (1, 2, 3)))
"""(axis of the array, quarter turns about it): the ten classes."""
_HIDDEN = 256


def quarter_turned(cube: torch.Tensor, which: int) -> torch.Tensor:
    """A cube (k, j, i) turned as `TURNS[which]` says."""
    axis, quarters = TURNS[which]
    first, second = (other for other in range(3) if other != axis)
    return torch.rot90(cube, quarters, (first, second))


class Rotation(EncoderTask):
    """Say how a cube was turned. Settings as of `EncoderTask`."""

    name = "rotation"
    usual_batch = 8
    usual_learning_rate = 1e-3
    chance = 1 / len(TURNS)
    deformation = Deformation(rotation=15.0, scale=1.2, shear=0.0, elastic=0.0)

    def __init__(
        self,
        extent: Extent,
        intensity: Intensity,
        batch_size: int = 8,
        network: str = "analysis",
        features: int | None = None,
        levels: int = 4,
        side: int = 32,
        spacing: float | None = None,
    ):
        if batch_size < 2:
            raise InputError(f"batch size {batch_size}: at least 2 cubes were expected")
        super().__init__(extent, intensity, batch_size, network, features, levels, spacing, side)
        self.head = nn.Sequential(
            self.code_layer(_HIDDEN, centred=True), nn.ReLU(), nn.Linear(_HIDDEN, len(TURNS))
        )

    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """cubes: (N, 1, side, side, side), turned; turn: (N,) which of `TURNS`."""
        which = rng.integers(len(volumes), size=self.batch_size)
        turn = rng.integers(len(TURNS), size=self.batch_size)
        centres = drawn_centres(volumes, which, self.side / 2, rng)
        cubes = []
        for number, centre, turned in zip(which, centres, turn, strict=True):
            view = View.drawn((self.side,) * 3, centre, self.deformation, rng)
            cubes.append(quarter_turned(view.read(volumes.scans[number]), int(turned)))
        return {
            "cubes": self.changed(torch.stack(cubes), rng)[:, None].to(volumes.device),
            "turn": torch.as_tensor(turn, device=volumes.device),
        }

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Cross-entropy; metric: the share of right answers."""
        logits = self.head(self.encoder(batch["cubes"])).float()
        return F.cross_entropy(logits, batch["turn"]), {self.control_metric: accuracy(logits, batch["turn"])}

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "common_rotation": self.deformation.rotation}
