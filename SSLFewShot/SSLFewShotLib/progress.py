"""Progress: one callable `(fraction, message)` that is handed down through every long computation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Progress = Callable[[float, str], None]
"""Called with a fraction in 0..1 and a message; raises `Cancelled` when the user has cancelled."""


_SECONDS_BETWEEN = 0.2

_Result = TypeVar("_Result")


def ignore_progress(fraction: float, message: str) -> None:
    """Take the reports of a computation that nobody watches."""


def portion(progress: Progress, start: float, end: float) -> Progress:
    """Return a progress callable whose 0..1 fills `start`..`end` of `progress`."""
    if progress is ignore_progress:
        return progress

    def report(fraction: float, message: str) -> None:
        progress(start + (end - start) * min(max(fraction, 0.0), 1.0), message)

    return report


def renamed(progress: Progress, message: str) -> Progress:
    """Return a progress callable that says `message`, whatever it is told."""
    return progress if progress is ignore_progress else lambda fraction, _: progress(fraction, message)


def watched(work: Callable[[], _Result], progress: Progress, fraction: float, message: str) -> _Result:
    """Run a native call that takes seconds and cannot report itself, and report for it meanwhile.

    It runs in a thread of its own, so that it must be one that lets other threads run (NumPy's, SciPy's and ITK's
    do). When `progress` raises, it is left to itself: it must change nothing that is used afterwards, and its
    memory is given back once it has come to its end.
    """
    if progress is ignore_progress:
        return work()
    outcome: list = []
    ended = threading.Event()

    def run() -> None:
        try:
            outcome.extend((work(), None))
        except BaseException as error:
            outcome.extend((None, error))
        ended.set()

    progress(fraction, message)
    threading.Thread(target=run, name="watched", daemon=True).start()
    while not ended.wait(_SECONDS_BETWEEN):
        progress(fraction, message)
    result, error = outcome
    try:
        if error is not None:
            raise error
        return result
    finally:
        del error  # it holds this frame
