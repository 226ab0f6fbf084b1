"""Any size through a network that halves resolution several times."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def padded(values: torch.Tensor, multiple: int) -> torch.Tensor:
    """(N, C, K, J, I) with its last planes repeated until each side is a multiple of `multiple`."""
    padding = [p for n in reversed(values.shape[2:]) for p in (0, -n % multiple)]
    return F.pad(values, padding, mode="replicate") if any(padding) else values


def cut(values: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """(N, C, K, J, I) without what `padded` added to a `size` of (K, J, I)."""
    return values[:, :, : size[0], : size[1], : size[2]]
