"""The process of a pretraining that runs by itself. It notes how far it is, and stops when told or left alone."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SSLFewShotLib.errors import Cancelled, InputError, InputWarning, OutputError
from SSLFewShotLib.worker.detached import identity, is_alive
from SSLFewShotLib.worker.training_folder import DONE, FAILED, PAUSED, RUNNING, STOPPED, TrainingFolder, now

if TYPE_CHECKING:
    from SSLFewShotLib.pretext.trainer import TrainerSettings
    from SSLFewShotLib.sampling.extent import Extent

WRITE_EVERY = 1.0
_LOOK_EVERY = 0.2
_OWNER_EVERY = 1.0
_MOST_ROWS = 400


class Status:
    """What status.json says, written by a thread of its own about once a second, however long a step takes."""

    def __init__(self, folder: TrainingFolder):
        self._folder = folder
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._ended = threading.Event()
        before = folder.read("status")
        self.begun_before, self.finished_before = bool(before.get("begun")), bool(before.get("finished"))
        self._elapsed_before = float(before.get("elapsed") or 0.0)
        self._began = time.monotonic()
        self._first: float | None = None
        self._values: dict[str, Any] = {
            "state": RUNNING,
            "fraction": before.get("fraction") or 0.0,
            "message": "starting",
            "pid": os.getpid(),
            "started": before.get("started") or now(),
            "rows": before.get("rows") or [],
            "model": None,
            "error": None,
            "warnings": [],
            "begun": self.begun_before,
            "finished": self.finished_before,
        }
        self.write()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._thread.start()

    def update(self, **values: Any) -> None:
        """Change some values; they are written soon."""
        with self._lock:
            self._values |= values

    def progress(self, fraction: float, message: str) -> None:
        """Note a progress report. What comes from the trainer shows that the training's own files are in place."""
        with self._lock:
            if self._first is None:
                self._first = fraction
            self._values |= {"fraction": fraction, "message": message, "begun": True}

    def warn(self, text: str) -> None:
        """Note a warning, once."""
        with self._lock:
            if text not in self._values["warnings"]:
                self._values["warnings"] = [*self._values["warnings"], text]

    def end(self, **values: Any) -> None:
        """Write the last status. Raises OutputError when it cannot be written."""
        self._ended.set()
        self._thread.join()
        self.update(**values)
        self.write()

    def write(self) -> None:
        """Write what is known now."""
        with self._writing:
            with self._lock:
                values = dict(self._values)
            values["rows"] = thinned(values["rows"], _MOST_ROWS)
            passed = time.monotonic() - self._began
            values["elapsed"] = round(self._elapsed_before + passed, 1)
            values["remaining"] = self._remaining(values, passed)
            values["updated"] = time.time()
            self._folder.write("status", values)

    def _remaining(self, values: dict[str, Any], passed: float) -> float | None:
        if values["state"] != RUNNING or self._first is None:
            return None
        fraction, gained = values["fraction"], values["fraction"] - self._first
        return round(passed * (1 - fraction) / gained, 1) if gained > 0.005 else None

    def _run(self) -> None:
        while not self._ended.wait(WRITE_EVERY):
            # A full disk may have room again by the next time.
            with contextlib.suppress(OSError):
                self.write()


class StopWatch:
    """Knows when to stop: told by the file `stop` or a signal, or left alone by the worker that started it."""

    def __init__(self, folder: TrainingFolder, owner: dict[str, Any] | None):
        self._folder = folder
        self._owner = owner
        self._looked = self._asked = float("-inf")
        self.reason: str | None = None

    def on_signal(self, number: int, frame: object) -> None:
        """Take a signal for the wish that it is."""
        self.reason = self.reason or STOPPED

    def check(self) -> None:
        """Raise Cancelled once it is to stop; `reason` is then "stopped" or "paused"."""
        moment = time.monotonic()
        if self.reason is None and moment - self._looked >= _LOOK_EVERY:
            self._looked = moment
            if self._folder.stop_file.exists():
                self.reason = STOPPED
            elif self._owner is not None and moment - self._asked >= _OWNER_EVERY:
                self._asked = moment
                if is_alive(self._owner) is False:
                    self.reason = PAUSED
        if self.reason is not None:
            raise Cancelled


