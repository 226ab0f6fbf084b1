"""Fine-tuning from a start on labelled scans, to a network that segments."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.labelmap import Segment
from SSLFewShotLib.pretext.checkpoint import CHECKPOINT_NAME
from SSLFewShotLib.pretext.trainer import Trainer, TrainerSettings, Training
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.preparation import Preparation
from SSLFewShotLib.tuning.centres import hold_out
from SSLFewShotLib.tuning.labelled import Labelled, LabelledScan, LabelledScans
from SSLFewShotLib.tuning.loss import channels_of
from SSLFewShotLib.tuning.start import Start
from SSLFewShotLib.tuning.task import FineTuning, TuningSettings
from SSLFewShotLib.tuning.tuned import TunedNetwork

LEARNING_RATE = 3e-3
"""Higher than the 0.001 of Dhere and Sivaswamy, which measured worse in so few minutes (README)."""


@dataclass(frozen=True)
class Tuned:
    """What a fine-tuning came to.

    network: to segment with. training: of the trainer. scores: (iteration, Dice on held-out blocks of the scans);
    taken_from: the iteration whose weights were taken, None for the last; dice: (S,) of each segment on the blocks
    with them, NaN for one of which nothing was held out. settings: what was trained how.
    """

    network: TunedNetwork
    training: Training
    scores: list[tuple[int, float]]
    taken_from: int | None
    dice: np.ndarray
    settings: dict[str, Any]


def outputs_for(loss: str, segments: int, overlapping: bool) -> int:
    """Channels that the network must have. Raises InputError where segments overlap and the loss forbids it."""
    if loss == "dice-ce" and overlapping:
        raise InputError("the segments overlap, which cross-entropy cannot learn; choose the loss bce-dice")
    return channels_of(loss, segments)


def prepared(
    labelled: Sequence[Labelled],
    segments: Sequence[Segment],
    preparation: Preparation,
    progress: Progress = ignore_progress,
) -> list[LabelledScan]:
    """Scans with their labels as they are learned from; see `LabelledScan.prepared` for warnings and errors."""
    scans = []
    for number, one in enumerate(labelled):
        part = portion(progress, number / len(labelled), (number + 1) / len(labelled))
        scans.append(LabelledScan.prepared(one, segments, preparation, part))
    return scans


def fine_tuned(
    start: Start,
    scans: Sequence[LabelledScan],
    segments: Sequence[Segment],
    overlapping: bool,
    settings: TuningSettings,
    budget: TrainerSettings,
    device: torch.device,
    identity: Mapping[str, Any],
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress = ignore_progress,
) -> Tuned:
    """Fine-tune until the budget is spent, or what is held out of the labelled scans gets no better.

    start: its network is trained in place, and has the channels that `outputs_for` says. scans: as its preparation
    makes them; one that counts more is there more than once. segments: numbered 1 to S, which may share voxels if
    `overlapping`. identity: what tells this training from others, for the checkpoint that it leaves in `folder`
    (None: in a temporary one), from which it goes on with `resume`.

    Raises InputError when the checkpoint is of another training.
    """
    hold_out(scans, settings.held_out, budget.seed)
    pool = LabelledScans(scans, len(segments))
    task = FineTuning(start, pool, settings)
    with tempfile.TemporaryDirectory(prefix="sslfewshot-") as temporary:
        where = folder or Path(temporary)
        trainer = Trainer(task, pool, budget, where, device, identity=dict(identity))
        going_on = resume and (where / CHECKPOINT_NAME).exists()
        training = trainer.run(going_on, _telling(portion(progress, 0.0, 0.99), task))
    task.assess(training.iteration)
    taken_from = task.take_best()
    start.network.requires_grad_(True).eval()
    network = TunedNetwork(
        start.network, start.preparation, start.patch, list(segments), overlapping, settings.loss
    )
    progress(1.0, "fine-tuned")
    return Tuned(network, training, list(task.scores), taken_from, task.dice.numpy(), task.settings())


def _telling(progress: Progress, task: FineTuning) -> Progress:
    """Progress of the training that says what is going on, and how well what is held out is segmented."""

    def tell(fraction: float, message: str) -> None:
        score = f", Dice on held-out blocks {task.scores[-1][1]:.2f}" if task.scores else ""
        progress(fraction, f"fine-tuning: {message}{score}")

    return tell
