"""Several processes that train one model, as `torchrun` starts them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class Processes:
    """This process's place among those that train together."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process reports, writes and decides."""
        return self.rank == 0

    def agree(self, value: float, device: torch.device) -> float:
        """The leading process's value, on every process."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=device if device.type == "cuda" else "cpu")
        distributed.broadcast(shared, src=0)
        return float(shared)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the group that torchrun's environment describes; alone without it.

    Yields the place and this process's own device (one GPU each).
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), count), device
    finally:
        distributed.destroy_process_group()
