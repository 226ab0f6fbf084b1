"""The application's side of the worker: starts it, asks it, and outlives it.

Pure standard library of Python 3.9, no Qt: the application runs this file in its own process, and calls `drain`
from a timer. Callbacks run there and in `Request.result` only, never in another thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from SSLFewShotLib.worker import protocol
from SSLFewShotLib.worker.remembered_supports import RememberedSupports
from SSLFewShotLib.worker.request import OnProgress, Request, WorkerError, WorkerLost
from SSLFewShotLib.worker.supervisor import Supervisor

__all__ = ["Request", "WorkerClient", "WorkerError", "WorkerLost"]

_KEPT_LOG_LINES = 1000


class WorkerClient:
    """One worker, started by any command that speaks the protocol on standard input and output.

    It is started by the first request, and again by the first one after it was lost; support sets that were given
    to it are given again then. Callbacks run in the thread that drains; `close` may be called from any.

    Args:
        command: program and arguments, such as ["python", "-u", "-m", "SSLFewShotLib.worker"] or
            ["ssh", "host", "sslfewshot worker"].
        environment: additions to this process's; None as a value leaves a variable out.
        directory: that the worker starts in; default: this process's.
        start_timeout: seconds that the worker has for its first message; five times as long for loading torch.
        cancel_grace: seconds that it has to end what was cancelled, before it is killed.
        on_log: called with each line of the worker's log.
        name: of this client, as the worker's log has it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str | None] | None = None,
        directory: str | None = None,
        start_timeout: float = 60.0,
        cancel_grace: float = 1.5,
        on_log: Callable[[str], None] | None = None,
        name: str = "python",
    ) -> None:
        if isinstance(command, (str, bytes)) or not command:
            raise TypeError("command: a sequence of program and arguments was expected")
        self.command = [str(part) for part in command]
        self.environment = dict(environment or {})
        self.directory = None if directory is None else str(directory)
        self.start_timeout = start_timeout
        self.cancel_grace = cancel_grace
        self.name = name
        self._on_log = on_log
        self._numbers = count(1)
        self._due: deque[Callable[[], None]] = deque()
        self._lines: deque[str] = deque(maxlen=_KEPT_LOG_LINES)
        self._wake = threading.Condition()
        self._supports = RememberedSupports(self)
        self._supervisor: Supervisor | None = None
        # Nothing may be told to a supervisor after "close". Taken again by a signal's handler, perhaps.
        self._telling = threading.RLock()

    @property
    def running(self) -> bool:
        """Whether there is a process now; it may be starting still."""
        supervisor = self._supervisor
        return supervisor is not None and supervisor.worker is not None

    @property
    def pid(self) -> int | None:
        """The worker's own process number, not its launcher's, once it has said so (behind ssh: over there)."""
        supervisor = self._supervisor
        worker = None if supervisor is None else supervisor.worker
        return None if worker is None else worker.pid

    @property
    def info(self) -> dict | None:
        """What the running worker said of itself (the result of `initialize`), or None before that."""
        supervisor = self._supervisor
        return None if supervisor is None else supervisor.info

    def start(self) -> dict:
        """Start the worker unless it runs, wait until it is ready, and return the result of `initialize`.

        Raises WorkerLost when it cannot be started.
        """
        request = Request(self, next(self._numbers), "initialize", {})
        self._tell("start", request)
        return request.result()

    def request(self, method: str, params: dict | None = None, on_progress: OnProgress | None = None) -> Request:
        """Ask for something; returns at once. What goes wrong is said by the request, not raised here.

        on_progress: called with (fraction, message, remaining seconds or None); raising Cancelled cancels. Raises
        only TypeError and ProtocolError, for params that do not go into a message.
        """
        params = dict(params or {})
        protocol.encode(protocol.request(None, method, params))
        request = Request(self, next(self._numbers), method, params, on_progress)
        self._tell("submit", request)
        return request

    def drain(self, timeout: float = 0.0) -> int:
        """Run the callbacks that are due, in this thread, and return how many; waits `timeout` s for the first."""
        with self._wake:
            if not self._due and timeout > 0:
                self._wake.wait(timeout)
        ran = 0
        for _ in range(len(self._due)):
            try:
                callback = self._due.popleft()
            except IndexError:  # a callback has drained as well
                break
            ran += 1
            callback()
        return ran

    def cancel(self, request: Request) -> None:
        """Cancel one request, see `Request.cancel`."""
        if not request.done():
            self._tell("cancel", request)

    def cancel_all(self) -> None:
        """Cancel every request that has not ended."""
        if self._supervisor is not None:
            self._tell("cancel", None)

    def close(self, timeout: float = 3.0) -> None:
        """End the worker: it is asked to, and killed after `timeout` seconds. What has not ended is cancelled.

        Blocks until it is gone. A later request starts it again.
        """
        with self._telling:
            supervisor, self._supervisor = self._supervisor, None
            if supervisor is not None:
                supervisor.tell("close", timeout)
        if supervisor is not None:
            supervisor.join()

    # For the supervisor and the requests, from any thread.

    def call_later(self, callback: Callable[[], None]) -> None:
        """Have something called by the next `drain`."""
        with self._wake:
            self._due.append(callback)
            self._wake.notify_all()

    def log(self, line: str) -> None:
        """Pass on a line of the worker's log; when nobody drains, only the last ones are kept."""
        if self._on_log is not None:
            self._lines.append(line)
            if len(self._lines) == 1:
                self.call_later(self._run_log)

    def _run_log(self) -> None:
        while self._lines:
            self._on_log(self._lines.popleft())

    def _tell(self, kind: str, what: Any) -> None:
        with self._telling:
            if self._supervisor is None:
                self._supervisor = Supervisor(self, self._supports)
            self._supervisor.tell(kind, what)