def thinned(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most so many rows, evenly, the last one among them."""
    if len(rows) <= most:
        return list(rows)
    step = (len(rows) - 1) / (most - 1)
    return [rows[round(number * step)] for number in range(most)]


def main(path: Path) -> int:
    """Do what the training's folder says; returns the exit code."""
    folder = TrainingFolder(path)
    folder.write("process", identity(os.getpid()) or {})
    settings = folder.settings
    status = Status(folder)
    watch = StopWatch(folder, None if settings["keep_running"] else folder.read("launch").get("owner"))
    for name in ("SIGTERM", "SIGINT"):
        signal.signal(getattr(signal, name), watch.on_signal)
    warnings.simplefilter("always", InputWarning)
    warnings.showwarning = _showing(status)
    print(f"{now()} process {os.getpid()} begins", flush=True)
    try:
        model = _train(folder, settings, status, watch)
        last = {"state": DONE, "fraction": 1.0, "message": f"finished: {model}", "model": model}
    except Cancelled:
        state = watch.reason or STOPPED
        last = {"state": state, "message": f"{state}; resume it to go on from here"}
    except (InputError, OutputError) as error:
        last = _failure(error.strerror if isinstance(error, OutputError) and error.strerror else str(error))
    except BaseException as error:
        from SSLFewShotLib.worker.failures import described, where_raised

        print(where_raised(error), flush=True)
        last = _failure(described(error)[1])
    print(f"{now()} {last['state']}", flush=True)
    try:
        status.end(**last)
    except OutputError as error:
        print(f"{now()} the last status could not be written (errno {error.errno})", flush=True)
        return 1
    folder.stop_file.unlink(missing_ok=True)
    return 1 if last["state"] == FAILED else 0


def _failure(reason: str) -> dict[str, Any]:
    reason = " ".join(reason.split())
    return {"state": FAILED, "message": "failed", "error": reason}


def _train(folder: TrainingFolder, settings: dict[str, Any], status: Status, watch: StopWatch) -> str:
    """Pretrain; returns the model's name in the store, or its folder when it is in none."""
    from SSLFewShotLib.pretext.pretrain import pretrain
    from SSLFewShotLib.pretext.training_scans import PretrainingSource

    def progress(fraction: float, message: str) -> None:
        status.progress(fraction, message)
        watch.check()

    scans, output = Path(settings["folder"]), Path(settings["output"])
    # What an earlier process of this training has finished is not made again.
    if not status.finished_before:
        pretrain(
            scans,
            settings["method"],
            output,
            trainer_settings(settings),
            PretrainingSource(scans.name, settings["data_source"], settings["data_licence"], settings["modality"]),
            extent(settings),
            settings["batch_size"],
            settings["device"],
            resume=status.begun_before and folder.has_checkpoint,
            overwrite=settings["overwrite"],
            progress=progress,
            on_row=lambda training: status.update(rows=list(training.rows)),
            options=settings.get("options"),
            start=settings.get("start"),
            labelled=settings.get("labelled"),
        )
        status.update(finished=True)
        status.write()
    return _added_to_store(output, settings["name"], settings["overwrite"]) if settings["name"] else str(output)


def trainer_settings(settings: dict[str, Any]) -> TrainerSettings:
    """The trainer's part of a training's settings. Raises InputError for what cannot be meant."""
    from SSLFewShotLib.pretext.trainer import TrainerSettings

    names = ("iterations", "minutes", "learning_rate", "schedule", "seed")
    return TrainerSettings(**{name: settings[name] for name in names})


def extent(settings: dict[str, Any]) -> Extent | None:
    """The extent in a training's settings; None when it is to be found from the scans."""
    from SSLFewShotLib.sampling.extent import Extent

    if settings["normalised"]:
        return Extent("normalised", 1.0)
    return None if settings["extent_mm"] is None else Extent("mm", settings["extent_mm"])


def _added_to_store(output: Path, name: str, overwrite: bool) -> str:
    """Copy a model into the user's store under that name."""
    import dataclasses

    from SSLFewShotLib.models import ModelStore, load_model, save_model
    from SSLFewShotLib.models.folder import EXTRA_FILES

    store = ModelStore()
    if output.resolve() == (store.user_folder / name).resolve():
        return name
    card, tensors = load_model(output)
    with tempfile.TemporaryDirectory() as folder:
        extras = {file: output / file for file in EXTRA_FILES if (output / file).is_file()}
        save_model(Path(folder) / name, dataclasses.replace(card, name=name), tensors, extras)
        store.add(Path(folder) / name, overwrite)
    return name


def _showing(status: Status):
    """What shows warnings: the texts of InputWarnings name scans, and go to the status alone."""

    def show(message, category, filename, lineno, file=None, line=None):
        if issubclass(category, InputWarning):
            status.warn(str(message))
            print(f"{now()} {category.__name__} (its text is in the status)", file=sys.stderr, flush=True)
        else:
            print(f"{now()} {category.__name__}: {message}", file=sys.stderr, flush=True)

    return show
