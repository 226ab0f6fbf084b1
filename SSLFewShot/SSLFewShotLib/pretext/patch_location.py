"""RPL: which of the 26 neighbours of a patch is this one?

Relative 3D patch location (Taleb et al. 2020, section 3.2, after Doersch, Gupta and Efros 2015). Numbers are
those of the authors' code: a grid of 3 × 3 × 3 patches, a jitter of 3 voxels; the patch in the middle against
one of the others, by cross-entropy. Three halvings of the resolution instead of four: of patches of 16 voxels
four leave a single one, of whose convolutions only the middle would be trained. The patches of the grid do not
touch, and each has its own contrast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from SSLFewShotLib.pretext.encoder_task import EncoderTask, accuracy
from SSLFewShotLib.pretext.task import Batch
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.grids import checked_jitter, drawn_grids, read_patches
from SSLFewShotLib.sampling.intensity import Intensity

MIDDLE = 13
NEIGHBOURS = [place for place in range(27) if place != MIDDLE]
_CODE, _HIDDEN = 128, 256


class PatchLocation(EncoderTask):
    """Say where a patch lies beside the middle one.

    jitter: voxels by which a patch's place is uncertain. Other settings as of `EncoderTask`.
    """

    name = "rpl"
    usual_batch = 16
    usual_learning_rate = 1e-3
    chance = 1 / len(NEIGHBOURS)

    def __init__(
        self,
        extent: Extent,
        intensity: Intensity,
        batch_size: int = 16,
        network: str = "analysis",
        features: int | None = None,
        levels: int = 3,
        side: int = 16,
        spacing: float | None = None,
        jitter: int = 3,
    ):
        super().__init__(extent, intensity, batch_size, network, features, levels, spacing, side)
        self.jitter = checked_jitter(jitter)
        self.head = nn.ModuleDict(
            {
                "code": self.code_layer(_CODE, centred=True),
                "place": nn.Sequential(
                    nn.ReLU(),
                    nn.Linear(2 * _CODE, _HIDDEN),
                    nn.ReLU(),
                    nn.Linear(_HIDDEN, len(NEIGHBOURS)),
                ),
            }
        )

    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """patches: (2N, 1, side, side, side), those in the middle first; place: (N,) which of `NEIGHBOURS`."""
        which = rng.integers(len(volumes), size=self.batch_size)
        grids = drawn_grids(volumes, which, 3, self.side, self.jitter, rng)
        place = rng.integers(len(NEIGHBOURS), size=self.batch_size)
        others = grids[np.arange(self.batch_size), np.array(NEIGHBOURS)[place]]
        pairs = read_patches(volumes, which, np.stack([grids[:, MIDDLE], others], axis=1), self.side)
        patches = self.changed(pairs, rng).transpose(0, 1).flatten(0, 1)
        return {"patches": patches[:, None], "place": torch.as_tensor(place, device=volumes.device)}

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Cross-entropy; metric: the share of right answers."""
        middle, other = self.head["code"](self.encoder(batch["patches"])).chunk(2)
        logits = self.head["place"](torch.cat([middle, other], dim=1)).float()
        return F.cross_entropy(logits, batch["place"]), {self.control_metric: accuracy(logits, batch["place"])}

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "jitter": self.jitter, "grid": 3}
