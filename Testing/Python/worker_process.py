"""A worker as a process, spoken to without the client: lines in, messages out."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

WORKER = (sys.executable, "-m", "SSLFewShotLib.worker")
FAULTY = (sys.executable, str(Path(__file__).with_name("faulty_worker.py")))


class WorkerProcess:
    """Starts a worker whose temporary folder is `temporary`. messages: all that came so far, in order."""

    def __init__(self, temporary: Path, command=FAULTY, environment: dict | None = None):
        temporary.mkdir(exist_ok=True)
        own = {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "SSLFEWSHOT_MODELS": str(temporary / "models")}
        self.errors = temporary / "stderr.txt"
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **own, **(environment or {})},
            )
        self.messages: list[dict] = []
        self.lines: list[bytes] = []
        self._came: queue.Queue = queue.Queue()
        self._number = 0
        self._deaf = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()

    def close_output(self) -> None:
        """Read no more: what the worker writes from now on breaks."""
        self._deaf = True
        self._reader.join(5)
        self.process.stdout.close()

    def _read(self) -> None:
        for line in self.process.stdout:
            if self._deaf:
                return
            self.lines.append(line)
            self._came.put(json.loads(line))
        self._came.put(None)

    def write(self, line: bytes) -> None:
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def send(self, method: str, /, id: object = None, **params) -> object:
        """Send a request; returns its id."""
        if id is None:
            self._number += 1
            id = self._number
        message = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
        self.write(json.dumps(message).encode() + b"\n")
        return id

    def cancel(self, id: object) -> None:
        message = {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": id}}
        self.write(json.dumps(message).encode() + b"\n")

    def until(self, wanted: Callable[[dict], bool], timeout: float = 60.0) -> dict:
        """The first message from now on that is wanted."""
        end = time.monotonic() + timeout
        while True:
            message = self._came.get(timeout=max(0.01, end - time.monotonic()))
            assert message is not None, f"the worker has ended: {self.errors.read_text()}"
            self.messages.append(message)
            if wanted(message):
                return message

    def answer(self, id: object, timeout: float = 60.0) -> dict:
        return self.until(lambda message: "method" not in message and message.get("id") == id, timeout)

    def ask(self, method: str, /, **params) -> dict:
        """Send a request and wait for its answer."""
        return self.answer(self.send(method, **params))

    def running(self, id: object) -> None:
        """Wait until a request is being worked on."""
        self.until(lambda m: m.get("method") == "progress" and m["params"]["id"] == id and _works(m["params"]))

    def ended(self, timeout: float = 10.0) -> int:
        """Wait for the process to end by itself; returns its exit code."""
        code = self.process.wait(timeout)
        self._reader.join(5)
        while not self._came.empty():
            message = self._came.get()
            if message is not None:
                self.messages.append(message)
        return code

    def told(self, method: str) -> list[dict]:
        """The params of all notifications of a kind that came so far."""
        return [message["params"] for message in self.messages if message.get("method") == method]

    @property
    def log(self) -> str:
        return "\n".join(entry["message"] for entry in self.told("log"))


def code_of(answer: dict) -> int:
    return answer["error"]["code"]


def _works(params: dict) -> bool:
    return not params["message"].startswith("waiting")
