"""A request to the worker: what the caller holds while it is computed, like a future with progress.

Pure standard library of Python 3.9. Fields are set by the client's own thread; callbacks run in the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.worker import protocol

OnProgress = Callable[[float, str, Any], None]
"""Called with fraction (0..1), message and the seconds that remain, or None where nobody knows."""

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
_GLANCE = 0.1


class WorkerError(Exception):
    """The worker's answer to a request that failed: `code` (see `protocol`), `message`, `data` (a dict)."""

    def __init__(self, code: int, message: str, data: dict | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = dict(data or {})


class WorkerLost(WorkerError):  # noqa: N818 - what has happened, as a user would say it
    """The worker could not be started, or ended before it had answered; `message` says why and what to do.

    `data` has "command", "log" (the last lines) and "exit_code" (None where it is not known).
    """

    def __init__(self, message: str, data: dict | None = None) -> None:
        super().__init__(protocol.WORKER_LOST, message, {"type": "WorkerLost", **(data or {})})


def answered_error(message: dict) -> WorkerError | None:
    """The error in an answer of the worker, or None when it holds a result."""
    described = message.get("error")
    return (
        None if described is None else WorkerError(described["code"], described["message"], described.get("data"))
    )


class Request:
    """One call of a method; `WorkerClient.request` makes it.

    state: "waiting", "running", "done", "failed" or "cancelled". fraction 0..1, message: what was reported last.
    elapsed, remaining: seconds, as the worker says; None where it has not (yet) said.
    """

    def __init__(
        self, client: Any, id: Any, method: str, params: dict, on_progress: OnProgress | None = None
    ) -> None:
        self.id = id
        self.method = method
        self.params = params
        self.state = WAITING
        self.fraction = 0.0
        self.message = ""
        self.elapsed: float | None = None
        self.remaining: float | None = None
        self._client = client
        self._on_progress = on_progress
        self._progress_is_due = False
        self._callbacks: list[Callable[[Request], None]] = []
        self._value: Any = None
        self._error: Exception | None = None

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state in (DONE, FAILED, CANCELLED)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the answer, run callbacks that are due meanwhile, and return it.

        Raises WorkerError (WorkerLost when the worker died), Cancelled, and TimeoutError when `timeout` seconds
        were not enough; the request goes on then.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._value

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait like `result`, and return what that would raise, or None. Raises TimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.done():
            left = _GLANCE if deadline is None else min(_GLANCE, deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"{self.method}: no answer after {timeout} s")
            self._client.drain(left)
        self._client.drain()
        return self._error

    def cancel(self) -> None:
        """Ask for its end. What has ended already stays as it is."""
        self._client.cancel(self)

    def add_done_callback(self, callback: Callable[[Request], None]) -> None:
        """Have `callback(request)` called once it has ended, by `WorkerClient.drain` in the caller's thread."""
        self._callbacks.append(callback)
        if self.done():
            self._client.call_later(self._run_callbacks)

    # For the client's thread alone.

    def report(self, fraction: float, message: str, elapsed: float | None = None, remaining: float | None = None):
        """Take a report of progress; the caller is told of the last one only, however many come between."""
        self.fraction, self.message, self.elapsed, self.remaining = fraction, message, elapsed, remaining
        if self._on_progress is not None and not self._progress_is_due:
            self._progress_is_due = True
            self._client.call_later(self._run_progress)

    def end(self, state: str, value: Any = None, error: Exception | None = None) -> None:
        """Take the answer. The first one counts."""
        if self.done():
            return
        self._value = value
        self._error = Cancelled(f"{self.method} was cancelled") if state == CANCELLED else error
        self.state = state
        # Even without callbacks: it wakes who waits for the answer.
        self._client.call_later(self._run_callbacks)

    def _run_progress(self) -> None:
        self._progress_is_due = False
        try:
            self._on_progress(self.fraction, self.message, self.remaining)
        except Cancelled:
            self.cancel()

    def _run_callbacks(self) -> None:
        while self._callbacks:
            self._callbacks.pop(0)(self)
