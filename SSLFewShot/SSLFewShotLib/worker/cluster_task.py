"""What a worker of a Dask cluster does for one scan. Its fitted segmenters stay loaded from scan to scan."""

from __future__ import annotations

import contextlib
import json
import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.networks.device import choose_device
from SSLFewShotLib.progress import Progress, portion
from SSLFewShotLib.segmentation.fingerprint import differences, fingerprint
from SSLFewShotLib.segmentation.job import Fitted, SegmentationJob, attempt, fit_from_files

MOST_KEPT = 2
_ASK_EVERY = 0.5

_kept: OrderedDict[str, Fitted] = OrderedDict()
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Scan:
    """A scan to be segmented.

    name: its outputs' stem; run: the job's name on the cluster, under which it listens and says when to stop.
    """

    name: str
    path: Path
    run: str


def segment_there(
    job: SegmentationJob, scan: Scan, made_with: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Segment a scan on this worker and write the results; returns its entry in the report, and the warnings.

    made_with: the fingerprint of all results of the job; a worker whose own would differ fails its scans.

    Raises OutputError when a result cannot be written, Cancelled once the job is to stop.
    """
    with _one_at_a_time, _Reporting(scan) as progress, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        try:
            fitted = _fitted(job, made_with, portion(progress, 0.0, 0.1))
            entry = attempt(job, scan.name, scan.path, fitted, portion(progress, 0.1, 1.0))
            entry["device"] = str(choose_device(job.device))
        except InputError as error:
            entry = {"image": scan.path.name, "error": str(error)}
            warnings.warn(f"left out: {error}", InputWarning, stacklevel=2)
    return entry, [str(warning.message) for warning in caught if issubclass(warning.category, InputWarning)]


def _fitted(job: SegmentationJob, made_with: Mapping[str, Any], progress: Progress) -> Fitted:
    key = json.dumps([made_with, job.device], sort_keys=True)
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key]
    fitted = fit_from_files(job, choose_device(job.device), progress)
    if different := differences(made_with, fingerprint(fitted.support, fitted.segmenter, job.format, job.crop)):
        raise InputError(
            f"a Dask worker would not give the same results: {'; '.join(different)}; install the same there, or "
            "leave that worker out"
        )
    _kept[key] = fitted
    while len(_kept) > MOST_KEPT:
        _kept.popitem(last=False)
    return fitted


class _Reporting:
    """A progress that tells the job how far this scan is, and asks whether to go on.

    A thread of its own talks to the scheduler: on a busy machine the computation would wait for each answer.
    """

    def __init__(self, scan: Scan):
        from distributed import Event, get_client, get_worker

        self._scan = scan
        self._worker = get_worker()
        # Found here: only the thread of a task knows its worker.
        self._stop = Event(f"{scan.run}-stop", client=get_client())
        self._fraction = 0.0
        self._cancelled = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._talk, name="sslfewshot progress", daemon=True)

    def __enter__(self) -> _Reporting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def __call__(self, fraction: float, message: str) -> None:
        """Raise Cancelled once the job is to stop."""
        self._fraction = fraction
        if self._cancelled:
            raise Cancelled

    def _talk(self) -> None:
        with contextlib.suppress(Exception):  # the scheduler has gone: the worker's end is Dask's affair
            while True:
                self._worker.log_event(self._scan.run, (self._scan.name, self._fraction))
                if self._stop.is_set():
                    self._cancelled = True
                if self._over.wait(_ASK_EVERY):
                    return
