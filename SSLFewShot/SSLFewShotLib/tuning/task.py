"""The task of fine-tuning, for the one trainer: patches of labelled scans, and how well they are segmented."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.pretext.task import Batch, PretextTask
from SSLFewShotLib.sampling.contrast import changed_contrast
from SSLFewShotLib.sampling.views import Deformation, View
from SSLFewShotLib.tuning.centres import FOREGROUND, PatchCentres, held_out_centres
from SSLFewShotLib.tuning.labelled import LabelledScans
from SSLFewShotLib.tuning.loss import LOSSES, probabilities_from, segmentation_loss
from SSLFewShotLib.tuning.start import Start

RECONSTRUCTION = 0.1
"""Weight of the mean squared error of the reconstruction branch; the paper does not give one."""
ASSESSED_EVERY = 50
"""Iterations between two looks at what is held out."""
PATIENCE = 8
"""Looks in a row that bring nothing better, after which it is enough."""
CLEARLY = 0.01
"""Dice by which earlier weights must have been better than the last ones to be taken instead."""
_PATCHES = 12
_STILL = Deformation(rotation=0.0, scale=1.0, shear=0.0, elastic=0.0)


@dataclass(frozen=True)
class TuningSettings:
    """What is learned how.

    loss: "bce-dice" (Dhere and Sivaswamy 2021) or "dice-ce". frozen: share of the budget in which a pretrained
    encoder stays as it is (Taleb et al. 2020). held_out: share of each segment's voxels that are held out, in
    blocks, to see when it is enough; 0: it goes on to the end. foreground: share of patches on a segment.
    """

    loss: str = "bce-dice"
    frozen: float = 0.2
    held_out: float = 0.1
    foreground: float = FOREGROUND
    batch_size: int = 2

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise InputError(f"loss '{self.loss}': one of {', '.join(LOSSES)} was expected")
        if not 0 <= self.frozen <= 1 or not 0 <= self.held_out < 0.5 or not 0 <= self.foreground <= 1:
            raise InputError(
                f"frozen {self.frozen}, held out {self.held_out}, foreground {self.foreground}: shares from 0 to "
                "1 (held out: below 0.5) were expected"
            )
        if self.batch_size < 1:
            raise InputError(f"batch size {self.batch_size}: at least 1 was expected")


class FineTuning(PretextTask):
    """Segment deformed patches with changed contrast.

    Patches are never mirrored: left and right are different structures. Early stopping looks at blocks of the
    labelled scans whose labels are not learned from. Optimiser: Adam with decoupled weight decay of 0.01 (Dhere
    and Sivaswamy: Adam, weight decay 0.01).

    After or during training: scores, (iteration, mean Dice on what is held out) of every look; dice: (S,) that of
    each segment at the weights that are there, NaN for one of which nothing is held out.
    """

    name = "finetune"
    architecture = "segmentation network"
    control_metric = "dice"
    chance = 0.0
    higher_is_better = True
    usual_batch = 2
    usual_optimiser = "adamw"
    usual_weight_decay = 0.01
    deformation = Deformation()

    def __init__(self, start: Start, scans: LabelledScans, settings: TuningSettings):
        self.preparation = start.preparation
        self.patch = start.patch
        self.network = start.network.to(memory_format=torch.channels_last_3d)
        self.scans = scans
        self.tuning = settings
        self.batch_size = settings.batch_size
        self.frozen = settings.frozen if start.pretrained else 0.0
        self.centres = PatchCentres(scans.scans, scans.segments, settings.foreground)
        self.looked_at = held_out_centres(scans.scans, self.patch, _PATCHES)
        self.scores: list[tuple[int, float]] = []
        self.dice = torch.full((scans.segments,), torch.nan)
        self._best: dict[str, torch.Tensor] | None = None
        self._best_dice = self.dice

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"network": self.network})

    def descriptor_modules(self) -> dict[str, nn.Module]:
        return {"network": self.network}

    def settings(self) -> dict[str, Any]:
        return {
            "patch": list(self.patch),
            "loss": self.tuning.loss,
            "frozen": self.frozen,
            "held_out": self.tuning.held_out,
            "foreground": self.tuning.foreground,
            "batch_size": self.batch_size,
            "rotation": self.deformation.rotation,
            "scale": self.deformation.scale,
            "shear": self.deformation.shear,
            "elastic": self.deformation.elastic,
        }

    def sample(self, volumes: LabelledScans, rng: np.random.Generator) -> Batch:
        """Deformed patches, balanced over all segments.

        values, plain: (N, 1, k, j, i), as the network sees them and as they are; truth: (N, S, k, j, i); weights:
        (N, k, j, i); known: (N, S).
        """
        self.network.encoder.requires_grad_(self.fraction >= self.frozen)
        rows = []
        for _ in range(self.batch_size):
            number, centre, _ = self.centres.draw(rng)
            # Not always in the middle, where the network would learn to look.
            centre = centre + rng.uniform(-0.25, 0.25, 3) * np.array(self.patch[::-1])
            view = View.drawn(self.patch, centre, self.deformation, rng)
            values, *labels = volumes.scans[number].read(view, volumes.segments, device=volumes.device)
            known = volumes.scans[number].known(volumes.segments).to(volumes.device)
            rows.append((self._changed(values, rng), values, *labels, known))
        names = ("values", "plain", "truth", "weights", "known")
        batch = {name: torch.stack(parts) for name, parts in zip(names, zip(*rows, strict=True), strict=True)}
        return {**batch, "values": batch["values"][:, None], "plain": batch["plain"][:, None]}

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Metric: mean soft Dice of the segments that the patches show."""
        values = batch["values"].contiguous(memory_format=torch.channels_last_3d)
        plain = None
        if hasattr(self.network, "segment_and_reconstruct"):
            logits, plain = self.network.segment_and_reconstruct(values)
        else:
            logits = self.network(values)
        with torch.autocast(values.device.type, enabled=False):
            loss, dice = segmentation_loss(
                logits.float(), batch["truth"], batch["weights"], batch["known"], self.tuning.loss, self.fraction
            )
            if plain is not None:
                loss = loss + RECONSTRUCTION * ((plain.float() - batch["plain"]) ** 2).mean()
        return loss, {self.control_metric: dice}

    def has_enough(self, iteration: int) -> bool:
        """Looks at what is held out every so often; True once the last `PATIENCE` looks brought nothing better."""
        if iteration and iteration % ASSESSED_EVERY == 0:
            self.assess(iteration)
        since = len(self.scores) - 1 - self._best_look() if self.scores else 0
        return since >= PATIENCE

    def assess(self, iteration: int) -> float | None:
        """Mean Dice of the segments on the voxels that are held out; None when there are none."""
        if not self.looked_at:
            return None
        if self.scores and self.scores[-1][0] >= iteration:
            return self.scores[-1][1]
        self.dice = self._measured()
        score = float(self.dice.nanmean().nan_to_num(0.0))
        self.scores.append((iteration, score))
        if self._best_look() == len(self.scores) - 1:
            self._best_dice = self.dice
            self._best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        return score

    def take_best(self) -> int | None:
        """Give the network earlier weights that measured clearly better than the last; their iteration, or
        None."""
        if not self.scores or self._best is None:
            return None
        iteration, score = self.scores[self._best_look()]
        if score <= self.scores[-1][1] + CLEARLY:
            return None
        self.network.load_state_dict(self._best)
        self.dice = self._best_dice
        return iteration

    def state(self) -> dict[str, Any]:
        return {
            "scores": [list(score) for score in self.scores],
            "best": copy.copy(self._best),
            "dice": [self.dice, self._best_dice],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.scores = [(int(iteration), float(score)) for iteration, score in state["scores"]]
        self._best = state["best"]
        self.dice, self._best_dice = state["dice"]

    def _best_look(self) -> int:
        return int(np.argmax([score for _, score in self.scores]))

    def _measured(self) -> torch.Tensor:
        device = self.scans.device
        overlap, sizes = (torch.zeros(self.scans.segments, device=device) for _ in range(2))
        training = self.network.training
        self.network.eval()
        with torch.no_grad():
            for start in range(0, len(self.looked_at), 2):
                rows = [self._looked(number, centre) for number, centre in self.looked_at[start : start + 2]]
                values, truth, counted = (torch.stack(parts) for parts in zip(*rows, strict=True))
                with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
                    logits = self.network(values[:, None].contiguous(memory_format=torch.channels_last_3d))
                found = probabilities_from(logits.float(), self.tuning.loss)
                over = (0, 2, 3, 4)
                overlap += (counted * found * truth).sum(over)
                sizes += (counted * (found**2 + truth**2)).sum(over)
        self.network.train(training)
        return torch.where(sizes > 0, 2 * overlap / sizes, torch.nan).cpu()

    def _looked(self, number: int, centre: np.ndarray) -> Sequence[torch.Tensor]:
        labelled, segments = self.scans.scans[number], self.scans.segments
        view = View.drawn(self.patch, centre, _STILL, np.random.default_rng(0))
        values, truth, weights = labelled.read(view, segments, held_out=True, device=self.scans.device)
        known = labelled.known(segments).to(self.scans.device)
        return values, truth, weights[None] * known[:, None, None, None]

    def _changed(self, values: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        # Grey values of a CT mean something, those of others differ from scanner to scanner.
        return changed_contrast(values, rng, 0.7 if self.preparation.intensity.kind == "window" else 1.5)
