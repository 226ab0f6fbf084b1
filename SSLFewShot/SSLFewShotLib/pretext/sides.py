"""SIDES: are these two organs of a pair of one side, or of opposite ones?

Dhere and Sivaswamy, "Self-supervised learning for segmentation", section 2: a siamese encoder sees
the organs alone, everything else masked out, so that it must know their shape and size and not where they lie.

The paper writes d = ‖a − b‖² and then d²; meant is the contrastive loss of Hadsell, Chopra and LeCun (CVPR
2006), with the Euclidean distance d = ‖a − b‖ and d² and max(0, m − d)², which is what is here. Nothing is ever
mirrored. Both organs of a pair are of different patients whatever the answer: of one patient, they would look
alike in other ways than by their side. The paper's numbers (kidneys of a CT): window −80 to 300 HU, voxels of
3.22 × 1.62 × 1.62 mm, crops of 64 × 112 × 112 voxels. Here voxels are cubes, and the crop is what holds the
largest of the organs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.cases import Case
from SSLFewShotLib.pretext.encoder_task import EncoderTask
from SSLFewShotLib.pretext.paired_organs import PairedOrgans
from SSLFewShotLib.pretext.task import Batch
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.contrast import changed_contrast
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.views import Deformation, View

MARGIN = 1.0
_ROOM = 1.25
"""How many times as long as the largest organ a crop is, so that turned and shifted ones fit."""
_SHIFT = 0.05
"""Of the crop's sides: how far an organ may lie from its middle."""
_MOST_VOXELS = 160**3


def contrastive_loss(
    first: torch.Tensor, second: torch.Tensor, same: torch.Tensor, margin: float = MARGIN
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of y d² + (1 − y) max(0, m − d)² over N pairs, and (N,) their Euclidean distances d.

    first, second: (N, C) codes; same: (N,) y, 1 for organs of one side.
    """
    distance = torch.linalg.vector_norm(first - second, dim=1)
    y = same.to(distance.dtype)
    return (y * distance**2 + (1 - y) * (margin - distance).clamp(min=0) ** 2).mean(), distance


class Sides(EncoderTask):
    """Same side or opposite, of a paired organ in labelled scans.

    pair: names of the left and the right segment, None to find them. margin: m of the loss; code: numbers of a
    code. Other settings as of `EncoderTask`. An answer is "same" where d < m / 2.
    """

    name = "sides"
    usual_batch = 8
    usual_learning_rate = 1e-4
    chance = 0.5
    needs_labels = True
    held_out_every = 4
    deformation = Deformation(rotation=10.0, scale=1.15, shear=0.03, elastic=0.0)

    def __init__(
        self,
        extent: Extent,
        intensity: Intensity,
        batch_size: int = 8,
        network: str = "analysis",
        features: int | None = None,
        levels: int = 4,
        spacing: float | None = None,
        pair: Sequence[str] | None = None,
        margin: float = MARGIN,
        code: int = 64,
    ):
        if not 0 < margin < math.inf or not 1 <= code <= 4096:
            raise InputError(f"margin {margin}, code {code}: a number above 0, and 1 to 4096 were expected")
        super().__init__(extent, intensity, batch_size, network, features, levels, spacing)
        self.given = None if pair is None else list(pair)
        self.margin, self.code = margin, code
        self.head = nn.Linear(self.encoder.widths[-1], code)
        self.organs: PairedOrgans | None = None
        self.size: tuple[int, int, int] | None = None

    def use_labels(self, cases: Sequence[Case]) -> list[Case]:
        if self.preparation.extent.unit != "mm":
            raise InputError("sides: organs keep their size in mm only; give the extent in mm, not normalised")
        self.organs = PairedOrgans(cases, self.given)
        sides = self.organs.largest()
        spacing = self.preparation.extent.scale * self.preparation.step
        multiple = self.encoder.multiple
        voxels = [math.ceil(_ROOM * length / multiple) * multiple for length in sides / spacing]
        if math.prod(voxels) > _MOST_VOXELS:
            raise InputError(
                f"{' and '.join(self.organs.pair)}: {' × '.join(f'{mm:.0f}' for mm in sides)} mm are too many "
                f"voxels of {spacing:.3g} mm; give a larger spacing"
            )
        self.size = tuple(reversed(voxels))
        return self.organs.cases

    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """crops: (2N, 1, K, J, I), the pairs' first organs before the second; same: (N,), 1 or 0.

        Raises InputError when no scan's labels were given.
        """
        known = [scan for scan in volumes.scans if self.organs is not None and scan.name in self.organs.found]
        if not known:
            raise InputError("sides: learns from labelled scans; give a folder with labels, or the ids of cases")
        same, first = rng.integers(2, size=(2, self.batch_size))
        firsts, seconds = [], []
        for side, other in zip(first, np.where(same, first, 1 - first), strict=True):
            # Only where a single scan was held out can both be of one patient.
            patients = rng.permutation(len(known))
            firsts.append(self.crop(known[patients[0]], int(side), rng))
            seconds.append(self.crop(known[patients[-1]], int(other), rng))
        return {
            "crops": torch.stack(firsts + seconds)[:, None].to(volumes.device),
            "same": torch.as_tensor(same, device=volumes.device),
        }

    def crop(self, scan: PreparedScan, side: int, rng: np.random.Generator) -> torch.Tensor:
        """(k, j, i) the left (0) or right (1) organ of a scan and nothing else; turned a little, not mirrored."""
        middle = scan.indices(self.organs.found[scan.name].middles[side])
        shift = rng.uniform(-_SHIFT, _SHIFT, 3) * self.size[::-1]
        view = View.drawn(self.size, middle + shift, self.deformation, rng)
        begin, part = self.organs.mask(scan, side)
        of_part = copy.copy(view)
        of_part.centre = view.centre - torch.as_tensor(begin, dtype=torch.float32)
        mask = of_part.read_array(part) > 0.5
        strength = 0.7 if self.preparation.intensity.kind == "window" else 1.5
        return torch.where(mask, changed_contrast(view.read(scan), rng, strength), scan.values.min())

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The contrastive loss; metric: the share of right answers."""
        codes = self.head(self.encoder(batch["crops"]).mean(dim=(2, 3, 4))).float()
        loss, distance = contrastive_loss(*codes.chunk(2), batch["same"], self.margin)
        right = (distance.detach() < self.margin / 2) == batch["same"].bool()
        return loss, {self.control_metric: right.float().mean()}

    def settings(self) -> dict[str, Any]:
        pair = self.organs.pair if self.organs else self.given
        return {
            **super().settings(),
            "pair": None if pair is None else list(pair),
            "organ_size": None if self.size is None else list(self.size),
            "margin": self.margin,
            "code": self.code,
        }
