"""Progress: one callable `(fraction, message)` that is handed down through every long computation."""

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Called with a fraction in 0..1 and a message; raises `Cancelled` when the user has cancelled."""


def ignore_progress(fraction: float, message: str) -> None:
    """Take the reports of a computation that nobody watches."""


def portion(progress: Progress, start: float, end: float) -> Progress:
    """Return a progress callable whose 0..1 fills `start`..`end` of `progress`."""

    def report(fraction: float, message: str) -> None:
        progress(start + (end - start) * min(max(fraction, 0.0), 1.0), message)

    return report
