"""Trainings asked for as an application does, and such that were only noted."""

import subprocess
import sys
import time
from pathlib import Path

from SSLFewShotLib.worker.detached import identity
from SSLFewShotLib.worker.handler import checked
from SSLFewShotLib.worker.pretraining import HANDLERS
from SSLFewShotLib.worker.training_folder import TrainingFolder

LONG = 20_000
"""Iterations that no test waits for."""


def asked(method: str, /, **params):
    """What a method of the worker answers."""
    handler = HANDLERS[f"pretrain/{method}"]
    return handler.run(checked(params, handler.params), None)


def start(scans: Path, output: Path, **params) -> str:
    given = {"iterations": 6, "method": "reg2d", "batch_size": 2, "extent_mm": 400.0, "device": "cpu", **params}
    return asked("start", folder=str(scans), output=str(output), **given)["job"]


def wait_for(job: str, condition, seconds: float = 120.0) -> dict:
    """The status once it fulfils a condition."""
    deadline = time.monotonic() + seconds
    while not condition(status := asked("status", job=job)):
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    return status


def ended(status: dict) -> bool:
    return status["state"] != "running"


def noted(jobs: Path, name: str = "20260101-000000-model", **status) -> TrainingFolder:
    """A training that was noted without ever being started."""
    folder = TrainingFolder(jobs / name)
    folder.path.mkdir(parents=True)
    folder.write("settings", {"folder": "scans", "output": str(jobs.parent / "model"), "method": "reg2d"})
    folder.write("status", {"state": "running", "fraction": 0.5, "updated": time.time(), **status})
    return folder


def gone() -> dict:
    """The identity of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = identity(process.pid)
    process.communicate()
    return known
