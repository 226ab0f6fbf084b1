"""Segmenting files: supports and targets in, labels, confidence and a report out."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.cases import find_scans
from SSLFewShotLib.imaging.files import read_labels, read_volume, stem, write_labels, write_volume
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.nifti import is_sheared
from SSLFewShotLib.imaging.resampling import labels_on_grid
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.models import installed_versions
from SSLFewShotLib.networks.device import choose_device
from SSLFewShotLib.outputs import refuse_existing, write_text, written_atomically
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.intensity import modality_of
from SSLFewShotLib.segmentation.choice import make_segmenter
from SSLFewShotLib.segmentation.segmenter import Segmenter

FORMATS = ("nii.gz", "nrrd", "seg.nrrd")
REPORT_NAME = "report.json"


@dataclass(frozen=True)
class SegmentationJob:
    """What is to be done.

    targets: files, DICOM folders or folders of scans; supports: (image, labels) files.
    output: the folder for `<stem>_seg.<format>`, `<stem>_confidence.<nii.gz or nrrd>` and report.json.
    model: a name, a folder, or None for the default; segment_names: None for all.
    settings: keyword arguments of the segmenter.
    """

    targets: Sequence[Path]
    supports: Sequence[tuple[Path, Path]]
    output: Path
    method: str = "knn"
    model: str | None = None
    format: str = "nii.gz"
    device: str = "auto"
    overwrite: bool = False
    segment_names: Sequence[str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """A support and the segmenter fitted to it; seconds: what the fitting took, 0 when it was done before."""

    support: SupportSet
    segmenter: Segmenter
    seconds: float = 0.0


Preparation = Callable[[SegmentationJob, torch.device, Progress], Fitted]


def fit_from_files(job: SegmentationJob, device: torch.device, progress: Progress = ignore_progress) -> Fitted:
    """Read a job's support and fit its segmenter. Raises InputError as `run` says."""
    progress(0.0, "reading the support")
    support = read_support(job.supports, job.segment_names)
    check_format(job.format, support)
    segmenter = make_segmenter(job.method, job.model, support.pairs[0][0], device, **job.settings)
    started = time.monotonic()
    segmenter.fit(support, progress)
    return Fitted(support, segmenter, time.monotonic() - started)


