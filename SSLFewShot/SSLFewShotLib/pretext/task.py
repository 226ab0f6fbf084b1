"""What the trainer asks of a self-supervised task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.cases import Case
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.preparation import Preparation, PreparedScan

Batch = dict[str, torch.Tensor]


class PretextTask(ABC):
    """A task that a network learns from unlabelled scans.

    The trainer owns optimiser, schedule, device, checkpoints and time; a task says what a batch is and what
    its loss is. `fraction` (0..1) is set by the trainer before each `sample`, for tasks that grow harder.

    name: the method's name on the command line and in cards.
    control_metric: the metric that shows whether the task is learned; `chance` is its value by guessing and
        `higher_is_better` its sense.
    usual_batch: pairs (or samples) an iteration.
    usual_learning_rate, usual_schedule, usual_optimiser, usual_weight_decay: where the trainer's settings leave
        them open.
    needs_labels: whether it learns from labelled scans only. held_out_every: one scan in so many is kept for the
        control metric.
    architecture: what the card calls the networks that describe voxels.
    """

    name: str
    control_metric: str
    chance: float
    higher_is_better: bool
    architecture: str
    preparation: Preparation
    usual_batch: int = 16
    usual_learning_rate: float = 1e-3
    usual_schedule: str = "cosine"
    usual_optimiser: str = "adam"
    usual_weight_decay: float = 0.0
    needs_labels: bool = False
    held_out_every: int = 20
    fraction: float = 1.0

    @abstractmethod
    def modules(self) -> nn.ModuleDict:
        """Everything that is trained. The entries under `descriptor_modules` are what a model keeps."""

    @abstractmethod
    def descriptor_modules(self) -> dict[str, nn.Module]:
        """The part that describes voxels, by branch name."""

    def architecture_settings(self) -> dict[str, Any]:
        """What those networks are made with again."""
        return {}

    def use_labels(self, cases: Sequence[Case]) -> list[Case]:
        """Learn from these labelled scans; returns those of them that it can learn from.

        Raises InputError where the task knows no labels, or cannot learn from these.
        """
        raise InputError(f"method '{self.name}' learns from scans without labels only; choose alpnet, or no cases")

    def draw_example(self, scan: PreparedScan, folder: Path) -> None:  # noqa: B027 - few tasks have one
        """Leave a picture in the training's folder of what is learned from, where the task has one."""

    def has_enough(self, iteration: int) -> bool:
        """Whether the training ends before its budget is spent; asked before each iteration, perhaps twice."""
        return False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside weights, for a task that remembers something."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027 - few tasks remember anything
        """Take back what `state` gave."""

    @abstractmethod
    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """Draw a batch from the loaded scans, on their device."""

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss to descend and metrics to watch."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The numbers that define the task, for the model's card."""
