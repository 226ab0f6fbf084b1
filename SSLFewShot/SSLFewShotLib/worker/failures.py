"""From what a request raised to the error that its sender gets."""

from __future__ import annotations

import errno
import sys
import traceback
from typing import Any

from SSLFewShotLib.errors import Cancelled, InputError, OutputError
from SSLFewShotLib.worker.protocol import (
    INTERNAL_ERROR,
    NOT_WRITTEN,
    OUT_OF_MEMORY,
    REQUEST_CANCELLED,
    WRONG_INPUT,
    ProtocolError,
)

_FULL_DISK = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def described(error: BaseException) -> tuple[int, str, dict[str, Any]]:
    """The code, the message (one line) and the data of an error's answer."""
    data = {"type": type(error).__name__}
    if isinstance(error, ProtocolError):
        return error.code, error.message, data
    if isinstance(error, Cancelled):
        return REQUEST_CANCELLED, "cancelled", data
    if isinstance(error, InputError):
        return WRONG_INPUT, _one_line(str(error)), {**data, **getattr(error, "details", {})}
    if isinstance(error, OutputError):
        return NOT_WRITTEN, _one_line(error.strerror or str(error)), data
    if ran_out_of_memory(error):
        remedy = "close other programs, choose the cpu instead of a graphics card, or take larger points (spacing)"
        return OUT_OF_MEMORY, f"the memory did not suffice; {remedy}", {**data, "remedy": remedy}
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        where = f"{error.filename}: " if error.filename else ""
        return NOT_WRITTEN, f"{where}no space left on the disk; free some or choose another output", data
    said = _one_line(str(error))
    return INTERNAL_ERROR, f"{type(error).__name__}: {said}" if said else type(error).__name__, data


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out; torch is asked only when it is loaded."""
    if isinstance(error, MemoryError):
        return True
    if "torch" not in sys.modules:
        return False
    from SSLFewShotLib.networks.device_memory import is_out_of_memory

    return is_out_of_memory(error)


def where_raised(error: BaseException) -> str:
    """The traceback for a log, without the messages: they may name a patient's files."""
    lines = [
        f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    return "\n".join([type(error).__name__, *lines])


def _one_line(text: str) -> str:
    return " ".join(text.split())
