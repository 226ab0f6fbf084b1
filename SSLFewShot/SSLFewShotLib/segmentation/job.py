"""Segmenting files: supports and targets in, labels, confidence and a report out."""

from __future__ import annotations

import contextlib
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SSLFewShotLib.errors import Cancelled, InputError, InputWarning, OutputError
from SSLFewShotLib.imaging.cases import is_label_file
from SSLFewShotLib.imaging.files import read_volume, write_labels, write_volume
from SSLFewShotLib.imaging.nifti import is_sheared
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.targets import named_targets
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.networks.device import choose_device
from SSLFewShotLib.outputs import check_output_folder, refuse_existing, written_atomically
from SSLFewShotLib.progress import Progress, ignore_progress, portion, renamed, watched
from SSLFewShotLib.sampling.intensity import modality_of
from SSLFewShotLib.segmentation.batch_report import REPORT_NAME, SUMMARY_NAME, BatchReport, made_by
from SSLFewShotLib.segmentation.choice import make_segmenter, tuned_segmenter
from SSLFewShotLib.segmentation.cropping import check_crop, predict_cropped
from SSLFewShotLib.segmentation.fingerprint import fingerprint, scan_identity, support_content
from SSLFewShotLib.segmentation.resumption import check_resumable, remove_old_leftovers, take_over_results
from SSLFewShotLib.segmentation.segmenter import Segmenter
from SSLFewShotLib.segmentation.support_files import check_format, read_support
from SSLFewShotLib.segmentation.tuning_folder import begin_in, end_in, share_of_fitting, share_of_reading

FORMATS = ("nii.gz", "nrrd", "seg.nrrd")


