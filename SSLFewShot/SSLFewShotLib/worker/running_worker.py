"""One worker from its start to its end: whether it is ready, late or gone, and what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from SSLFewShotLib.outputs import remove_leftovers
from SSLFewShotLib.worker import protocol
from SSLFewShotLib.worker.handshake import Handshake
from SSLFewShotLib.worker.transport import Transport

_GLANCE = 1.0
"""Seconds between looks at whether the processes are there still; a closed pipe is noticed at once."""
_TO_END = 2.0
"""Seconds for a process that has closed its output to end by itself."""
_TO_LOAD = 5.0
"""Times `start_timeout` that a worker has which has greeted: torch takes minutes from a slow disk."""


class RunningWorker:
    """Started when it is made; to be used by the thread that makes it alone, see `Transport`.

    client: with its command and settings; post: as for `Transport`. Raises OSError or ValueError when the command
    cannot be started.
    """

    def __init__(self, client: Any, post: Callable[[Transport, str, Any], None]) -> None:
        self.pid: int | None = None
        """Its own process number, not its launcher's, once it has said so."""
        self.info: dict | None = None
        """What it says of itself, once it is ready."""
        self.transport = Transport(client.command, client.environment, client.directory, post)
        self.seconds_to_start = client.start_timeout
        self._start_timeout = client.start_timeout
        self._handshake = Handshake(client.name)
        self._ready_until = time.monotonic() + self.seconds_to_start
        self._look_at = time.monotonic() + _GLANCE
        self._seen_gone = False

    def send(self, message: dict) -> None:
        """Have a message written, when the worker reads it."""
        self.transport.send(protocol.encode(message))

    def greeted(self, params: dict) -> None:
        """Take the params of its `hello`, and ask it what it is."""
        question = self._handshake.greeted(params)
        if question is not None:
            self.pid = self._handshake.pid
            self.transport.recognise(self.pid)
            self.seconds_to_start = _TO_LOAD * self._start_timeout
            self._ready_until = time.monotonic() + self.seconds_to_start
            self.send(question)

    def introduced(self, message: dict) -> None:
        """Take its answer to that; it is ready then. Raises Refused."""
        self.info = self._handshake.answered(message)

    def next_look(self) -> float:
        """When `is_late` or `has_gone` may have something else to say, by time.monotonic()."""
        return self._look_at if self.info is not None else min(self._look_at, self._ready_until)

    def is_late(self, now: float) -> bool:
        """Whether it should have been ready by now."""
        return self.info is None and now >= self._ready_until

    def has_gone(self, now: float) -> bool:
        """Whether its processes have ended without a word; looked at once in a while."""
        if now < self._look_at:
            return False
        self._look_at = now + _GLANCE
        # Seen twice: what it said last has been read by then.
        before, self._seen_gone = self._seen_gone, self.transport.has_gone()
        return before and self._seen_gone

    def kill(self) -> None:
        """End its process tree at once."""
        self.transport.kill()

    def finish(self, unfinished: Iterable[dict], grace: float = _TO_END) -> dict:
        """End what is left of it after `grace` seconds; returns what is known, as the data of an error.

        unfinished: params of the requests that it was working on, whose half-written results are removed.
        """
        code = self.transport.finish(grace)
        if self.transport.worker is not None and self.info is not None and self.info.get("shares_disk"):
            for folder in {folder for params in unfinished for folder in _written_to(params)}:
                remove_leftovers(folder, self.transport.worker.pid)
        self._handshake.end()
        return {"command": self.transport.command, "log": list(self.transport.log), "exit_code": code}


def _written_to(params: dict) -> list[Path]:
    """The folders that a request's results are written to; a model is written beside its folder."""
    outputs = [Path(params[name]) for name in ("output", "archive") if isinstance(params.get(name), str)]
    return [folder for output in outputs for folder in (output, output.parent)]
