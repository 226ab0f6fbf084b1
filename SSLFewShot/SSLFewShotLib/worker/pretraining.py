"""Methods on pretrainings that run by themselves, and outlive the worker. They are told by their folders alone.

`python -m SSLFewShotLib.worker.pretraining FOLDER` is the process of one.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import InputError, OutputError
from SSLFewShotLib.outputs import check_output_folder
from SSLFewShotLib.worker import process_tree
from SSLFewShotLib.worker.detached import identity, is_alive, start_detached
from SSLFewShotLib.worker.handler import (
    FLAG,
    NUMBER,
    OBJECT,
    PATH,
    TEXT,
    WHOLE,
    Context,
    Handler,
    list_of,
    one_of,
    optional,
    required,
)
from SSLFewShotLib.worker.training_folder import (
    DONE,
    RUNNING,
    TrainingFolder,
    all_trainings,
    default_jobs_folder,
    find_training,
    now,
)

DEFAULT_MINUTES = 30.0
PATIENCE_SECONDS = 60.0
"""A training that was told to stop so long ago and has not is ended by force when it is told again."""

_MODULE = "SSLFewShotLib.worker.pretraining"
_CLAIM = "starting"
_CLAIM_SECONDS = 120.0

START_PARAMS = {
    "folder": required(PATH),
    "method": optional(TEXT, "heatmap"),
    "output": optional(PATH),
    "name": optional(TEXT),
    "iterations": optional(WHOLE),
    "minutes": optional(NUMBER),
    "device": optional(TEXT, "auto"),
    "seed": optional(WHOLE, 0),
    "keep_running": optional(FLAG, True),
    "batch_size": optional(WHOLE),
    "learning_rate": optional(NUMBER),
    "schedule": optional(one_of("cosine", "constant", "one-cycle")),
    "modality": optional(TEXT),
    "extent_mm": optional(NUMBER),
    "normalised": optional(FLAG, False),
    "data_source": optional(TEXT, "the user's own folder"),
    "data_licence": optional(TEXT, "not stated"),
    "overwrite": optional(FLAG, False),
    "options": optional(OBJECT, {}),
    "start": optional(TEXT),
    "labelled": optional(list_of(TEXT, least=1)),
}


def start(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Start a training; returns its job and its folder. What can be seen to go wrong is refused before.

    Without an output the model is made in the user's store, by its name.
    """
    settings = dict(params)
    settings["folder"] = str(Path(params["folder"]).absolute())
    settings["output"] = str(_output(params))
    if params["iterations"] is None and params["minutes"] is None:
        settings["minutes"] = DEFAULT_MINUTES
    if params["start"] is not None:
        settings["start"] = _start(params["start"])
    if params["modality"] is not None:
        settings["modality"] = params["modality"].upper()
    _check(settings)
    folder = TrainingFolder.create(default_jobs_folder(), settings)
    try:
        with _claimed(folder):
            _launch(folder, {})
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return {"job": folder.job, "folder": str(folder.path)}


def listed(params: dict[str, Any], context: Context) -> list[dict[str, Any]]:
    """How all trainings are, the newest first; without their loss curves."""
    return [folder.status(rows=False) for folder in all_trainings()]


