"""The one trainer of every self-supervised task."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.pretext.checkpoint import load_checkpoint, save_checkpoint
from SSLFewShotLib.pretext.distributed import Processes
from SSLFewShotLib.pretext.interruption import interrupts_held
from SSLFewShotLib.pretext.pool import ScanPool
from SSLFewShotLib.pretext.recovery import Recovery
from SSLFewShotLib.pretext.synthetic_pool import SyntheticPool
from SSLFewShotLib.pretext.task import Batch, PretextTask
from SSLFewShotLib.progress import Progress, ignore_progress

SCHEDULES = ("cosine", "constant", "one-cycle")
OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass(frozen=True)
class TrainerSettings:
    """How long and how fast.

    Exactly one of iterations and minutes is the budget. With iterations, the same seed on the same device
    gives the same weights, interrupted or not; with minutes, the pace of the machine enters.
    schedule: "cosine" (after a warm-up of 2 %), "constant" (the context-feature paper) or "one-cycle" (Smith and
        Topin 2019, as in torch, momentum left alone: up over 30 % of the budget, then down).
    optimiser: "adam" or "adamw" (decoupled weight decay). Learning rate, schedule, optimiser and weight decay that
        are None are the task's usual ones.
    """

    iterations: int | None = None
    minutes: float | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    seed: int = 0
    scans_at_once: int = 8
    refresh_every: int = 25
    checkpoint_minutes: float = 2.0
    optimiser: str | None = None

    def __post_init__(self) -> None:
        if (self.iterations is None) == (self.minutes is None):
            raise InputError("give either a number of iterations or a number of minutes")
        if (self.iterations is not None and self.iterations < 1) or (
            self.minutes is not None and not 0 < self.minutes < math.inf
        ):
            raise InputError("the number of iterations or minutes must be above 0")
        rate = 1.0 if self.learning_rate is None else self.learning_rate
        if not 0 < rate < math.inf or not 0 <= (self.weight_decay or 0.0) < math.inf:
            raise InputError(
                f"learning rate {self.learning_rate}, weight decay {self.weight_decay}: a rate above 0 and a "
                "decay of at least 0 were expected"
            )
        if self.schedule not in (None, *SCHEDULES):
            raise InputError(f"schedule '{self.schedule}': one of {', '.join(SCHEDULES)} was expected")
        if self.optimiser not in (None, *OPTIMISERS):
            raise InputError(f"optimiser '{self.optimiser}': one of {', '.join(OPTIMISERS)} was expected")
        if self.scans_at_once < 1 or self.refresh_every < 1 or self.seed < 0:
            raise InputError("scans at once and iterations between them must be at least 1, the seed at least 0")

    def suited_to(self, task: PretextTask) -> TrainerSettings:
        """These settings with the task's usual ones where they are None."""
        usual = {
            "learning_rate": task.usual_learning_rate,
            "schedule": task.usual_schedule,
            "optimiser": task.usual_optimiser,
            "weight_decay": task.usual_weight_decay,
        }
        return replace(self, **{name: value for name, value in usual.items() if getattr(self, name) is None})

    def rate(self, fraction: float) -> float:
        """The learning rate when `fraction` of the budget is spent."""
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "one-cycle":
            first, last = self.learning_rate / 25, self.learning_rate / 25e4
            if fraction < 0.3:
                return _between(first, self.learning_rate, fraction / 0.3)
            return _between(self.learning_rate, last, min((fraction - 0.3) / 0.7, 1.0))
        return (
            self.learning_rate
            * min(1.0, fraction / 0.02 + 1e-2)
            * 0.5
            * (1 + math.cos(math.pi * min(fraction, 1)))
        )


