"""A worker's process and its three pipes, each served by a thread of its own, so that none can hold up another."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from SSLFewShotLib.worker import process_tree, protocol

KEPT_LINES = 50
_LONGEST_LOG_LINE = 4096
_PACKAGES = ("site-packages", "dist-packages")


class Transport:
    """A process that speaks the protocol on its standard input and output.

    `post(transport, kind, payload)` is called from the reading threads: ("message", dict), ("log", text), and at
    last ("closed", None), when nothing more can come. Raises OSError when the command cannot be started.

    The thread that makes a Transport must live as long: Linux can tie a process to the thread that started it.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str | None],
        directory: str | None,
        post: Callable[[Transport, str, Any], None],
    ) -> None:
        self.command = [str(part) for part in command]
        self.log: deque[str] = deque(maxlen=KEPT_LINES)
        self.killed = False
        self.worker: process_tree.Process | None = None
        self._post = post
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env=worker_environment(environment),
            **_apart_from_the_terminal(),
        )
        self.launcher = process_tree.find(self._process.pid)
        self._log_reader = self._thread(self._read_log, "log")
        self._thread(self._read, "reader")
        self._thread(self._write, "writer")

    def send(self, line: bytes) -> None:
        """Have a line written, when the worker reads it."""
        self._outbox.put(line)

    def end_input(self) -> None:
        """Close the worker's standard input once all has been written."""
        self._outbox.put(None)

    def recognise(self, pid: int) -> None:
        """Take the number that the worker gives as its own, if it is one of a process that was started from here.

        Behind ssh it is a number of another machine, which may be anybody's here.
        """
        if self.launcher is not None:
            named = [process for process in process_tree.tree(self.launcher) if process.pid == pid]
            self.worker = named[0] if named else None

    def has_gone(self) -> bool:
        """Whether launcher or worker has ended, even if something holds the pipes open still."""
        if self.launcher is None or not _is_running(self._process, self.launcher):
            return True
        return self.worker not in (None, self.launcher) and not process_tree.is_running(self.worker)

    def kill(self) -> None:
        """End the process tree at once."""
        self.killed = True
        also = [process for process in (self.launcher, self.worker) if process is not None]
        started = self.launcher.started if self.launcher is not None else None
        process_tree.kill_tree(self._process.pid, started, also)

    def finish(self, grace: float) -> int | None:
        """Give the process `grace` seconds to end, kill what is left of its tree, and return the exit code.

        None when it did not end by itself: the code of a killed launcher says nothing about the worker.
        """
        self.end_input()
        deadline = time.monotonic() + grace
        running = True
        while running and not self.killed:
            running = self.launcher is not None and _is_running(self._process, self.launcher)
            if not running or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        by_itself = not running and not self.killed
        # Before the exit code is asked for: until then nobody else can get the launcher's number, or its group's.
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        self._log_reader.join(0.5)
        return self._process.returncode if by_itself else None

    def _thread(self, work: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=work, name=f"worker {name}", daemon=True)
        thread.start()
        return thread

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._process.stdout as stream:
            for line in protocol.read_lines(stream):
                if isinstance(line, protocol.TooLong):
                    self._note(f"the worker sent a message of {line.length} bytes, which is too long")
                    break
                try:
                    self._post(self, "message", protocol.decode(line))
                except protocol.ProtocolError:
                    # A greeting of the shell behind ssh, or something that a program prints before it obeys.
                    self._note(line[:_LONGEST_LOG_LINE].decode("utf-8", "replace"))
        self._post(self, "closed", None)

    def _read_log(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._process.stderr as stream:
            for line in iter(lambda: stream.readline(_LONGEST_LOG_LINE), b""):
                text = line.decode("utf-8", "replace").rstrip()
                if text:
                    self._note(text)

    def _note(self, text: str) -> None:
        self.log.append(text)
        self._post(self, "log", text)

    def _write(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._process.stdin as stream:
            for line in iter(self._outbox.get, None):
                stream.write(line)
                stream.flush()


def worker_environment(additions: Mapping[str, str | None]) -> dict[str, str]:
    """The environment of this process with additions (None: left out), in which a worker is found and heard.

    Python speaks UTF-8 and at once; the folder of this library comes first on its path, so that another Python
    than this one finds it too. It does not when it lies among packages that were installed for this Python alone.
    """
    environment = {**os.environ, **additions}
    environment.update(PYTHONUTF8="1", PYTHONUNBUFFERED="1")
    folder = Path(__file__).resolve().parents[2]
    if folder.name not in _PACKAGES:
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), before] if before else [str(folder)])
    return {name: str(value) for name, value in environment.items() if value is not None}


def _apart_from_the_terminal() -> dict[str, Any]:
    """A group of its own: it can be ended as a whole, and Ctrl-C in the terminal reaches this process alone."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _is_running(process: subprocess.Popen, identity: process_tree.Process) -> bool:
    """Whether a child runs; its exit code is not taken where that can be avoided, see `Transport.finish`."""
    if sys.platform.startswith("linux"):
        return process.returncode is None and process_tree.is_running(identity)
    return process.poll() is None
