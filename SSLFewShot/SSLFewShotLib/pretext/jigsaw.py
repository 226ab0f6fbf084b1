"""JIGSAW: in which of a hundred orders do the 27 patches of a grid lie?

3D jigsaw puzzles (Taleb et al. 2020, section 3.3, after Noroozi and Favaro 2016). 27 patches, 100 permutations
(the authors' code); they are chosen as far from one another as can be by the Hamming distance, as the 2D
original does. Patches do not touch, and each has its own contrast. What the encoder makes of a patch does not
depend on its place, so that several puzzles are made of the codes of one grid, at hardly any cost.
"""

from __future__ import annotations

import functools
import itertools
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

PATCHES = 27
MOST = 26 * 27
_CODE, _HIDDEN = 64, 512


@functools.cache
def distant_permutations(count: int) -> np.ndarray:
    """(count, 27) permutations that differ from one another in 26 or 27 places; the first is the order itself.

    More than 27 permutations of 27 cannot all differ everywhere, so that none lie further apart. They are the
    maps x → a · x + b, a ≠ 0, of the field of 27 elements onto itself: two of them agree in one place at most.
    With one a they agree nowhere, which is why all of one a come before the next. At most 26 · 27 = 702.
    """
    digits = np.array(list(itertools.product(range(3), repeat=3)))
    elements = digits[:, ::-1]  # c₀ + c₁ t + c₂ t², t³ = t + 2
    maps = []
    for a in range(1, PATCHES):
        product = np.zeros((PATCHES, 5), int)
        for power, coefficient in enumerate(elements[a]):
            product[:, power : power + 3] += coefficient * elements
        c0, c1, c2, c3, c4 = product.T
        product = np.stack([c0 + 2 * c3, c1 + c3 + 2 * c4, c2 + c4], axis=1)
        maps += [((product + elements[b]) % 3) @ (1, 3, 9) for b in range(PATCHES)]
    found = np.stack(maps[:count])
    found.flags.writeable = False
    return found


class Jigsaw(EncoderTask):
    """Say which permutation the patches of a grid were put in.

    levels: 3, see `patch_location`. permutations: how many there are (paper 100); puzzles: made of each grid of
    patches (paper 1). Other settings as of `EncoderTask` and `PatchLocation`.
    """

    name = "jigsaw"
    usual_batch = 2
    usual_learning_rate = 1e-3

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
        jitter: int = 3,
        permutations: int = 100,
        puzzles: int = 16,
    ):
        if not 2 <= permutations <= MOST or not 1 <= puzzles <= 1000:
            raise InputError(
                f"permutations {permutations}, puzzles {puzzles}: 2 to {MOST} and 1 to 1000 were expected"
            )
        super().__init__(extent, intensity, batch_size, network, features, levels, spacing, side)
        self.jitter = checked_jitter(jitter)
        self.puzzles = puzzles
        self.permutations = torch.tensor(distant_permutations(permutations))
        self.chance = 1 / permutations
        self.head = nn.ModuleDict(
            {
                "code": self.code_layer(_CODE, centred=True),
                "order": nn.Sequential(
                    nn.ReLU(),
                    nn.Linear(PATCHES * _CODE, _HIDDEN),
                    nn.ReLU(),
                    nn.Linear(_HIDDEN, permutations),
                ),
            }
        )

    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """patches: (N, 27, side, side, side) in their right order; order: (N, puzzles), which permutations."""
        which = rng.integers(len(volumes), size=self.batch_size)
        grids = drawn_grids(volumes, which, 3, self.side, self.jitter, rng)
        order = rng.integers(len(self.permutations), size=(self.batch_size, self.puzzles))
        return {
            "patches": self.changed(read_patches(volumes, which, grids, self.side), rng),
            "order": torch.as_tensor(order, device=volumes.device),
        }

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Cross-entropy; metric: the share of right answers."""
        patches, order = batch["patches"], batch["order"]
        codes = self.head["code"](self.encoder(patches.flatten(0, 1)[:, None])).unflatten(0, patches.shape[:2])
        # (N, puzzles, 27, C): place s of a puzzle shows patch permutation[s].
        shown = self.permutations.to(order.device)[order]
        codes = codes[torch.arange(len(codes), device=order.device)[:, None, None], shown]
        logits, right = self.head["order"](codes.flatten(2).flatten(0, 1)).float(), order.flatten()
        return F.cross_entropy(logits, right), {self.control_metric: accuracy(logits, right)}

    def settings(self) -> dict[str, Any]:
        return {
            **super().settings(),
            "jitter": self.jitter,
            "grid": 3,
            "permutations": len(self.permutations),
            "puzzles": self.puzzles,
        }
