"""Jobs of the command line that a worker does instead of this process: the same arguments, results and endings."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from SSLFewShotLib.cli.segmenter_arguments import segmenter_settings
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning, OutputError
from SSLFewShotLib.progress import Progress
from SSLFewShotLib.worker.client import WorkerClient, WorkerError
from SSLFewShotLib.worker.protocol import INVALID_PARAMS, NOT_WRITTEN, WRONG_INPUT

_SECONDS_TO_END = 3.0
_OF_WORKERS_ONLY = ("warm", "warnings")


def segment(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The report of `sslfewshot segment`, from the worker that `--worker` names."""
    params = {
        "supports": [{"image": _path(image), "labels": _path(labels)} for image, labels in arguments.support]
        or None,
        "targets": [_path(target) for target in arguments.targets],
        "output": _path(arguments.output),
        "method": arguments.method,
        "model": _model(arguments.model),
        "format": arguments.format,
        "device": arguments.device,
        "overwrite": arguments.overwrite,
        "segments": arguments.segments,
        "settings": segmenter_settings(arguments),
        "crop": arguments.crop,
    }
    method = "segment"
    if arguments.resume:
        method, params["resume"] = "segment/batch", True
    if arguments.cluster:
        method, params["cluster"] = "segment/batch", arguments.cluster
    report = _asked(arguments, method, params, progress)
    return {key: value for key, value in report.items() if key not in _OF_WORKERS_ONLY}


def localise(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The report of `sslfewshot localise`, from the worker that `--worker` names."""
    pairs = [{"image": _path(image), "labels": _path(labels)} for image, labels in arguments.support]
    params = {
        "supports": pairs or None,
        "targets": [_path(target) for target in arguments.targets],
        "output": _path(arguments.output),
        "method": arguments.method or ("support" if pairs else "certainty"),
        "model": _model(arguments.model),
        "segments": arguments.segments,
        "margin": arguments.margin,
        "segment_boxes": arguments.segment_boxes,
        "device": arguments.device,
        "overwrite": arguments.overwrite,
    }
    report = _asked(arguments, "localise", params, progress)
    return {key: value for key, value in report.items() if key not in _OF_WORKERS_ONLY}


def evaluate(arguments: argparse.Namespace, progress: Progress) -> Path:
    """The report's path of `sslfewshot evaluate`, from the worker that `--worker` names."""
    params = {
        "folder": _path(arguments.folder),
        "supports": arguments.supports,
        "output": _path(arguments.output),
        "shots": arguments.shots,
        "methods": arguments.methods,
        "models": [_model(model) for model in arguments.models],
        "queries": arguments.queries,
        "repeats": arguments.repeats,
        "device": arguments.device,
        "seed": arguments.seed,
        "settings": segmenter_settings(arguments),
        "overwrite": arguments.overwrite,
    }
    rarely = ("two_fold", "save_segmentations", "image_suffix", "label_suffix")
    params |= {name: getattr(arguments, name) for name in rarely if getattr(arguments, name)}
    report = _asked(arguments, "evaluate", params, progress)
    return arguments.output / Path(report["report"]).name


def _asked(arguments: argparse.Namespace, method: str, params: dict[str, Any], progress: Progress) -> Any:
    """Start a worker, ask it, and end it. Raises what the computation raises in this process."""
    params = {name: value for name, value in params.items() if value is not None}
    client = WorkerClient(_command(arguments.worker), on_log=_print_line if arguments.traceback else None)
    try:
        with _stopped_by_ctrl_c(client) as check:
            progress(0.0, "starting the worker")
            info = client.start()

            def report(fraction: float, message: str, remaining: float | None) -> None:
                check()
                progress(fraction, message)

            if info["shares_disk"]:
                result = client.request(method, params, report).result()
            elif method == "evaluate":
                raise InputError("--worker: this worker does not see the files here; evaluate where it runs")
            else:
                from SSLFewShotLib.worker.carried_jobs import CarriedJobs

                result = CarriedJobs(client).run(method, params, report)
    except WorkerError as error:
        _warn(error.data)
        raise _as_raised_here(error) from error
    finally:
        client.close(_SECONDS_TO_END)
    _warn(result)
    return result


def _command(text: str) -> list[str]:
    try:
        command = shlex.split(text, posix=os.name != "nt")
    except ValueError as error:
        raise InputError(f"--worker {text}: cannot be taken apart ({error}); check the quotes") from None
    if not command:
        raise InputError("--worker: the command of a worker was expected, such as 'ssh HOST sslfewshot worker'")
    return command


@contextlib.contextmanager
def _stopped_by_ctrl_c(client: WorkerClient) -> Iterator[Callable[[], None]]:
    """Have Ctrl-C and SIGTERM cancel what the worker does; a second time, or before it is ready, they end at once.

    Yields what raises Cancelled once that has happened.
    """
    pressed: list[int] = []

    def cancel(number: int, frame: object) -> None:
        if pressed or client.info is None:
            raise KeyboardInterrupt
        pressed.append(number)
        client.cancel_all()

    def check() -> None:
        if pressed:
            raise Cancelled

    in_main_thread = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if in_main_thread else ()
    before = {number: signal.signal(number, cancel) for number in numbers}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_raised_here(error: WorkerError) -> Exception:
    if error.code in (WRONG_INPUT, INVALID_PARAMS):
        return InputError(error.message)
    if error.code == NOT_WRITTEN:
        return OutputError(errno.EIO, error.message)
    return error


def _warn(said: Any) -> None:
    for text in said.get("warnings", []) if isinstance(said, dict) else []:
        warnings.warn(text, InputWarning, stacklevel=2)


def _print_line(line: str) -> None:
    print(f"worker: {line}", file=sys.stderr)


def _path(path: Path) -> str:
    """Absolute: the worker may work in another folder."""
    return str(Path(path).absolute())


def _model(name: str | None) -> str | None:
    """A model's name as it is, and its folder absolute, also among several that are joined."""
    if name is None or not any(separator in name for separator in ("/", os.sep)):
        return name
    parts = [name] if Path(name).is_dir() else name.split("+")
    return "+".join(_path(Path(part)) if Path(part.strip()).is_dir() else part for part in parts)
