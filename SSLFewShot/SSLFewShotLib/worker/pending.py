"""The requests that have not ended: those not sent yet, those that the worker has, and those to be cancelled."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from SSLFewShotLib.worker.request import CANCELLED, FAILED, RUNNING, WAITING, Request


class Pending:
    """`waiting`: in the order to be sent; `sent`: by id, in the order it was done; `deadlines`: of cancelled."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []
        self.sent: dict[Any, Request] = {}
        self.deadlines: dict[Request, float] = {}

    def add(self, request: Request) -> None:
        """Take one that is to be sent."""
        self.waiting.append(request)

    def send(self, request: Request) -> None:
        """Note that the worker has it now."""
        if request in self.waiting:
            self.waiting.remove(request)
        self.sent[request.id] = request
        self._mark_running()

    def answered(self, id: Any) -> Request | None:
        """Take out the one that was answered; None when there is none with this id (any more)."""
        request = self.sent.pop(id, None)
        if request is not None:
            self.deadlines.pop(request, None)
            self._mark_running()
        return request

    def cancel(self, request: Request, grace: float) -> bool:
        """Cancel one; whether the worker has to be told, which has `grace` seconds to answer."""
        if request in self.waiting:
            self.waiting.remove(request)
            request.end(CANCELLED)
        elif self.sent.get(request.id) is request and request not in self.deadlines:
            self.deadlines[request] = time.monotonic() + grace
            return True
        return False

    def overdue(self, now: float) -> bool:
        """Whether the worker has to be ended, as it has not stopped in time what it was to stop.

        One behind another that it computes is given up instead: it was told before its turn.
        """
        for request in [each for each, moment in self.deadlines.items() if moment <= now]:
            others = [each for each in self.sent.values() if each is not request and each.state == RUNNING]
            if request.state == RUNNING or not others:
                return True
            del self.deadlines[request], self.sent[request.id]
            request.end(CANCELLED)
        return False

    def worker_lost(self, by_itself: bool) -> list[Request]:
        """Settle what the worker had; returns those that must be told, all others wait to be sent again.

        by_itself: the worker died, of what it computed as far as anybody knows. Else it was ended because of one
        that was to be cancelled, and none of the others is to blame.
        """
        lost, self.sent = list(self.sent.values()), {}
        cancelled, self.deadlines = set(self.deadlines), {}
        for request in cancelled:
            request.end(CANCELLED)
        lost = [request for request in lost if request not in cancelled]
        blamed = []
        if by_itself and not any(request.state == RUNNING for request in cancelled):
            # Never none: a request that ends every worker would be sent for ever.
            blamed = [request for request in lost if request.state == RUNNING] or lost[:1]
        again = [request for request in lost if request not in blamed]
        for request in again:
            request.state = WAITING
            request.report(0.0, "waiting for the worker to be started again")
        self.waiting[:0] = again
        return blamed

    def fail(self, requests: Iterable[Request], error: Exception) -> None:
        """End requests with an error; those that wait are not sent."""
        for request in list(requests):
            if request in self.waiting:
                self.waiting.remove(request)
            request.end(FAILED, error=error)

    def cancel_everything(self) -> None:
        """End all there is, as the worker is gone for good."""
        for request in [*self.waiting, *self.sent.values()]:
            request.end(CANCELLED)
        self.waiting, self.sent, self.deadlines = [], {}, {}

    def _mark_running(self) -> None:
        """The first that the worker has is being computed, as long as it has not said otherwise."""
        if self.sent and not any(request.state == RUNNING for request in self.sent.values()):
            next(iter(self.sent.values())).state = RUNNING
