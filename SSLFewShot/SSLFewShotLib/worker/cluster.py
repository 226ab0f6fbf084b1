"""A folder of scans on a Dask cluster: each worker keeps a segmenter of its own and writes what it computed.

Scans, support and output folder lie on a disk that all of them share. A worker takes one scan at a time, however
many threads it has; several workers on a machine are several processes. Source: https://distributed.dask.org.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import queue
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from SSLFewShotLib.descriptors.loading import joined_names
from SSLFewShotLib.errors import InputError, InputWarning, OutputError
from SSLFewShotLib.progress import Progress, ignore_progress
from SSLFewShotLib.segmentation.batch_report import BatchReport
from SSLFewShotLib.segmentation.choice import make_segmenter
from SSLFewShotLib.segmentation.job import (
    Fitted,
    SegmentationJob,
    begun_report,
    checked_targets,
    ended_report,
    fit_nothing,
)
from SSLFewShotLib.segmentation.support_files import check_format, read_support
from SSLFewShotLib.segmentation.tuning_folder import tunes
from SSLFewShotLib.version import __version__
from SSLFewShotLib.worker.cluster_task import Scan, segment_there

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 10.0
_LOOK_EVERY = 0.2

_Result = TypeVar("_Result")


def run_on_cluster(job: SegmentationJob, address: str, progress: Progress = ignore_progress) -> dict[str, Any]:
    """Do what `segmentation.job.run` does on the workers of a Dask cluster; returns the same report.

    address: of its scheduler, "tcp://host:8786".

    The scans of a worker that is lost are done again by another; a scan that loses several is given up, and named
    in the report. What was written is kept whatever happens, and can be gone on from with `job.resume`.

    Raises what `segmentation.job.run` raises; InputError when `distributed` is not installed, no scheduler answers
    or it goes away, or a worker has another version or does not see the files.
    """
    if tunes(job.method, job.settings):
        raise InputError(
            "on a cluster each worker would train a network of its own; choose another speed, or fine-tune here, "
            "keep the model and segment with it on the cluster"
        )
    targets = checked_targets(job)
    report = begun_report(job, targets, _unfitted(job, progress), job.device)
    if not report.left:
        return ended_report(job, report, progress)
    client = _connected(address, progress)
    try:
        _check_workers(client, address, job, progress)
        _hand_out(client, address, job, targets, report, progress)
    finally:
        client.close(timeout=2)
    return ended_report(job, report, progress)


def _unfitted(job: SegmentationJob, progress: Progress) -> Fitted:
    """The support and what will be fitted to it there."""
    if not job.supports:
        return fit_nothing(job, torch.device("cpu"))
    progress(0.0, "reading the support")
    support = read_support(job.supports, job.segment_names)
    check_format(job.format, support)
    return Fitted(support, make_segmenter(job.method, job.model, support.pairs[0][0], **job.settings))


def _connected(address: str, progress: Progress) -> Client:
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            "running on a Dask cluster needs the package 'distributed'; install it with "
            "`pip install 'sslfewshot[cluster]'`"
        ) from None

    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what it has to say of a failure is said below, in one line
    try:
        return _waited_for(
            lambda: Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="sslfewshot"),
            progress,
            f"looking for the Dask scheduler at {address}",
            too_late=lambda client: client.close(timeout=2),
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{address}: no Dask scheduler answers there ({reason}); check the address, or start one with "
            "`dask scheduler` and workers with `dask worker`"
        ) from error
    finally:
        logger.setLevel(level)


def _check_workers(client: Client, address: str, job: SegmentationJob, progress: Progress) -> None:
    """Raise InputError when one of the workers that are there now has another version or another disk.

    Only functions of Python's own are run there: ours may be missing.
    """

    def asked(function: Callable, *arguments: Any) -> dict[str, Any]:
        return _waited_for(
            lambda: client.run(function, *arguments, on_error="return"), progress, "asking the cluster's workers"
        )

    for worker, version in asked(metadata.version, "sslfewshot").items():
        if version != __version__:
            there = version if isinstance(version, str) else "none"
            raise InputError(
                f"{address}: its worker {worker} has sslfewshot {there}, this is {__version__}; install the same "
                "version there, or leave that worker out"
            )
    output = job.output.absolute()
    with _probe(output) as probe:
        # The probe is new, so that another folder of the same name has none.
        for path, shown in ((probe, output), *((Path(p).absolute(),) * 2 for p in (job.supports or [()])[0])):
            for worker, there in asked(os.path.exists, str(path)).items():
                if there is not True:
                    raise InputError(
                        f"{address}: its worker {worker} does not see {shown}; give files and an output on a disk "
                        "that the whole cluster shares"
                    )


@contextlib.contextmanager
def _probe(folder: Path) -> Iterator[Path]:
    """A new entry in a folder, which is made when it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = tempfile.mkdtemp(prefix=f".writing-{os.getpid()}-", dir=folder)
    except OSError as error:
        raise OutputError(error.errno, f"{folder}: could not be written ({error.strerror or error})") from error
    try:
        yield Path(probe)
    finally:
        os.rmdir(probe)


