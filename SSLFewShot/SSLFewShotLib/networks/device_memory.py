"""A device whose memory is full: how torch says so, and giving back what is no longer used."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from SSLFewShotLib.errors import InputWarning

_Result = TypeVar("_Result")

# What torch and the libraries below it say where there is no error of a type of its own.
_FULL = ("out of memory", "alloc_failed", "defaultcpuallocator", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, on a graphics card (CUDA, MPS) or on the machine itself."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _FULL)


def on_the_cpu_instead(device: torch.device) -> str:
    """The half sentence that says so to the user, with the reason and what to do."""
    return (
        f"the memory of {device} was full, so the scan was described on the CPU, which takes longer; "
        "close other programs that use the graphics card"
    )


def on_device_or_cpu(
    compute: Callable[[torch.device], _Result], device: torch.device, name: str
) -> tuple[_Result, torch.device]:
    """Call `compute(device)`, and again with the CPU where the device's memory does not suffice.

    name: of the scan, for the `InputWarning` that says so.

    Returns what it gave, and the device that it was computed on. Other errors, and a full memory of the machine
    itself, are raised.
    """
    try:
        return compute(device), device
    except (RuntimeError, MemoryError) as error:
        if device.type == "cpu" or not is_out_of_memory(error):
            raise
    # Here and not in the handler: the error keeps alive what the failed call had.
    empty_cache()
    warnings.warn(f"{name}: {on_the_cpu_instead(device)}", InputWarning, stacklevel=3)
    cpu = torch.device("cpu")
    return compute(cpu), cpu


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
