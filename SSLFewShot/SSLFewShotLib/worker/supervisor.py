"""The client's own thread: it alone starts, hears and ends the worker, and knows which request is where.

Everything comes to it as an event in one queue, so that nothing here needs a lock, and a worker that hangs is
noticed even when the application does not drain. It lives from the first request until the client is closed: on
Linux a worker may be tied to the thread that started it.
"""

from __future__ import annotations

import queue
import shlex
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from SSLFewShotLib.worker import protocol
from SSLFewShotLib.worker.exit_reason import explain_exit, last_words, remedy_at_start
from SSLFewShotLib.worker.handshake import REQUEST_ID, Refused
from SSLFewShotLib.worker.pending import Pending
from SSLFewShotLib.worker.remembered_supports import RememberedSupports
from SSLFewShotLib.worker.request import (
    CANCELLED,
    DONE,
    FAILED,
    RUNNING,
    WAITING,
    Request,
    WorkerLost,
    answered_error,
)
from SSLFewShotLib.worker.running_worker import RunningWorker
from SSLFewShotLib.worker.transport import Transport

QUEUED = "waiting for "
"""How the message of a request starts that the worker has put behind another one."""


class Supervisor:
    """See above. client: whose settings and callbacks count; supports: what it has given to workers so far."""

    def __init__(self, client: Any, supports: RememberedSupports) -> None:
        self.worker: RunningWorker | None = None
        self._client = client
        # Of the kind that may be put into from within a signal handler.
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._starting: list[Request] = []
        self._pending = Pending()
        self._supports = supports
        self._supports.worker_lost()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="worker supervisor", daemon=True)
        self._thread.start()

    @property
    def info(self) -> dict | None:
        """What the worker says of itself; None as long as it is not ready. From any thread."""
        worker = self.worker
        return None if worker is None else worker.info

    def tell(self, kind: str, what: Any) -> None:
        """Post ("start" or "submit", request), ("cancel", request or None for all) or ("close", seconds)."""
        self._events.put((kind, what))

    def join(self) -> None:
        """Wait until it has ended, after "close"."""
        self._thread.join()

    def _run(self) -> None:
        handlers = {
            "start": self._on_start,
            "submit": self._pending.add,
            "cancel": self._on_cancel,
            "close": self._on_close,
            "message": self._on_message,
            "log": self._on_log,
            "closed": self._on_closed,
        }
        while not self._closing:
            try:
                kind, what = self._events.get(timeout=self._until_next())
            except queue.Empty:
                pass
            else:
                self._guarded(handlers[kind], what)
            self._guarded(self._look)
            self._guarded(self._pump)

    def _guarded(self, work: Callable[..., None], *what: Any) -> None:
        """Whatever goes wrong in this thread, nobody must wait for ever."""
        try:
            work(*what)
        except Exception as error:
            self._client.log(traceback.format_exc())
            self._pending.fail([*self._starting, *self._pending.waiting, *self._pending.sent.values()], error)

    def _until_next(self) -> float | None:
        """Seconds until something is to be looked at, or None when only an event can change anything."""
        if self.worker is None:
            return None
        return max(0.0, min([self.worker.next_look(), *self._pending.deadlines.values()]) - time.monotonic())

    # What the application asks for

    def _on_start(self, request: Request) -> None:
        if self.info is not None:
            request.end(DONE, self.info)
            return
        self._starting.append(request)
        self._start()

    def _on_cancel(self, request: Request | None) -> None:
        everything = [*self._pending.waiting, *self._pending.sent.values()]
        for each in everything if request is None else [request]:
            if self._pending.cancel(each, self._client.cancel_grace):
                self.worker.send(protocol.notification("$/cancelRequest", {"id": each.id}))

    def _on_close(self, timeout: float) -> None:
        self._closing = True
        if self.worker is not None:
            for number in self._pending.sent:
                self.worker.send(protocol.notification("$/cancelRequest", {"id": number}))
            if self.info is not None:
                self.worker.send(protocol.request("shutdown", "shutdown"))
            self._end_worker(timeout)
        for request in self._starting:
            request.end(CANCELLED)
        self._pending.cancel_everything()

    # What the worker says

    def _post(self, transport: Transport, kind: str, what: Any) -> None:
        self._events.put((kind, (transport, what)))

    def _is_of_this_worker(self, transport: Transport) -> bool:
        return self.worker is not None and self.worker.transport is transport

    def _on_log(self, what: tuple[Transport, str]) -> None:
        self._client.log(what[1])

    def _on_closed(self, what: tuple[Transport, None]) -> None:
        if self._is_of_this_worker(what[0]):
            self._lose()

    def _on_message(self, what: tuple[Transport, dict]) -> None:
        transport, message = what
        if not self._is_of_this_worker(transport):
            return
        params = message.get("params", {})
        method = message.get("method")
        if method == "hello":
            self.worker.greeted(params)
        elif method == "progress":
            self._on_progress(params)
        elif method == "log":
            self._client.log(f"{params.get('level', 'info')}: {params.get('message', '')}")
        elif method is None and message.get("id") == REQUEST_ID:
            self._on_initialized(message)
        elif method is None:
            self._on_answer(message)

    def _on_initialized(self, message: dict) -> None:
        if self.info is None:
            try:
                self.worker.introduced(message)
            except Refused as refusal:
                self._lose(*refusal.args)
                return
            for request in self._starting:
                request.end(DONE, self.info)
            self._starting.clear()

    def _on_progress(self, params: dict) -> None:
        number, fraction = params.get("id"), params.get("fraction")
        request = self._pending.sent.get(number) if isinstance(number, (int, str)) else None
        if request is None or not isinstance(fraction, (int, float, type(None))):
            return
        message = str(params.get("message", ""))
        request.state = WAITING if message.startswith(QUEUED) else RUNNING
        request.report(fraction or 0.0, message, params.get("elapsed"), params.get("remaining"))
        for each in self._waiting_for(self._supports.given_by(request)):
            each.report(0.0, message)

    def _on_answer(self, message: dict) -> None:
        request = self._pending.answered(message.get("id"))
        if request is None:
            return
        error = answered_error(message)
        support = self._supports.given_by(request)
        if support is not None:
            error = self._supports.arrived(support, message.get("result"), error)
            if error is not None:
                self._pending.fail(self._waiting_for(support), error)
        elif error is None:
            self._supports.remember(request, message["result"])
            request.end(DONE, message["result"])
        elif error.code == protocol.REQUEST_CANCELLED:
            request.end(CANCELLED)
        else:
            request.end(FAILED, error=error)

    # Starting and sending

    def _start(self) -> None:
        if self.worker is not None:
            return
        try:
            self.worker = RunningWorker(self._client, self._post)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            place = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
            self._fail_start(f"could not be started: {reason}{place}", "check that this command exists", {})

    def _pump(self) -> None:
        """Send what waits, as far as the worker is ready for it; it is started for that when it does not run."""
        if self._closing or not self._pending.waiting:
            return
        self._start()
        if self.info is None:
            return
        for request in list(self._pending.waiting):
            support = self._supports.missing_for(request)
            if support is None:
                self._dispatch(request)
                continue
            again = self._supports.give_again(support)
            if again is not None:
                self._dispatch(again)

    def _dispatch(self, request: Request) -> None:
        self._pending.send(request)
        self.worker.send(protocol.request(request.id, request.method, request.params))

    def _waiting_for(self, support: str | None) -> list[Request]:
        if support is None:
            return []
        return [request for request in self._pending.waiting if request.params.get("support") == support]

    # Losing it

    def _look(self) -> None:
        """Act on what has taken too long, and on processes that have gone without a word."""
        if self.worker is None:
            return
        now = time.monotonic()
        if self.worker.is_late(now):
            self._lose(
                f"was not ready within {self.worker.seconds_to_start:g} s",
                'try the command in a terminal: it should print a line with "hello"',
            )
        elif self._pending.overdue(now):
            self._client.log("the worker did not stop when it was asked to, and is ended")
            self.worker.kill()
            self._end_worker()
            self._pending.worker_lost(by_itself=False)
            self._forget_supports()
        elif self.worker.has_gone(now):
            self._lose()

    def _lose(self, what: str | None = None, remedy: str = "") -> None:
        """The worker has gone, or has to: say so to those who must know.

        what, remedy: why it has to, and what to do about it; None: found from how it ended.
        """
        if what is not None:
            self.worker.kill()
        was_ready = self.info is not None
        data = self._end_worker()
        if what is None:
            what, remedy = explain_exit(data["exit_code"])
            remedy = remedy if was_ready else remedy_at_start(data["exit_code"], data.get("log") or ())
        if not was_ready:
            self._fail_start(what, remedy, data)
            return
        self._client.log(f"the worker {what}")
        for request in self._pending.worker_lost(by_itself=True):
            error = WorkerLost(f"the worker {what} during {request.method}{_last_words(data)}; {remedy}", data)
            support = self._supports.given_by(request)
            self._pending.fail([request, *self._waiting_for(support)], error)
        self._forget_supports()

    def _forget_supports(self) -> None:
        """The next worker knows none; they are given again when they are asked for."""
        for request in [each for each in self._pending.waiting if self._supports.given_by(each) is not None]:
            self._pending.waiting.remove(request)
        self._supports.worker_lost()

    def _fail_start(self, what: str, remedy: str, data: dict) -> None:
        """Nobody gets an answer from a worker that does not start."""
        command = shlex.join(self._client.command)
        error = WorkerLost(
            f"the worker {what} when it was started with: {command}{_last_words(data)}; {remedy}",
            {"command": self._client.command, "log": [], "exit_code": None, **data},
        )
        self._client.log(str(error))
        self._pending.fail([*self._starting, *self._pending.waiting], error)
        self._starting.clear()

    def _end_worker(self, *grace: float) -> dict:
        """End what is left of it, and know of none any more; returns the data of an error about it."""
        data = self.worker.finish([request.params for request in self._pending.sent.values()], *grace)
        self.worker = None
        return data


def _last_words(data: dict) -> str:
    return f" (its last words: {' / '.join(last_words(data['log']))})" if data.get("log") else ""
