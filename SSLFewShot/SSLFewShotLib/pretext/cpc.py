"""CPC: which of many patches follows below those that were seen?

3D contrastive predictive coding (Taleb et al. 2020, section 3.1 and equation 1, after van den Oord, Li and
Vinyals 2018). A grid of 4 × 4 × 4 patches; codes of 1024 numbers; a gated recurrent unit makes a context of 256
numbers of the patches of the upper two layers that lie in a pyramid above a place (mirrored at the grid's
border); a linear map for each further layer predicts the code of the patch there. The loss is InfoNCE, as in the
paper, with all patches to be predicted of the batch as candidates; the authors' code, which the numbers are
from, has binary cross-entropy. The paper's patches overlap, those of its code do not: nor do these, whose shared
voxels would give them away.
"""

from __future__ import annotations

import functools
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
from SSLFewShotLib.sampling.grids import checked_jitter, drawn_grids, read_patches
from SSLFewShotLib.sampling.intensity import Intensity

PER_SIDE = 4
SEEN = 2
"""Layers that the context is made of; the others are predicted."""
_CONTEXT = 256


def info_nce(predictions: torch.Tensor, codes: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(N, M) logits ẑ · z, whose softmax is what equation 1 takes the logarithm of; the loss is the cross-entropy.

    predictions: (N, C) ẑ; codes: (M, C) z, the candidates; right: (N,) the index of the one that belongs to each.
    Returns the mean of −log exp(ẑ · z_right) / Σ_m exp(ẑ · z_m).
    """
    return F.cross_entropy(predictions @ codes.T, right)


@functools.cache
def pyramid(per_side: int = PER_SIDE, seen: int = SEEN) -> torch.Tensor:
    """(per_side², P) indices into a grid (k outermost) of what lies above each column, from the top down.

    For a column (j, i): in the lowest layer seen the patch itself, in each layer above a square one wider to each
    side; places beyond the grid are mirrored into it.
    """
    columns = []
    for j in range(per_side):
        for i in range(per_side):
            places = []
            for layer in range(seen):
                reach = seen - 1 - layer
                for dj in range(-reach, reach + 1):
                    for di in range(-reach, reach + 1):
                        row, column = _mirrored(j + dj, per_side), _mirrored(i + di, per_side)
                        places.append((layer * per_side + row) * per_side + column)
            columns.append(places)
    return torch.tensor(columns)


def _mirrored(place: int, count: int) -> int:
    place = abs(place)
    return 2 * (count - 1) - place if place >= count else place


class Cpc(EncoderTask):
    """Predict the codes of the patches of the lower layers of a grid.

    levels: 3, see `patch_location`. code: numbers of a code (paper 1024). Other settings as of `EncoderTask` and
    `PatchLocation`.
    """

    name = "cpc"
    usual_batch = 2

    def __init__(
        self,
        extent: Extent,
        intensity: Intensity,
        batch_size: int = 2,
        network: str = "analysis",
        features: int | None = None,
        levels: int = 3,
        side: int = 16,
        spacing: float | None = None,
        jitter: int = 1,
        code: int = 1024,
    ):
        if not 1 <= code <= 4096:
            raise InputError(f"code {code}: 1 to 4096 numbers were expected")
        super().__init__(extent, intensity, batch_size, network, features, levels, spacing, side)
        self.jitter = checked_jitter(jitter)
        self.code = code
        self.layers = PER_SIDE - SEEN
        self.chance = 1 / (batch_size * self.layers * PER_SIDE**2)
        self.head = nn.ModuleDict(
            {
                "code": self.code_layer(code),
                "context": nn.GRU(code, _CONTEXT, batch_first=True),
                "predict": nn.Linear(_CONTEXT, self.layers * code),
            }
        )

    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """patches: (N, 64, side, side, side), the topmost layer first."""
        which = rng.integers(len(volumes), size=self.batch_size)
        grids = drawn_grids(volumes, which, PER_SIDE, self.side, self.jitter, rng)
        # K runs upwards.
        layers = grids.reshape(self.batch_size, PER_SIDE, -1, 3)[:, ::-1]
        return {"patches": self.changed(read_patches(volumes, which, layers.reshape(grids.shape), self.side), rng)}

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """InfoNCE; metric: how often the right patch is the most likely one of all candidates."""
        patches = batch["patches"]
        codes = self.head["code"](self.encoder(patches.flatten(0, 1)[:, None])).unflatten(0, patches.shape[:2])
        above = codes[:, pyramid().to(codes.device)].flatten(0, 1)
        context = self.head["context"](above)[1][0]
        # (N, columns, layers, C) to (N, layers, columns, C), as the codes of the layers below lie.
        predicted = self.head["predict"](context).float().reshape(len(codes), PER_SIDE**2, self.layers, self.code)
        predicted = predicted.transpose(1, 2).reshape(-1, self.code)
        candidates = codes[:, SEEN * PER_SIDE**2 :].reshape(-1, self.code).float()
        right = torch.arange(len(candidates), device=codes.device)
        # Products of a thousand numbers each are too coarse in half precision.
        with torch.autocast(codes.device.type, enabled=False):
            loss = info_nce(predicted, candidates, right)
            with torch.no_grad():
                found = accuracy(predicted @ candidates.T, right)
        return loss, {self.control_metric: found}

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "jitter": self.jitter, "grid": PER_SIDE, "code": self.code}