def status(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """How a training is."""
    return find_training(params["job"]).status()


def stop(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Tell a training to stop, which it does after its step, leaving a checkpoint; others are left alone."""
    folder = find_training(params["job"])
    told = folder.status(rows=False)
    if told["state"] != RUNNING:
        return told
    asked = _age(folder.stop_file)
    if asked is not None and asked > PATIENCE_SECONDS:
        process = folder.read("process")
        if is_alive(process):
            process_tree.kill_tree(process["pid"], process["started"])
        return folder.status(rows=False)
    if asked is None:
        try:
            folder.stop_file.touch()
        except OSError as error:
            raise OutputError(
                error.errno, f"{folder.path}: the training could not be told to stop ({error.strerror})"
            ) from error
    return {**told, "message": "stopping"}


def resume(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Go on with a training from its checkpoint, or from the beginning when it has none yet."""
    folder = find_training(params["job"])
    with _claimed(folder):
        before = folder.status()
        if before["state"] == RUNNING:
            raise InputError(f"{folder.job}: is running already")
        if before["state"] == DONE:
            raise InputError(f"{folder.job}: is finished; its model is {before['model']}")
        _refuse_busy(folder.settings["output"], but=folder.job)
        if before.get("begun") and not folder.has_checkpoint:
            shutil.rmtree(folder.work, ignore_errors=True)
        _launch(folder, before)
    return {"job": folder.job, "folder": str(folder.path)}


def remove(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Remove what is noted of a training, and its checkpoint; a model that it has made stays."""
    folder = find_training(params["job"])
    told = folder.status()
    if told["state"] == RUNNING:
        raise InputError(f"{folder.job}: is running; stop it first")
    others = [other for other in all_trainings() if other.job != folder.job]
    shared = any(other.read("settings").get("output") == told["output"] for other in others)
    # A checkpoint that was there before this training had begun is not its own.
    if told.get("begun") and told["output"] and not shared:
        shutil.rmtree(folder.work, ignore_errors=True)
    try:
        shutil.rmtree(folder.path)
    except OSError as error:
        raise OutputError(
            error.errno, f"{folder.path}: could not be removed ({error.strerror or error})"
        ) from error
    return {"removed": folder.job}


def _launch(folder: TrainingFolder, before: dict[str, Any]) -> None:
    """Start the process of a training that does not run. before: its status so far."""
    for name in ("process.json", "launch.json", "stop"):
        (folder.path / name).unlink(missing_ok=True)
    kept = ("started", "elapsed", "fraction", "rows", "begun", "finished")
    begins = {"started": now(), **{key: before[key] for key in kept if key in before}}
    folder.write("status", {**begins, "state": RUNNING, "message": "starting", "updated": time.time()})
    launch = {"owner": identity(os.getpid())}
    folder.write("launch", launch)
    try:
        pid = start_detached(_MODULE, [str(folder.path)], folder.log, folder.path.parent)
    except OutputError as error:
        folder.write("status", {**begins, "state": "failed", "message": "failed", "error": error.strerror})
        raise
    # One that is gone already is known by its number alone, and counts as gone.
    folder.write("launch", {**launch, **(identity(pid) or {"pid": pid, "host": platform.node()})})


@contextlib.contextmanager
def _claimed(folder: TrainingFolder) -> Iterator[None]:
    """Keep two sessions from starting the same training at the same time."""
    claim = folder.path / _CLAIM
    age = _age(claim)
    if age is not None and age > _CLAIM_SECONDS:
        claim.rmdir()
    try:
        claim.mkdir()
    except FileExistsError:
        raise InputError(f"{folder.job}: is being started by another session; look again in a moment") from None
    except OSError as error:
        raise OutputError(error.errno, f"{folder.path}: could not be written ({error.strerror})") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            claim.rmdir()


def _output(params: dict[str, Any]) -> Path:
    """The folder that the model is to come into."""
    from SSLFewShotLib.models import ModelStore
    from SSLFewShotLib.models.card import check_name

    if params["output"] is not None:
        return Path(params["output"]).absolute()
    if params["name"] is None:
        raise InputError("a folder for the model or a name for it in the store was expected; give one of them")
    store = ModelStore()
    # Before it is part of a path.
    check_name(params["name"], store.user_folder)
    return store.user_folder / params["name"]


def _start(name_or_dir: str) -> str:
    """The model to go on from, wherever the training's process runs. Raises InputError when there is none."""
    from SSLFewShotLib.models import ModelStore

    entry = ModelStore().find(name_or_dir)
    return name_or_dir if entry.folder.name == name_or_dir else str(entry.folder.absolute())


def _check(settings: dict[str, Any]) -> None:
    """Refuse what would only fail after a while."""
    from SSLFewShotLib.models.card import check_name
    from SSLFewShotLib.pretext.continuing import labelled_cases
    from SSLFewShotLib.pretext.methods import METHODS
    from SSLFewShotLib.worker.training_process import extent, trainer_settings

    folder, output = Path(settings["folder"]), Path(settings["output"])
    if not folder.is_dir():
        raise InputError(f"{folder}: a folder of scans was expected; check the name")
    if settings["method"] not in METHODS:
        raise InputError(f"method '{settings['method']}' is not known; choose one of {', '.join(sorted(METHODS))}")
    if settings["labelled"] is not None or METHODS[settings["method"]].needs_labels:
        labelled_cases(folder, settings["labelled"])
    trainer_settings(settings)
    extent(settings)
    check_name(output.name, output)
    check_output_folder(output)
    if not settings["overwrite"]:
        if (output / "card.json").exists():
            raise InputError(f"{output}: there is a model already; choose another output, or overwrite it")
        if output.with_name(output.name + ".training").exists():
            raise InputError(
                f"{output}.training: an unfinished pretraining is there; resume that one, choose another output, "
                "or overwrite it"
            )
    _refuse_busy(settings["output"])
    if settings["name"] is not None:
        check_name(settings["name"], output)
        _refuse_taken(settings["name"], output, settings["overwrite"])


def _refuse_busy(output: str, but: str | None = None) -> None:
    same = [other for other in all_trainings() if other.read("settings").get("output") == output]
    for other in same:
        if other.job != but and other.status(rows=False)["state"] == RUNNING:
            raise InputError(f"{output}: the training {other.job} is making this model; stop it first")


def _refuse_taken(name: str, output: Path, overwrite: bool) -> None:
    """A name that the store would not take must not be found out after hours of training."""
    from SSLFewShotLib.models import ModelStore
    from SSLFewShotLib.models.folder import is_model

    store = ModelStore()
    if is_model(store.bundled_folder / name):
        raise InputError(f"{name}: a bundled model has this name; choose another")
    mine = store.user_folder / name
    if is_model(mine) and not overwrite and mine.resolve() != output.resolve():
        raise InputError(f"{name}: there is a model of this name already; choose another, or overwrite it")


def _age(path: Path) -> float | None:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return None


_JOB = {"job": required(TEXT)}

HANDLERS = {
    "pretrain/start": Handler(start, START_PARAMS, light=True),
    "pretrain/list": Handler(listed, light=True),
    "pretrain/status": Handler(status, _JOB, light=True),
    "pretrain/stop": Handler(stop, _JOB, light=True),
    "pretrain/resume": Handler(resume, _JOB, light=True),
    "pretrain/remove": Handler(remove, _JOB, light=True),
}


if __name__ == "__main__":
    from SSLFewShotLib.worker.training_process import main

    sys.exit(main(Path(sys.argv[1])))
