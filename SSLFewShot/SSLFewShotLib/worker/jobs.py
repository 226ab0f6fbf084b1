"""Requests that wait for their turn, and what the one that runs tells of its progress."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.worker.handler import Handler
from SSLFewShotLib.worker.protocol import notification

_SECONDS_BETWEEN = 0.1
_REMAINING_FROM = 0.02
"""Fraction from which the time that is left can be told from the time that has passed."""


@dataclass(eq=False)
class Job:
    """One request. cancelled: set by whoever wants it to end; `report` then raises."""

    id: int | str
    method: str
    handler: Handler
    params: dict[str, Any]
    send: Callable[[dict[str, Any]], None]
    began: float = field(default_factory=time.monotonic)
    cancelled: threading.Event = field(default_factory=threading.Event)
    _told: float = float("-inf")
    _untold: tuple[float, str] | None = None

    @property
    def title(self) -> str:
        return f"{self.method} (request {self.id})"

    def start(self) -> None:
        """Count the time from now on."""
        self.began, self._told = time.monotonic(), float("-inf")

    def report(self, fraction: float, message: str) -> None:
        """The `Progress` of the job: tell it at most ten times a second; raise Cancelled once it is."""
        if self.cancelled.is_set():
            raise Cancelled
        now = time.monotonic()
        self._untold = min(max(float(fraction), 0.0), 1.0), message
        if now - self._told >= _SECONDS_BETWEEN:
            self._told = now
            self.tell_last()

    def tell_last(self) -> None:
        """Send what was reported last, unless it was told: how a job has ended must not get lost between two."""
        last, self._untold = self._untold, None
        if last is not None:
            self.tell(*last)

    def tell(self, fraction: float, message: str) -> None:
        """Send how far it is, in any case."""
        elapsed = time.monotonic() - self.began
        remaining = elapsed * (1 - fraction) / fraction if fraction >= _REMAINING_FROM else None
        self.send(
            notification(
                "progress",
                {
                    "id": self.id,
                    "fraction": round(fraction, 4),
                    "message": message,
                    "elapsed": round(elapsed, 2),
                    "remaining": None if remaining is None else round(remaining, 1),
                },
            )
        )


class JobQueue:
    """First come, first served, one at a time; any thread may put, cancel and close, one takes."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, job: Job) -> Job | None:
        """Add a job; returns the one right before it, None when it is its turn at once."""
        with self._changed:
            before = self._waiting[-1] if self._waiting else self._running
            self._waiting.append(job)
            if self._closed:
                job.cancelled.set()
            self._changed.notify()
            return before

    def take(self) -> Job | None:
        """Wait for the next job, which is the running one until `done`; None once closed and empty."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            self._running = self._waiting.popleft() if self._waiting else None
            return self._running

    def done(self, job: Job) -> None:
        """A job, if it is the running one, is worked on no more."""
        with self._changed:
            if job is self._running:
                self._running = None

    def holds(self, id: int | str) -> bool:
        """Whether a job of that id waits or runs."""
        with self._changed:
            return any(job.id == id for job in self._all())

    def cancel(self, id: Any) -> Job | None:
        """Cancel the job of that id; returns it when it was still waiting and is out of the queue now."""
        with self._changed:
            for job in self._all():
                if job.id == id and type(job.id) is type(id):
                    job.cancelled.set()
                    if job is not self._running:
                        self._waiting.remove(job)
                        return job
        return None

    def close(self) -> None:
        """Cancel all jobs and take no more; those that wait still come out of `take`, to be answered."""
        with self._changed:
            self._closed = True
            for job in self._all():
                job.cancelled.set()
            self._changed.notify_all()

    def _all(self) -> list[Job]:
        return [*self._waiting, *([self._running] if self._running else [])]