def _between(start: float, end: float, fraction: float) -> float:
    """Along half a cosine."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * fraction))


@dataclass
class Training:
    """What a run has come to. rows: one a log entry: iteration, minutes, loss, learning rate, control metric."""

    iteration: int = 0
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)


class _LossModule(nn.Module):
    """The task's loss as a module's forward, which is what distributed data parallel wraps."""

    def __init__(self, task: PretextTask):
        super().__init__()
        self.parts = task.modules()
        self.task_loss = task.loss

    def forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.task_loss(batch)


class Trainer:
    """Train a task on a pool of scans, leaving checkpoints in `folder`.

    Randomness is drawn from (seed, iteration, rank) alone, so that a resumed run needs no generator's state.
    """

    def __init__(
        self,
        task: PretextTask,
        pool: ScanPool | SyntheticPool,
        settings: TrainerSettings,
        folder: Path,
        device: torch.device,
        processes: Processes | None = None,
        identity: dict[str, Any] | None = None,
    ):
        self.task = task
        self.pool = pool
        self.settings = settings = settings.suited_to(task)
        self.folder = folder
        self.device = device
        self.processes = processes or Processes()
        self.identity = {"method": task.name, **asdict(settings), **(identity or {})}
        del self.identity["checkpoint_minutes"]
        if settings.optimiser == "adam":
            del self.identity["optimiser"]  # checkpoints from before there was a choice go on
        self.module = _LossModule(task).to(device)
        self.optimiser = OPTIMISERS[settings.optimiser](
            self.module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.mixed = device.type == "cuda"
        # torch 2.2, the last for Intel Macs, has it under torch.cuda only.
        scaler = getattr(torch.amp, "GradScaler", torch.cuda.amp.GradScaler)
        self.scaler = scaler(enabled=self.mixed)
        self.recovery = Recovery(self.module, self.optimiser, folder)
        self.training = Training()
        self._in_step = False

    def run(
        self,
        resume: bool = False,
        progress: Progress = ignore_progress,
        on_checkpoint: Callable[[Training], None] = lambda training: None,
        on_row: Callable[[Training], None] = lambda training: None,
    ) -> Training:
        """Train until the budget is spent; `on_row` is called after each new row of the log.

        A loss that is not finite has it go back to good weights and on with a lower rate, see `Recovery`.

        Raises Cancelled when the user cancels, after writing a checkpoint; InputError when the loss does not
        become finite again, or when the checkpoint to resume from is missing, damaged or of other settings.
        """
        if not self.processes.leads:
            progress = ignore_progress
        if resume:
            self._restore()
        model: nn.Module = self.module
        if self.processes.count > 1:
            model = DistributedDataParallel(self.module)
        deterministic, torch.backends.cudnn.deterministic = torch.backends.cudnn.deterministic, True
        try:
            self._loop(model, progress, on_checkpoint, on_row)
        except (Cancelled, KeyboardInterrupt):
            # A second Ctrl-C can come between two parameters: half a step must not replace the last whole
            # checkpoint.
            if not self._in_step:
                self._checkpoint(on_checkpoint)
            raise
        finally:
            torch.backends.cudnn.deterministic = deterministic
        self._checkpoint(on_checkpoint)
        return self.training

    def _loop(
        self,
        model: nn.Module,
        progress: Progress,
        on_checkpoint: Callable[[Training], None],
        on_row: Callable[[Training], None],
    ) -> None:
        training, rank = self.training, self.processes.rank
        model.train()
        volumes = None
        started = time.monotonic() - training.seconds
        last_report = last_checkpoint = time.monotonic()
        window: list[tuple[torch.Tensor, dict[str, torch.Tensor]]] = []
        while (fraction := self._fraction()) < 1:
            period = training.iteration // self.settings.refresh_every
            if volumes is None or training.iteration % self.settings.refresh_every == 0:
                rng = np.random.default_rng([self.settings.seed, period, rank, 1])
                volumes = self.pool.draw(
                    self.settings.scans_at_once,
                    rng,
                    self.device,
                    lambda _, text: progress(self._fraction_here(), text),
                )
            rng = np.random.default_rng([self.settings.seed, training.iteration, rank, 2])
            self.task.fraction = fraction
            if self.task.has_enough(training.iteration):
                break
            batch = self.task.sample(volumes, rng)
            # Most of the time goes by here: Ctrl-C waits for the step's end, so that there is a state to save.
            with interrupts_held():
                self._in_step = True
                if (done := self._step(model, batch, fraction)) is not None:
                    window.append(done)
                training.iteration += 1
                training.seconds = time.monotonic() - started
                if window and training.iteration % self._log_every() == 0:
                    self._log(window, fraction)
                    window.clear()
                    on_row(training)
                self._in_step = False
            if time.monotonic() - last_report > 0.5:
                last_report = time.monotonic()
                loss = f", loss {training.rows[-1]['loss']:.4g}" if training.rows else ""
                progress(self._fraction_here(), f"iteration {training.iteration}{loss}")
            if time.monotonic() - last_checkpoint > 60 * self.settings.checkpoint_minutes:
                last_checkpoint = time.monotonic()
                self._checkpoint(on_checkpoint)
        if window:
            self._log(window, 1.0)
            on_row(training)

    def _step(
        self, model: nn.Module, batch: Batch, fraction: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]] | None:
        """Loss and metrics; None where the loss was not finite, and the last good weights were taken back."""
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(fraction)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.float16) if self.mixed else contextlib.nullcontext():
            loss, metrics = model(batch)
        if self.processes.count == 1:  # several would have to go back together
            if not bool(loss.detach().isfinite()):
                self.recovery.go_back(self.training.iteration, float(loss.detach()))
                return None
            self.recovery.keep(self.training.iteration)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return loss.detach(), metrics

    def _log(self, window: list[tuple[torch.Tensor, dict[str, torch.Tensor]]], fraction: float) -> None:
        loss = float(torch.stack([loss for loss, _ in window]).mean())
        if not math.isfinite(loss):
            raise InputError(
                f"{self.folder}: the loss is {loss} at iteration {self.training.iteration}; start again, "
                "overwriting it, with a lower learning rate"
            )
        row = {"iteration": self.training.iteration, "minutes": round(self.training.seconds / 60, 3), "loss": loss}
        row["learning_rate"] = self._rate(fraction)
        for name in window[0][1]:
            row[name] = float(torch.stack([metrics[name].float() for _, metrics in window]).mean())
        self.training.rows.append(row)

    def _rate(self, fraction: float) -> float:
        return self.settings.rate(fraction) * self.recovery.factor

    def _log_every(self) -> int:
        return max(1, (self.settings.iterations or 20_000) // 400)

    def _fraction_here(self) -> float:
        if self.settings.iterations is not None:
            return self.training.iteration / self.settings.iterations
        return self.training.seconds / 60 / self.settings.minutes

    def _fraction(self) -> float:
        fraction = self._fraction_here()
        return fraction if self.settings.iterations is not None else self.processes.agree(fraction, self.device)

    def _checkpoint(self, on_checkpoint: Callable[[Training], None]) -> None:
        if not self.processes.leads:
            return
        state = {
            "identity": self.identity,
            "parts": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "iteration": self.training.iteration,
            "seconds": self.training.seconds,
            "rows": self.training.rows,
            "recovery": self.recovery.state(),
            "task": self.task.state(),
        }
        save_checkpoint(self.folder, state)
        on_checkpoint(self.training)

    def _restore(self) -> None:
        state = load_checkpoint(self.folder, self.identity, self.device)
        try:
            self.module.load_state_dict(state["parts"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.scaler.load_state_dict(state["scaler"])
            self.training = Training(state["iteration"], state["seconds"], state["rows"])
            if "recovery" in state:  # checkpoints from before there was one go on
                self.recovery.restore(state["recovery"])
                self.task.restore(state["task"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{self.folder}: the checkpoint does not fit the networks of this version; start again, "
                "overwriting it"
            ) from error
