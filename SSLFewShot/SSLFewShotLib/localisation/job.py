"""Localising files: targets in, boxes, profiles and a report out."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.crop import crop_range
from SSLFewShotLib.imaging.roi_files import ROI_ENDING, write_roi
from SSLFewShotLib.imaging.targets import named_targets
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.localisation.choice import METHODS, make_localiser
from SSLFewShotLib.localisation.each_target import report_on_each
from SSLFewShotLib.localisation.localiser import Localiser, Location, Part
from SSLFewShotLib.localisation.profile_plot import draw_profiles
from SSLFewShotLib.localisation.reading import forget_scans, read_scan, some_of
from SSLFewShotLib.models import ModelStore
from SSLFewShotLib.networks.device import choose_device
from SSLFewShotLib.outputs import check_output_folder, refuse_existing
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.batch_report import REPORT_NAME, made_by
from SSLFewShotLib.segmentation.support_files import read_support


@dataclass(frozen=True)
class LocalisationJob:
    """What is to be done.

    targets: files, DICOM folders or folders of scans.
    output: the folder for `<stem>_box.mrk.json` and report.json.
    method: one of `choice.METHODS`; model: a name, a folder, or None for the first that fits.
    supports: (image, labels) files, for method "support"; segment_names: None for all.
    margin: mm on every side; None for the method's own. segment_boxes: a file for each structure too.
    """

    targets: Sequence[Path]
    output: Path
    method: str = "support"
    model: str | None = None
    supports: Sequence[tuple[Path, Path]] = ()
    segment_names: Sequence[str] | None = None
    margin: float | None = None
    segment_boxes: bool = False
    device: str = "auto"
    overwrite: bool = False


Preparation = Callable[[LocalisationJob, dict[str, Path], torch.device, Progress], Localiser]


def fit_from_files(
    job: LocalisationJob, targets: dict[str, Path], device: torch.device, progress: Progress = ignore_progress
) -> Localiser:
    """Make a job's localiser and fit it: to its support, or to the targets themselves. Raises InputError."""
    if job.method == "support":
        support = read_support(job.supports, job.segment_names, portion(progress, 0.0, 0.2))
        localiser = make_localiser(job.method, job.model, support.pairs[0][0], device)
        return localiser.fit(support, portion(progress, 0.2, 1.0))
    if job.model is not None:
        ModelStore().find(job.model)  # before a large scan is read
    volumes = some_of(targets, job.method, portion(progress, 0.0, 0.3))
    localiser = make_localiser(job.method, job.model, volumes[0], device)
    return localiser.fit(volumes, portion(progress, 0.3, 1.0))


def run(
    job: LocalisationJob, progress: Progress = ignore_progress, prepare: Preparation = fit_from_files
) -> dict[str, Any]:
    """Localise every target; returns the report, which is also written to report.json.

    prepare: gives the fitted localiser; a process that keeps one from job to job gives its own.

    A scan in which nothing is found has `found` false and a reason; one that cannot be used is named with its
    error and does not stop the rest. Raises InputError for an unusable support or model, an output that exists, or
    when not one target can be used; OutputError when a result cannot be written; Cancelled when the user cancels.
    """
    try:
        return _localised(job, progress, prepare)
    finally:
        forget_scans()


def _localised(job: LocalisationJob, progress: Progress, prepare: Preparation) -> dict[str, Any]:
    targets = named_targets(job.targets, tiff_stacks=True)
    _check(job, targets)
    device = choose_device(job.device)
    share = 1 / (1 + len(targets))
    localiser = prepare(job, targets, device, portion(progress, 0.0, share))
    head = {
        "made_by": made_by(),
        "method": job.method,
        "model": _model_name(localiser),
        "settings": {**localiser.provenance(), "margin_mm": _margin(job, localiser)},
        "device": str(device),
    }

    def work(name: str, path: Path, progress: Progress) -> dict[str, Any]:
        return _localise_one(job, name, path, localiser, progress)

    report = report_on_each(targets, work, job.output, head, portion(progress, share, 1.0))
    entries = report["targets"]
    found = sum(bool(entry.get("found")) for entry in entries)
    with contextlib.suppress(Cancelled):  # too late: all is written, and so it is answered
        progress(1.0, f"found in {found} of {len(entries)} scans")
    return report


