"""Going on after a loss that is no number: from weights that were still good, at a lower rate."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from SSLFewShotLib.errors import InputError, InputWarning

MOST_TIMES = 8
LOWERED = 0.5
"""What the learning rate is multiplied with each time."""
_EVERY = 10


class Recovery:
    """Keeps the weights and the optimiser's state of the last tenth iteration whose loss was finite.

    folder: the training's, which messages name.
    factor: of the learning rate, 1 as long as nothing went wrong; times: how often something did.
    """

    def __init__(self, module: nn.Module, optimiser: torch.optim.Optimizer, folder: Path):
        self.module = module
        self.optimiser = optimiser
        self.folder = folder
        self.factor = 1.0
        self.times = 0
        self._good: tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None = None

    def keep(self, iteration: int) -> None:
        """To be called when the loss of an iteration is finite, before its step changes the weights."""
        if self._good is None or iteration - self._good[0] >= _EVERY:
            weights = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
            self._good = iteration, weights, copy.deepcopy(self.optimiser.state_dict())

    def go_back(self, iteration: int, loss: float) -> None:
        """Take back the last good weights, and lower the rate from here on.

        Warns with `InputWarning`. Raises InputError when it did not help `MOST_TIMES` times.
        """
        if self.times == MOST_TIMES:
            raise InputError(
                f"{self.folder}: the loss is {loss} at iteration {iteration}, and the rate was lowered "
                f"{MOST_TIMES} times; start again, overwriting it, with a lower learning rate"
            )
        where = "its beginning"
        if self._good is not None:
            good, weights, state = self._good
            where = f"iteration {good}"
            self.module.load_state_dict(weights)
            self.optimiser.load_state_dict(copy.deepcopy(state))
        self.times += 1
        self.factor *= LOWERED
        warnings.warn(
            f"the loss became {loss} at iteration {iteration}: the training went back to {where} and goes on with "
            f"{self.factor:g} of the learning rate",
            InputWarning,
            stacklevel=2,
        )

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"factor": self.factor, "times": self.times}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.factor, self.times = state["factor"], state["times"]
