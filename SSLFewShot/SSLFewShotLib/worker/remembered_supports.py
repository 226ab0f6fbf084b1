"""The support sets that a client has given to its workers, so that a new worker can be given them again."""

from __future__ import annotations

from typing import Any

from SSLFewShotLib.worker import protocol
from SSLFewShotLib.worker.request import Request, WorkerError

METHOD = "support/set"


class RememberedSupports:
    """Params of `support/set` by the name that it returned, and which of them the present worker has."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._params: dict[str, dict] = {}
        self._known: set[str] = set()
        self._on_the_way: dict[str, Request] = {}

    def remember(self, request: Request, value: Any) -> None:
        """Take the result of any request; that of a `support/set` is kept."""
        if request.method == METHOD and isinstance(value, dict) and isinstance(value.get("support"), str):
            self._params[value["support"]] = request.params
            self._known.add(value["support"])

    def missing_for(self, request: Request) -> str | None:
        """The support set that a request names and the worker has lost; None when it lacks nothing."""
        name = request.params.get("support")
        if not isinstance(name, str) or name not in self._params or name in self._known:
            return None
        return name

    def give_again(self, name: str) -> Request | None:
        """The request that gives it again, or None when one is on its way."""
        if name in self._on_the_way:
            return None
        number = f"{METHOD} {name}"
        self._on_the_way[name] = Request(self._client, number, METHOD, self._params[name])
        return self._on_the_way[name]

    def given_by(self, request: Request) -> str | None:
        """Which support set a request gives again; None for a request of the caller's."""
        return next((name for name, sent in self._on_the_way.items() if sent is request), None)

    def arrived(self, name: str, value: Any, error: WorkerError | None) -> WorkerError | None:
        """Take the answer to `give_again`; returns the error for those that wait for it, None when all is well."""
        del self._on_the_way[name]
        if error is not None:
            return error
        if isinstance(value, dict) and value.get("support") == name:
            self._known.add(name)
            return None
        return WorkerError(
            protocol.WRONG_INPUT,
            "the labelled scans have changed since they were given as support, and the worker that had them is "
            "gone; give them as support once more",
            {"type": "InputError"},
        )

    def worker_lost(self) -> None:
        """The next worker knows none of them."""
        self._known.clear()
        self._on_the_way.clear()
