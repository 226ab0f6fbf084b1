"""EXEMPLAR: two changed views of one cube lie closer together than those of two cubes.

3D exemplar networks (Taleb et al. 2020, section 3.5 and equation 5, after Dosovitskiy et al. 2014): the triplet
loss with a margin of 1 on the squared distance. Anchor, positive and negative go through ONE head; the authors'
code has three, whose codes have nothing to do with one another. Codes are of unit length, so that a margin of 1
means something: squared distances are then from 0 to 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.pretext.encoder_task import EncoderTask
from SSLFewShotLib.pretext.task import Batch
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.grids import drawn_centres
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.views import Deformation, View

MARGIN = 1.0


def triplet_distances(
    anchors: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, C) codes to (N,) squared distances D(z, z⁺) and D(z, z⁻)."""
    return (anchors - positives).square().sum(dim=1), (anchors - negatives).square().sum(dim=1)


def triplet_loss(near: torch.Tensor, far: torch.Tensor, margin: float = MARGIN) -> torch.Tensor:
    """Equation 5: the mean over triplets of max(0, D(z, z⁺) − D(z, z⁻) + α)."""
    return (near - far + margin).clamp(min=0).mean()


class Exemplar(EncoderTask):
    """Tell views of one cube from those of others.

    margin: α; code: numbers that describe a cube. Other settings as of `EncoderTask`. The metric is the mean of
    D(z, z⁻) − D(z, z⁺), which is 0 for codes that know nothing; the loss wants it to be 1.
    """

    name = "exemplar"
    control_metric = "margin"
    usual_batch = 8
    chance = 0.0
    deformation = Deformation()

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
        margin: float = MARGIN,
        code: int = 128,
    ):
        if batch_size < 2:
            raise InputError(f"batch size {batch_size}: at least 2 cubes were expected, to tell them apart")
        if not 0 < margin <= 4 or not 1 <= code <= 4096:
            raise InputError(f"margin {margin}, code {code}: above 0 up to 4, and 1 to 4096 were expected")
        super().__init__(extent, intensity, batch_size, network, features, levels, spacing, side)
        self.margin = margin
        self.code = code
        self.head = self.code_layer(code)

    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """views: (2N, 1, side, side, side), first views of N cubes before second ones of the same."""
        which = rng.integers(len(volumes), size=self.batch_size)
        centres = drawn_centres(volumes, which, self.side / 2, rng)
        views = [
            View.drawn((self.side,) * 3, centre, self.deformation, rng).read(volumes.scans[number])
            for _ in range(2)
            for number, centre in zip(which, centres, strict=True)
        ]
        return {"views": self.changed(torch.stack(views), rng)[:, None].to(volumes.device)}

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The triplet loss, the negative of a cube being the next one of the batch; metric: the margin."""
        codes = F.normalize(self.head(self.encoder(batch["views"])).float(), dim=1)
        anchors, positives = codes.chunk(2)
        near, far = triplet_distances(anchors, positives, positives.roll(1, dims=0))
        return triplet_loss(near, far, self.margin), {self.control_metric: (far - near).detach().mean()}

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "margin": self.margin, "code": self.code}