def run(
    job: SegmentationJob, progress: Progress = ignore_progress, prepare: Preparation = fit_from_files
) -> dict[str, Any]:
    """Segment every target; returns the report, which is also written to report.json.

    prepare: gives the fitted segmenter; a process that keeps one from job to job gives its own.

    A target that cannot be used is named in the report (and an `InputWarning`) and does not stop the rest.

    Raises InputError for unusable supports, an unknown model, an output that exists, or when no target at all
    could be segmented (nothing is written then); OutputError when a result cannot be written; Cancelled when the
    user cancels: targets finished before that are kept, with a report of them.
    """
    targets = _named_targets(job)
    _check_outputs(job, targets)
    device = choose_device(job.device)
    share = 1 / (1 + len(targets))
    fitted = prepare(job, device, portion(progress, 0.0, share))
    report = _report_head(job, fitted, str(device))
    # What was fitted before takes no share of the time.
    begin = share if fitted.seconds else 0.0
    share = (1 - begin) / len(targets)
    for number, (name, path) in enumerate(targets.items(), start=1):
        part = portion(progress, begin + (number - 1) * share, begin + number * share)
        try:
            report["targets"].append(_segment_one(job, name, path, fitted, part))
        except InputError as error:
            if len(targets) > 1:
                warnings.warn(f"left out: {error}", InputWarning, stacklevel=2)
            report["targets"].append({"image": path.name, "error": str(error)})
        failed = [target for target in report["targets"] if "error" in target]
        # A report of failures alone would only be in the way of the next try.
        if len(failed) < number:
            write_text(job.output / REPORT_NAME, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if len(failed) == len(targets):
        several = f" (and none of the {len(failed)} scans could be segmented)" if len(failed) > 1 else ""
        raise InputError(failed[0]["error"] + several)
    progress(1.0, f"segmented {len(targets) - len(failed)} of {len(targets)} scans")
    return report


def read_support(pairs: Sequence[tuple[Path, Path]], segment_names: Sequence[str] | None = None) -> SupportSet:
    """Read (image, labels) files; labels on another grid are resampled to the image, with a warning.

    Raises InputError when a file is unusable, image and labels do not overlap in space, or nothing is marked.
    """
    read: list[tuple[Volume, LabelMap]] = []
    for image, labels in pairs:
        volume = read_volume(image)
        read.append((volume, labels_on_grid(read_labels(labels), volume)))
    return SupportSet(read, segment_names)


def _named_targets(job: SegmentationJob) -> dict[str, Path]:
    """Output stem → path; every target has its own."""
    if job.format not in FORMATS:
        raise InputError(f"format '{job.format}': one of {', '.join(FORMATS)} was expected")
    if not job.targets:
        raise InputError("no target was given: name at least one scan to segment")
    named: dict[str, Path] = {}
    for given in job.targets:
        for path in find_scans(Path(given)):
            name = stem(path)
            if name in named and named[name].resolve() != path.resolve():
                raise InputError(
                    f"{path}: would be written over the result of {named[name]}, which has the same name; "
                    "segment them into different output folders"
                )
            named[name] = path
    return named


def _check_outputs(job: SegmentationJob, targets: dict[str, Path]) -> None:
    if job.output.exists() and not job.output.is_dir():
        raise InputError(f"{job.output}: a folder was expected for the output, this is a file")
    given = {path.resolve() for path in (*targets.values(), *(Path(p) for pair in job.supports for p in pair))}
    for path in [path for name in targets for path in _output_paths(job, name)]:
        if path.resolve() in given:
            raise InputError(f"{path}: is a scan or its labels, and would be overwritten; choose another output")
        refuse_existing(path, job.overwrite)
    refuse_existing(job.output / REPORT_NAME, job.overwrite)


def check_format(format: str, support: SupportSet) -> None:
    """Raise InputError when a format cannot hold the segments of a support, because they overlap."""
    if format != "seg.nrrd" and any(_in_several_layers(support, n) for n in range(len(support))):
        raise InputError(f"the support's segments overlap, which .{format} cannot hold; give --format seg.nrrd")


def _in_several_layers(support: SupportSet, number: int) -> bool:
    """Whether those segments of a support that are wanted overlap, as far as its layers tell."""
    labels = support.pairs[number][1]
    wanted = {segment.name for segment in support.marked(number)}
    layers = {labels.layers.get(s.value, 0) for s in labels.segments if s.name in wanted}
    return labels.overlapping and len(layers) > 1


def _output_paths(job: SegmentationJob, name: str) -> tuple[Path, Path]:
    ending = "nii.gz" if job.format == "nii.gz" else "nrrd"
    return job.output / f"{name}_seg.{job.format}", job.output / f"{name}_confidence.{ending}"


def _segment_one(
    job: SegmentationJob, name: str, path: Path, fitted: Fitted, progress: Progress
) -> dict[str, Any]:
    started = time.monotonic()
    volume = read_volume(path)
    if job.format == "nii.gz" and is_sheared(volume.ijkToLps, volume.size):
        raise InputError(
            f"{path}: NIfTI cannot keep the sheared axes of this scan; give --format nrrd or seg.nrrd"
        )
    reference = fitted.support.pairs[0][0]
    if modality_of(volume) != modality_of(reference):
        warnings.warn(
            f"{volume.name} looks like {modality_of(volume)}, the support like {modality_of(reference)}: "
            "expect poor results; mark a scan of the same modality",
            InputWarning,
            stacklevel=3,
        )
    labels, confidence = fitted.segmenter.predict(volume, progress)
    segmentation_path, confidence_path = _output_paths(job, name)
    # Both or neither, whatever interrupts the writing.
    with written_atomically(segmentation_path) as first, written_atomically(confidence_path) as second:
        write_labels(labels, first)
        write_volume(confidence, second)
    masks = {segment.name: labels.mask(segment) for segment in labels.segments}
    return {
        "image": path.name,
        "segmentation": segmentation_path.name,
        "confidence": confidence_path.name,
        "seconds": round(time.monotonic() - started, 2),
        "volumes_ml": {n: round(float(m.sum()) * volume.voxel_volume / 1000, 3) for n, m in masks.items()},
        "mean_confidence": {
            n: round(float(confidence.array[m].mean(dtype=np.float64)), 3) for n, m in masks.items() if m.any()
        },
    }


def _report_head(job: SegmentationJob, fitted: Fitted, device: str) -> dict[str, Any]:
    support, segmenter = fitted.support, fitted.segmenter
    return {
        "made_by": {
            "versions": installed_versions(),
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        "segmenter": segmenter.provenance(),
        "device": device,
        "index_recall": getattr(segmenter, "recall_", None),
        "support": [
            {"image": image.name, "labels": labels.name, "segments": [s.name for s in support.marked(number)]}
            for number, (image, labels) in enumerate((Path(i), Path(m)) for i, m in job.supports)
        ],
        "support_seconds": round(fitted.seconds, 2),
        "segments": [{"value": s.value, "name": s.name, "colour": list(s.colour)} for s in support.segments],
        "targets": [],
    }