@dataclass(frozen=True)
class SegmentationJob:
    """What is to be done.

    targets: files, DICOM folders or folders of scans; supports: (image, labels) files, none for a model that was
        fine-tuned and kept.
    output: the folder for `<stem>_seg.<format>`, `<stem>_confidence.<nii.gz or nrrd>` and report.json.
    model: a name, a folder, or None for the default; segment_names: None for all.
    settings: keyword arguments of the segmenter.
    crop: whether a scan that shows much more than the support is cropped first, see `cropping.predict_cropped`.
    resume: results that an earlier, interrupted job left in `output` are not computed again, when they were made
        with the same support, model, settings and versions and their scans have not changed.
    overwrite: replace results that are there; with `resume` those alone that cannot be taken over.
    """

    targets: Sequence[Path]
    supports: Sequence[tuple[Path, Path]]
    output: Path
    method: str = "auto"
    model: str | None = None
    format: str = "nii.gz"
    device: str = "auto"
    overwrite: bool = False
    segment_names: Sequence[str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    resume: bool = False
    crop: str = "auto"


@dataclass(frozen=True)
class Fitted:
    """A support and the segmenter fitted to it; seconds: what the fitting took, 0 when it was done before.

    support: None for a model that was fine-tuned and kept, which needs none.
    """

    support: SupportSet | None
    segmenter: Segmenter
    seconds: float = 0.0


Preparation = Callable[[SegmentationJob, torch.device, Progress], Fitted]


def fit_from_files(job: SegmentationJob, device: torch.device, progress: Progress = ignore_progress) -> Fitted:
    """Read a job's support and fit its segmenter. Raises InputError as `run` says."""
    if not job.supports:
        return fit_nothing(job, device)
    progress(0.0, "reading the support")
    read = share_of_reading(job.method, job.settings, 0.1)
    support = read_support(job.supports, job.segment_names, portion(progress, 0.0, read))
    check_format(job.format, support)
    segmenter = make_segmenter(job.method, job.model, support.pairs[0][0], device, **job.settings)
    begin_in(job.output, segmenter, job.resume, job.overwrite, job.targets)
    started = time.monotonic()
    segmenter.fit(support, portion(progress, read, 1.0))
    return Fitted(support, segmenter, time.monotonic() - started)


def fit_nothing(job: SegmentationJob, device: torch.device) -> Fitted:
    """The segmenter of a job without supports: of a model that was fine-tuned and kept. Raises as `run` says."""
    if job.method not in ("auto", "tuned"):
        raise InputError(f"method '{job.method}': no support was given; mark at least one scan")
    segmenter = tuned_segmenter(job.model, device, job.segment_names, **job.settings)
    if segmenter.overlapping and job.format != "seg.nrrd":
        raise InputError(f"the model's segments may overlap, which .{job.format} cannot hold; choose seg.nrrd")
    return Fitted(None, segmenter)


def run(
    job: SegmentationJob, progress: Progress = ignore_progress, prepare: Preparation = fit_from_files
) -> dict[str, Any]:
    """Segment every target; returns the report, which is also written to report.json.

    prepare: gives the fitted segmenter; a process that keeps one from job to job gives its own.

    A target that cannot be used is named in the report (and an `InputWarning`) and does not stop the rest. Of
    several targets, the report has a summary, which summary.csv has too.

    Raises InputError for unusable supports, an unknown model, an output that exists, results to go on from that
    were made otherwise, or when no target at all could be segmented (nothing is written then); OutputError when a
    result cannot be written; Cancelled when the user cancels: targets finished before that are kept, with a report
    of them.
    """
    targets = checked_targets(job)
    device = choose_device(job.device)
    share = share_of_fitting(job.method, job.settings, len(targets))
    fitted = prepare(job, device, portion(progress, 0.0, share))
    if fitted.support is not None:
        watched(lambda: support_content(fitted.support), progress, share, "looking what the support holds")
    report = begun_report(job, targets, fitted, str(device))
    left = report.left
    # What was fitted before takes no share of the time.
    begin = share if fitted.seconds else 0.0
    share = (1 - begin) / max(1, len(left))
    for number, name in enumerate(left):
        part = portion(progress, begin + number * share, begin + (number + 1) * share)
        report.add(name, attempt(job, name, targets[name], fitted, part, alone=len(targets) == 1))
    return ended_report(job, report, progress)


def begun_report(job: SegmentationJob, targets: dict[str, Path], fitted: Fitted, device: str) -> BatchReport:
    """The report of a job that begins, with what is taken over from an earlier one.

    Raises InputError when the results to go on from were made with something else.
    """
    made_with = fingerprint(fitted.support, fitted.segmenter, job.format, job.crop)
    report = BatchReport(job.output, _report_head(job, fitted, device, made_with), targets)
    if job.resume:
        take_over_results(report, targets, made_with, job.overwrite)
    return report


def attempt(
    job: SegmentationJob, name: str, path: Path, fitted: Fitted, progress: Progress, alone: bool = False
) -> dict[str, Any]:
    """Segment one target; returns its entry in the report, which is `{"image", "error"}` when it cannot be done.

    alone: an error that nobody foresaw is raised, since there is no rest to go on with.

    Raises OutputError and Cancelled, which end the whole job.
    """
    try:
        scan = scan_identity(path, with_content=not alone)
        return {**_segment_one(job, name, path, fitted, progress), "scan": scan}
    except InputError as error:
        reason = str(error)
    except (OutputError, Cancelled):
        raise
    except Exception as error:
        if alone:
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(f"{type(error).__name__}: {error}".split())
        reason = f"{path}: failed unexpectedly ({text}; {Path(where.filename).name}, line {where.lineno})"
    if not alone:
        warnings.warn(f"left out: {reason}", InputWarning, stacklevel=2)
    return {"image": path.name, "error": reason}


def ended_report(
    job: SegmentationJob, report: BatchReport, progress: Progress = ignore_progress
) -> dict[str, Any]:
    """Finish a job's report and return it. Raises InputError when not one target could be segmented."""
    failed = report.failed
    if not report.has_results:
        several = f" (and none of the {len(failed)} scans could be segmented)" if len(failed) > 1 else ""
        raise InputError(failed[0]["error"] + several)
    written = report.finish()
    if job.resume:
        remove_old_leftovers(job.output, report.begun)
    end_in(job.output)
    count = len(written["targets"])
    taken_over = f", {report.taken_over} of them taken over" if report.taken_over else ""
    with contextlib.suppress(Cancelled):  # too late: all is written, and so it is answered
        progress(1.0, f"segmented {count - len(failed)} of {count} scans{taken_over}")
    return written


def checked_targets(job: SegmentationJob) -> dict[str, Path]:
    """Output stem → path; every target has its own, and where its results will go is free.

    Raises InputError when there is no target, two have the same name, or a result would replace a file.
    """
    if job.format not in FORMATS:
        raise InputError(f"format '{job.format}': one of {', '.join(FORMATS)} was expected")
    check_crop(job.crop)
    named = named_targets(job.targets)
    for path in filter(is_label_file, named.values()):
        what = "named as labels are, and segmented as a scan; name scans only, or their folder"
        warnings.warn(f"{path}: {what}", InputWarning, stacklevel=2)
    _check_outputs(job, named)
    return named


def _check_outputs(job: SegmentationJob, targets: dict[str, Path]) -> None:
    check_output_folder(job.output)
    given = {path.resolve() for path in (*targets.values(), *(Path(p) for pair in job.supports for p in pair))}
    replaced = job.overwrite or (job.resume and check_resumable(job.output))
    for path in [path for name in targets for path in _output_paths(job, name)]:
        if path.resolve() in given:
            raise InputError(f"{path}: is a scan or its labels, and would be overwritten; choose another output")
        refuse_existing(path, replaced)
    for name in (REPORT_NAME, SUMMARY_NAME) if len(targets) > 1 else (REPORT_NAME,):
        refuse_existing(job.output / name, replaced)


def _output_paths(job: SegmentationJob, name: str) -> tuple[Path, Path]:
    ending = "nii.gz" if job.format == "nii.gz" else "nrrd"
    return job.output / f"{name}_seg.{job.format}", job.output / f"{name}_confidence.{ending}"


def _segment_one(
    job: SegmentationJob, name: str, path: Path, fitted: Fitted, progress: Progress
) -> dict[str, Any]:
    started = time.monotonic()
    progress(0.0, "reading the scan")
    volume = read_volume(path, portion(progress, 0.0, 0.05))
    if job.format == "nii.gz" and is_sheared(volume.ijkToLps, volume.size):
        raise InputError(
            f"{path}: NIfTI cannot keep the sheared axes of this scan; choose the format nrrd or seg.nrrd"
        )
    _check_modality(volume, fitted)
    predicting, device = portion(progress, 0.05, 0.95), choose_device(job.device)
    labels, confidence, cropped_to = predict_cropped(
        fitted.segmenter, fitted.support, volume, job.crop, device, predicting
    )
    volumes_ml, mean_confidence = {}, {}
    for segment in labels.segments:
        progress(0.95, f"measuring {segment.name}")
        mask = labels.mask(segment)
        count = int(np.count_nonzero(mask))
        volumes_ml[segment.name] = round(count * volume.voxel_volume / 1000, 3)
        if count:
            mean_confidence[segment.name] = round(float(confidence.array[mask].mean(dtype=np.float64)), 3)
    segmentation_path, confidence_path = _output_paths(job, name)
    # Both or neither, whatever interrupts the writing.
    with written_atomically(segmentation_path) as first, written_atomically(confidence_path) as second:
        write_labels(labels, first, progress=renamed(portion(progress, 0.96, 0.98), "writing the labels"))
        writing = renamed(portion(progress, 0.98, 1.0), "writing the confidence")
        write_volume(confidence, second, progress=writing)
        sizes = [first.stat().st_size, second.stat().st_size]
    return {
        "image": path.name,
        "segmentation": segmentation_path.name,
        "confidence": confidence_path.name,
        "bytes": sizes,
        "seconds": round(time.monotonic() - started, 2),
        "volumes_ml": volumes_ml,
        "mean_confidence": mean_confidence,
        **({} if cropped_to is None else {"cropped_to": cropped_to.to_dict()}),
    }


def _check_modality(volume: Volume, fitted: Fitted) -> None:
    """Warn of a scan that looks like another modality than what it is segmented with."""
    here, said = modality_of(volume), None
    if fitted.support is None:
        said = fitted.segmenter.misfit(here)
    elif here != (there := modality_of(fitted.support.pairs[0][0])):
        said = (
            f"{volume.name} looks like {here}, the support like {there}: expect poor results; mark a scan of the "
            "same modality"
        )
    if said:
        warnings.warn(said, InputWarning, stacklevel=4)


def _report_head(job: SegmentationJob, fitted: Fitted, device: str, made_with: dict[str, Any]) -> dict[str, Any]:
    support, segmenter = fitted.support, fitted.segmenter
    segments = segmenter.segments_ if support is None else support.segments
    return {
        "made_by": made_by(),
        "segmenter": segmenter.provenance(),
        "device": device,
        "index_recall": getattr(segmenter, "recall_", None),
        "support": [
            {"image": image.name, "labels": labels.name, "segments": [s.name for s in support.marked(number)]}
            for number, (image, labels) in enumerate((Path(i), Path(m)) for i, m in job.supports)
        ],
        "support_seconds": round(fitted.seconds, 2),
        "segments": [{"value": s.value, "name": s.name, "colour": list(s.colour)} for s in segments],
        "fingerprint": made_with,
    }
