"""A device whose memory is full: how torch says so, and giving back what is no longer used."""

from __future__ import annotations

import gc

import torch

# What torch and the libraries below it say where there is no error of a type of its own.
_FULL = ("out of memory", "alloc_failed", "defaultcpuallocator", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, on a graphics card (CUDA, MPS) or on the machine itself."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _FULL)


def empty_cache(device: torch.device | None = None) -> None:
    """Give a device's unused memory back to its other users; None for all devices that were used.

    Call it outside the `except` block: the error holds on to what the failed call had.
    """
    gc.collect()
    kind = device.type if device is not None else ""
    # An accelerator that nothing has used must not be started for that.
    if kind in ("", "cuda") and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if kind in ("", "mps") and torch.backends.mps.is_available():
        torch.mps.empty_cache()