def _check(job: LocalisationJob, targets: dict[str, Path]) -> None:
    if job.method not in METHODS:
        raise InputError(f"method '{job.method}' is not known; choose one of {', '.join(METHODS)}")
    if (job.method == "support") != bool(job.supports):
        raise InputError(
            "method 'support' needs a marked scan; give one with its labels"
            if job.method == "support"
            else f"method '{job.method}' takes no support; leave it out, or choose method support"
        )
    if job.margin is not None and not -1e4 < job.margin < 1e4:
        raise InputError(f"a margin of {job.margin} mm: a length in millimetres was expected")
    check_output_folder(job.output)
    for path in [path for name in targets for path in _output_paths(job, name)]:
        refuse_existing(path, job.overwrite)
    refuse_existing(job.output / REPORT_NAME, job.overwrite)


def _output_paths(job: LocalisationJob, name: str) -> tuple[Path, Path]:
    return job.output / f"{name}_box{ROI_ENDING}", job.output / f"{name}_profile.png"


def _localise_one(
    job: LocalisationJob, name: str, path: Path, localiser: Localiser, progress: Progress
) -> dict[str, Any]:
    started = time.monotonic()
    progress(0.0, "reading the scan")
    scan, volume = read_scan(path, job.method, portion(progress, 0.0, 0.1))
    location = localiser.locate(volume, portion(progress, 0.1, 0.95))
    margin = _margin(job, localiser)
    box = _grown(location.box, margin, volume)
    if box is not None:
        box = replace(box, name=f"{name} box", certainty=location.certainty)
    box_path, plot_path = _output_paths(job, name)
    if box is not None:
        write_roi(box, box_path, overwrite=True)
    else:
        box_path.unlink(missing_ok=True)  # of an earlier run: it would be taken for this one's
    if location.profiles:
        progress(0.97, "drawing the profile")
        draw_profiles(location.profiles, plot_path, name)
    elif plot_path.exists():
        plot_path.unlink()
    return {
        "image": path.name,
        "found": box is not None,
        "reason": location.reason,
        "certainty": round(location.certainty, 3),
        "box": None if box is None else box.to_dict(),
        "file": None if box is None else box_path.name,
        "segments": _parts(job, name, location, volume, margin),
        "profiles": [profile.to_dict() for profile in location.profiles],
        "profile_plot": plot_path.name if location.profiles else None,
        "crop": None if box is None else crop_range(scan, box).to_dict(scan.dtype.itemsize),
        "seconds": round(time.monotonic() - started, 2),
    }


def _parts(
    job: LocalisationJob, name: str, location: Location, volume: Volume, margin: float
) -> list[dict[str, Any]]:
    told, used = [], set()
    for part in location.parts:
        box = _grown(part.box, margin, volume)
        file = None
        if job.segment_boxes:
            path = job.output / f"{name}_{_in_file_name(part, used)}_box{ROI_ENDING}"
            path.unlink(missing_ok=True) if job.overwrite else refuse_existing(path, False)
            if box is not None:
                write_roi(box, path)
                file = path.name
        told.append(
            {
                "name": part.name,
                "found": box is not None,
                "reason": part.reason,
                "certainty": round(part.certainty, 3),
                "box": None if box is None else box.to_dict(),
                "file": file,
            }
        )
    return told


def _in_file_name(part: Part, used: set[str]) -> str:
    """A structure's name as a part of a file's name, another one for each."""
    plain = re.sub(r"[^\w-]+", "_", part.name)[:60].strip("_") or "segment"
    name, number = plain, 1
    while name.lower() in used:
        number += 1
        name = f"{plain}_{number}"
    used.add(name.lower())
    return name


def _grown(box: Box | None, margin: float, volume: Volume) -> Box | None:
    return None if box is None else box.grown(margin).clipped(volume)


def _margin(job: LocalisationJob, localiser: Localiser) -> float:
    return float(localiser.margin if job.margin is None else job.margin)


def _model_name(localiser: Localiser) -> str | None:
    told = localiser.provenance().get("descriptor") or {}
    return told.get("name")
