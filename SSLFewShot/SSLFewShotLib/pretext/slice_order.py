"""SLICE-ORDER: in which order do slices of a scan lie?

Zharov, Ershov and Baumbach, "Self supervised learning for object localisation in 3D tomographic images" (2020),
section 2.1, equations 1 and 2. Where the paper's text leaves it open, or cannot be meant as it is written:
the sign of a pair follows the order of its slices both ways (with the Iverson bracket of equation 2 a pair in the
other order would count nothing); a slice and itself, which would add the margin whatever the network says, do not
count, and the sum is divided by the number of pairs, so that the learning rate does not depend on the batch; order
and its prediction are ranks, where equation 1 has the argsort.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.pretext.slice_task import SliceTask
from SSLFewShotLib.pretext.task import Batch
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.slices import planes, turned

POSITIONS = ("normal", "uniform")
_SHIFT, _TURN, _ZOOM, _NOISE = 3.0, 8.0, 1.8, 0.05


def order_loss(scores: torch.Tensor, order: torch.Tensor, margin: float) -> torch.Tensor:
    """Mean over all ordered pairs i ≠ j of max(0, −s_ij · (f_i − f_j) + margin), s_ij = sign(y_i − y_j).

    scores, order: (N,) what the network says, and the true ranks.
    """
    difference = scores[:, None] - scores[None]
    sign = torch.sign(order[:, None] - order[None]).to(scores.dtype)
    pairs = torch.clamp(margin - sign * difference, min=0) * (sign != 0)
    return pairs.sum() / (sign != 0).sum().clamp(min=1)


def mean_displacement(scores: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Mean distance, in places of the row, between a slice's rank by its score and its true rank."""
    rank = scores.argsort().argsort()
    return (rank - order.argsort().argsort()).abs().float().mean()


def chance_displacement(count: int) -> float:
    """The mean displacement of a random order: (n² − 1) / 3n."""
    return (count**2 - 1) / (3 * count)


class SliceOrder(SliceTask):
    """Rank a batch of slices of one scan by their place along an axis.

    batch_size: slices of a row, all of one scan. rows: how many such rows, of scans drawn at random, a step learns
    from; the paper's is 1. axes: the slicing axes that rows are drawn from, letters of "LPS".
    positions: "normal" (mean in the middle of the axis, deviation a fifth of its length: the paper's, away from
    the empty ends) or "uniform". network: "small" or "resnet50" (the paper's); side: pixels of a slice.
    """

    name = "slice-order"
    control_metric = "mean_displacement"
    higher_is_better = False
    usual_batch = 12

    def __init__(
        self,
        extent: Extent,
        intensity: Intensity,
        batch_size: int = 12,
        axes: str = "S",
        network: str = "small",
        side: int = 96,
        margin: float = 0.1,
        positions: str = "normal",
        rows: int = 1,
    ):
        if batch_size < 2:
            raise InputError(f"batch size {batch_size}: at least 2 slices can be put in order")
        if positions not in POSITIONS:
            raise InputError(f"positions '{positions}': one of {', '.join(POSITIONS)} was expected")
        if not 0 < margin < np.inf:
            raise InputError(f"margin {margin}: a number above 0 was expected")
        if rows < 1:
            raise InputError(f"{rows} rows: at least one was expected")
        super().__init__(intensity, batch_size, axes, side, network, inputs=1, outputs=1)
        self.margin = margin
        self.positions = positions
        self.rows = rows
        self.chance = chance_displacement(batch_size)

    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """slices: (N, 1, side, side), changed a little, row after row; order: (N,) their numbers; row: (N,) whose.

        A row has as many slices as the batch size, or all that its scan has along the axis.
        """
        slices, order, row = [], [], []
        for number in range(self.rows):
            seen, numbers = self._row(volumes, rng)
            slices.append(seen)
            order.append(numbers)
            row.append(np.full(len(numbers), number))
        return {
            "slices": torch.cat(slices)[:, None].to(volumes.device),
            "order": torch.as_tensor(np.concatenate(order), device=volumes.device),
            "row": torch.as_tensor(np.concatenate(row), device=volumes.device),
        }

    def _row(self, volumes: ScanBatch, rng: np.random.Generator) -> tuple[torch.Tensor, np.ndarray]:
        scan = volumes.scans[int(rng.integers(len(volumes)))]
        axis = self.axes[int(rng.integers(len(self.axes)))]
        numbers = self.draw(scan.values.shape[2 - axis], rng)
        found = planes(scan, axis, numbers)
        angles = torch.as_tensor(rng.uniform(-_TURN, _TURN, len(numbers)), dtype=torch.float32)
        shifts = torch.as_tensor(rng.normal(0, _SHIFT, (len(numbers), 2)), dtype=torch.float32)
        slices = turned(found, angles, self.preparation.side, scan.fill, shifts, zoom=_ZOOM ** rng.uniform())
        return slices + _NOISE * torch.as_tensor(rng.normal(size=slices.shape), dtype=torch.float32), numbers

    def draw(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """(N,) different slice numbers of an axis of `length` slices."""
        if length <= self.batch_size:
            return rng.permutation(length)
        places = np.arange(length)
        weights = np.ones(length)
        if self.positions == "normal":
            weights = np.exp(-0.5 * ((places - (length - 1) / 2) / (length / 5)) ** 2)
        return rng.choice(places, self.batch_size, replace=False, p=weights / weights.sum())

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The ranking loss; metric: the mean displacement; of each row, and their mean."""
        scores = self.network(batch["slices"])[:, 0].float()
        losses, displacements = [], []
        for number in range(self.rows):
            here = batch["row"] == number
            losses.append(order_loss(scores[here], batch["order"][here], self.margin))
            displacements.append(mean_displacement(scores.detach()[here], batch["order"][here]))
        return torch.stack(losses).mean(), {self.control_metric: torch.stack(displacements).mean()}

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "margin": self.margin, "positions": self.positions, "rows": self.rows}
