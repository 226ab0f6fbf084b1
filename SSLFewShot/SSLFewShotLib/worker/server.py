"""The worker: answers requests on standard input, one heavy one at a time, until its client is gone."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.worker.channel import Channel, take_standard_streams
from SSLFewShotLib.worker.failures import described, ran_out_of_memory, where_raised
from SSLFewShotLib.worker.handler import Context, Handler, checked
from SSLFewShotLib.worker.jobs import Job, JobQueue
from SSLFewShotLib.worker.memory import give_back
from SSLFewShotLib.worker.notices import Notices
from SSLFewShotLib.worker.own_folder import OwnFolder, remove_leftovers
from SSLFewShotLib.worker.parent import watch_parent
from SSLFewShotLib.worker.protocol import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    LONGEST_LINE,
    METHOD_NOT_FOUND,
    REQUEST_CANCELLED,
    ProtocolError,
    TooLong,
    decode,
    encode,
    error,
    is_request,
    notification,
    read_lines,
    result,
)
from SSLFewShotLib.worker.versions import versions
from SSLFewShotLib.worker.warm import Warm

END_GRACE_SECONDS = 2.0
"""How long the running request has, when the worker ends, to notice that it is cancelled."""

CANCEL, SHUTDOWN = "$/cancelRequest", "shutdown"

LOADED_AT_START = "SSLFewShotLib.segmentation.job"


class Server:
    """Reads requests, answers light ones at once and heavy ones in turn.

    lines: the client's messages; stream_out: takes the answers; own_folder: removed at the end.
    """

    def __init__(self, lines: BinaryIO, stream_out: BinaryIO, own_folder: OwnFolder):
        self._lines = lines
        self._channel = Channel(stream_out, self.end)
        self._own_folder = own_folder
        self._methods: Mapping[str, Handler] = {}
        self._queue = JobQueue()
        self._warm = Warm()
        self._notices = Notices(self.log)
        self._loaded = threading.Event()
        self._ending = threading.Lock()
        self._ended = False
        self._last_answer: dict[str, Any] | None = None

    def log(self, level: str, message: str) -> None:
        """Send a line for the client's log."""
        self._channel.send(notification("log", {"level": level, "message": message}))

    def hello(self) -> None:
        """Say who is there, before anything slow is done."""
        self._channel.send(
            notification(
                "hello", {"pid": os.getpid(), "versions": versions(), "python": platform.python_version()}
            )
        )

    def run(self) -> None:
        """Work until the client is gone or says `shutdown`."""
        from SSLFewShotLib.worker.methods import all_methods

        self._notices.install()
        self._methods = all_methods()
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        remove_leftovers()
        self._load()
        while (job := self._queue.take()) is not None:
            self._work(job)
            give_back()
        self._say_goodbye()

    def end(self) -> None:
        """Cancel everything and have `run` return; a process that does not get there in time is ended."""
        with self._ending:
            if self._ended:
                return
            self._ended = True
        self._queue.close()
        threading.Thread(target=self._end_by_force, name="end", daemon=True).start()

    def _end_by_force(self) -> None:
        time.sleep(END_GRACE_SECONDS)
        self._say_goodbye()
        os._exit(1)

    def _say_goodbye(self) -> None:
        self._own_folder.remove()
        with self._ending:
            answer, self._last_answer = self._last_answer, None
        if answer is not None:
            self._channel.send(answer)

    def _load(self) -> None:
        """Import what every request needs, in this thread only: two that import the same can hinder each other."""
        try:
            importlib.import_module(LOADED_AT_START)
        except Exception as problem:  # the request that needs it will say so
            self.log("error", f"{LOADED_AT_START} could not be loaded: {where_raised(problem)}")
        if "SimpleITK" in sys.modules:
            # ITK's own warnings go past Python to standard error, with the names of the files.
            sys.modules["SimpleITK"].ProcessObject.GlobalWarningDisplayOff()
        gc.freeze()  # what is loaded stays: to look through it after each request would take a tenth of a second
        self._loaded.set()

    def _read(self) -> None:
        for line in read_lines(self._lines):
            if self._ended:
                return
            try:
                self._receive(line)
            except ProtocolError as problem:
                self._channel.send(error(problem.id, problem.code, problem.message, {"type": "ProtocolError"}))
            except Exception as problem:  # whatever a message holds, the next one is read
                self.log("error", where_raised(problem))
        self.end()

    def _receive(self, line: bytes | TooLong) -> None:
        if isinstance(line, TooLong):
            raise ProtocolError(
                INVALID_REQUEST, f"a message of {line.length} bytes came; at most {LONGEST_LINE} are taken"
            )
        message = decode(line)
        if "method" not in message:
            return
        method, params, id = message["method"], message["params"], message.get("id")
        if method == CANCEL:
            self._cancel(params.get("id"))
        elif not is_request(message):
            self.log("warning", f"{method!r:.80} came without an id, and was left alone")
        elif id is None:
            raise ProtocolError(INVALID_REQUEST, "'id' is null; a whole number or a text was expected")
        elif method == SHUTDOWN:
            self._last_answer = result(id, None)
            self.end()
        else:
            self._accept(id, method, params)

    def _accept(self, id: int | str, method: str, params: dict[str, Any]) -> None:
        if self._queue.holds(id):
            raise ProtocolError(
                INVALID_REQUEST, f"a request with the id {id!r:.80} is being worked on already", id
            )
        handler = self._methods.get(method)
        if handler is None:
            there = ", ".join(self._methods)
            raise ProtocolError(METHOD_NOT_FOUND, f"no method is called {method!r:.80}; there are {there}", id)
        try:
            params = checked(params, handler.params)
        except ProtocolError as problem:
            problem.id = id
            raise
        job = Job(id, method, handler, params, self._channel.send)
        if handler.light and self._loaded.is_set():
            self._work(job)
            return
        before = self._queue.put(job)
        if before is not None:
            job.tell(0.0, f"waiting for {before.method} to end")

    def _cancel(self, id: Any) -> None:
        """One that waits is answered here; the one that runs answers itself; a finished or unknown one is left."""
        job = self._queue.cancel(id)
        if job is not None:
            self._channel.send(error(job.id, REQUEST_CANCELLED, "cancelled", {"type": "Cancelled"}))

    def _work(self, job: Job) -> None:
        """Run a job and answer it, whatever happens."""
        job.start()
        texts: list[str] = []
        with self._notices.of_request(job.title, job.params, texts):
            line, full_memory = self._answer(job, texts)
        if full_memory:
            # Here, where nothing holds on any more to what the failed computation had.
            self._warm.clear()
        # Before the answer: its reader must not be told to wait for what has ended.
        self._queue.done(job)
        self._channel.write(line)

    def _answer(self, job: Job, texts: list[str]) -> tuple[bytes, bool]:
        """The line that answers a job, and whether memory ran out."""
        try:
            if job.cancelled.is_set():
                raise Cancelled
            if not job.handler.light:
                job.tell(0.0, "starting")
            context = Context(job.report, self._own_folder.path, self._warm, self.log, texts)
            value = job.handler.run(job.params, context)
            job.tell_last()
            if texts and isinstance(value, dict):
                value = {**value, "warnings": [*value.get("warnings", []), *texts]}
            return encode(result(job.id, value)), False
        except BaseException as problem:  # a library's sys.exit() too
            code, message, data = described(problem)
            if texts:
                data["warnings"] = texts
            if code == INTERNAL_ERROR:
                self.log("error", f"{job.title} failed: {where_raised(problem)}")
            return encode(error(job.id, code, message, data)), ran_out_of_memory(problem)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker on standard input and output; returns the exit code."""
    parent = os.getppid()
    description = "SSLFewShot's worker: JSON-RPC 2.0 on standard input and output, one object a line."
    argparse.ArgumentParser("sslfewshot worker", description=description).parse_args(argv)
    server = Server(*take_standard_streams(), OwnFolder())
    server.hello()
    watch_parent(server.end, parent)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            # In a thread: the handler interrupts whatever lock the main thread holds.
            signal.signal(getattr(signal, name), lambda *_: threading.Thread(target=server.end).start())
    # Ctrl-C in a terminal is meant for the client, which cancels. Not SIG_IGN: what is started would inherit that.
    signal.signal(signal.SIGINT, lambda *_: None)
    server.run()
    return 0
