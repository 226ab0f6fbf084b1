"""The folder of a pretraining that runs by itself: what it is to do, how far it is, and whether it still runs.

settings.json: what it is to do. status.json: how far it is, written by the training itself. launch.json and
process.json: who started it, and which process it is. stop: there once it is to stop. log.txt: what it prints.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import deque
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import InputError, OutputError
from SSLFewShotLib.models.store import application_folder
from SSLFewShotLib.outputs import write_text
from SSLFewShotLib.worker.detached import is_alive
from SSLFewShotLib.worker.exit_reason import last_words

RUNNING, PAUSED, STOPPED, DONE, FAILED = "running", "paused", "stopped", "done", "failed"

SILENT_SECONDS = 30.0
"""After so long without a new status, a training on another machine, or one just started, counts as gone."""

_LAST_LINES = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")


def default_jobs_folder() -> Path:
    """Where trainings are noted: SSLFEWSHOT_JOBS, else the platform's folder for application data."""
    return application_folder("SSLFEWSHOT_JOBS", "jobs")


class TrainingFolder:
    """One training's folder. Any process may read it; while the training runs, it alone writes status.json."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.log = self.path / "log.txt"
        self.stop_file = self.path / "stop"

    @classmethod
    def create(cls, jobs: Path, settings: dict[str, Any]) -> TrainingFolder:
        """Make a folder in `jobs`, named after the time and the model. Raises OutputError when that fails."""
        moment = datetime.now().strftime("%Y%m%d-%H%M%S")
        stem = f"{moment}-{Path(settings['output']).name}"[:100]
        number = 1
        while True:
            path = jobs / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                number += 1
            except OSError as error:
                raise OutputError(error.errno, f"{path}: could not be made ({error.strerror or error})") from error
        folder = cls(path)
        folder.write("settings", settings)
        return folder

    @property
    def job(self) -> str:
        """The training's name in requests."""
        return self.path.name

    @property
    def settings(self) -> dict[str, Any]:
        """What the training is to do. Raises InputError when that cannot be read."""
        settings = self.read("settings")
        if "folder" not in settings or "output" not in settings:
            raise InputError(f"{self.path / 'settings.json'}: is missing or damaged; remove this training")
        return settings

    @property
    def work(self) -> Path:
        """Where the training keeps checkpoint and loss curve."""
        output = Path(self.settings["output"])
        return output.with_name(output.name + ".training")

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to go on from."""
        return (self.work / "checkpoint.pt").exists()

    def read(self, name: str) -> dict[str, Any]:
        """The content of `<name>.json`; empty when it is missing or damaged."""
        try:
            value = json.loads((self.path / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write `<name>.json` at once or not at all."""
        write_text(self.path / f"{name}.json", json.dumps(value) + "\n")

    def status(self, rows: bool = True) -> dict[str, Any]:
        """How the training is, whoever asks. rows: False leaves the loss curve out.

        A training whose process has gone without saying so has failed, and can be gone on with.
        """
        status = self._noted()
        if status["state"] == RUNNING and not self.is_running(status):
            status = self._noted()  # it may have ended well in between
            if status["state"] == RUNNING:
                status = {**status, "state": FAILED, "remaining": None, "error": self._how_it_ended()}
        if not rows:
            status["rows"] = []
        return status

    def is_running(self, status: dict[str, Any]) -> bool:
        """Whether its process runs; `status` as noted."""
        process = self.read("process") or self.read("launch")
        alive = is_alive(process) if "pid" in process else None
        return time.time() - status.get("updated", 0.0) < SILENT_SECONDS if alive is None else alive

    def last_lines(self) -> list[str]:
        """The end of the log."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, os.path.getsize(self.log) - 8192))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        return list(deque((line for line in lines if line.strip()), _LAST_LINES))

    def _noted(self) -> dict[str, Any]:
        settings = self.read("settings")
        return {
            "job": self.job,
            "folder": str(self.path),
            "name": settings.get("name") or Path(settings.get("output", self.job)).name,
            "method": settings.get("method"),
            "output": settings.get("output"),
            "state": FAILED,
            "fraction": 0.0,
            "message": "",
            "pid": None,
            "started": None,
            "elapsed": 0.0,
            "remaining": None,
            "rows": [],
            "model": None,
            "error": None if self.read("status") else "its status cannot be read; remove this training",
            "warnings": [],
            **self.read("status"),
        }

    def _how_it_ended(self) -> str:
        remedy = (
            "resume it to go on from its last checkpoint"
            if self.has_checkpoint
            else "there is no checkpoint yet; resuming begins again"
        )
        lines = last_words(self.last_lines(), _LAST_LINES)
        said = f" Its last words: {' | '.join(lines)}" if lines else ""
        return f"its process ended without a word (it was killed, or the computer was restarted); {remedy}.{said}"


def now() -> str:
    """The time as it is noted: UTC, ISO 8601."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def all_trainings(jobs: Path | None = None) -> list[TrainingFolder]:
    """Every training that was noted, the newest first."""
    jobs = default_jobs_folder() if jobs is None else jobs
    if not jobs.is_dir():
        return []
    names = sorted((entry.name for entry in jobs.iterdir() if (entry / "settings.json").is_file()), reverse=True)
    return [TrainingFolder(jobs / name) for name in names]


def find_training(job: str, jobs: Path | None = None) -> TrainingFolder:
    """The training of that name. Raises InputError when there is none."""
    jobs = default_jobs_folder() if jobs is None else jobs
    if not _NAME.fullmatch(job) or not (jobs / job / "settings.json").is_file():
        raise InputError(f"{job}: no training of this name; list them to see which there are")
    return TrainingFolder(jobs / job)