def _hand_out(
    client: Client,
    address: str,
    job: SegmentationJob,
    targets: dict[str, Path],
    report: BatchReport,
    progress: Progress,
) -> None:
    """Have all scans that are left segmented, and enter them into the report as they come back."""
    from distributed import Event

    run = f"sslfewshot-{uuid.uuid4().hex}"
    there = dataclasses.replace(
        job,
        targets=(),
        supports=[(Path(image).absolute(), Path(labels).absolute()) for image, labels in job.supports],
        output=job.output.absolute(),
        model=_model_there(job.model),
    )
    parts: dict[str, float] = {}
    client.subscribe_topic(run, lambda event: parts.update([event[1]]))  # (time, (name, fraction))
    stop = Event(f"{run}-stop", client=client)
    come_back: queue.SimpleQueue[Future] = queue.SimpleQueue()
    names: dict[Future, str] = {}
    left = report.left
    try:
        for name in left:
            scan = Scan(name, targets[name].absolute(), run)
            future = client.submit(
                segment_there, there, scan, report.head["fingerprint"], key=f"{run}-{name}", pure=False
            )
            names[future] = name
            future.add_done_callback(come_back.put)
        while names:
            done = len(left) - len(names)
            at_work = sum(parts.get(name, 0.0) for name in names.values())
            waiting = "" if parts or done else " (waiting for the cluster's workers)"
            progress((done + at_work) / len(left), f"segmented {done} of {len(left)} scans{waiting}")
            try:
                future = come_back.get(timeout=_LOOK_EVERY)
            except queue.Empty:
                continue
            name = names.pop(future)
            report.add(name, _entry(future, targets[name], address))
    except BaseException:
        _without_waiting(stop.set)
        raise
    finally:
        client.unsubscribe_topic(run)
        if names:
            _without_waiting(lambda: client.cancel(list(names), force=True))


def _entry(future: Future, path: Path, address: str) -> dict[str, Any]:
    """What a scan has come to. Raises what ends the whole job."""
    from distributed import KilledWorker

    if future.status in ("cancelled", "lost"):
        raise InputError(f"{address}: the Dask scheduler has gone; start the cluster again and resume the job")
    error = future.exception() if future.status == "error" else None
    if isinstance(error, KilledWorker):
        entry = {
            "image": path.name,
            "error": f"{path}: each Dask worker that took this scan was lost (killed, or out of memory); give the "
            "workers more memory, and resume the job",
        }
    elif isinstance(error, ImportError):
        entry = {"image": path.name, "error": f"{path}: a Dask worker lacks what is needed ({error}); install it"}
    elif error is not None:
        raise error
    else:
        entry, said = future.result()
        for text in said:
            warnings.warn(text, InputWarning, stacklevel=4)
        return entry
    warnings.warn(f"left out: {entry['error']}", InputWarning, stacklevel=4)
    return entry


def _model_there(model: str | None) -> str | None:
    """Models' folders by their whole paths; a name stays a name."""
    if model is None:
        return None
    return "+".join(str(Path(part).absolute()) if Path(part).is_dir() else part for part in joined_names(model))


def _waited_for(
    function: Callable[[], _Result],
    progress: Progress,
    message: str,
    too_late: Callable[[_Result], Any] = lambda result: None,
) -> _Result:
    """A function's result, computed in a thread so that cancelling need not wait for it."""
    outcome: queue.SimpleQueue[tuple[_Result | None, Exception | None]] = queue.SimpleQueue()
    given_up = threading.Event()

    def compute() -> None:
        try:
            result = function()
        except Exception as error:
            outcome.put((None, error))
            return
        if given_up.is_set():
            too_late(result)
        outcome.put((result, None))

    threading.Thread(target=compute, daemon=True).start()
    try:
        while True:
            progress(0.0, message)
            try:
                result, error = outcome.get(timeout=_LOOK_EVERY)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            return result
    except BaseException:
        given_up.set()
        raise


def _without_waiting(function: Callable[[], Any], at_most: float = 1.0) -> None:
    """Call what talks to a scheduler that may have gone; its failure is none of ours."""

    def call() -> None:
        with contextlib.suppress(Exception):
            function()

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(at_most)
