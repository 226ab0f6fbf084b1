"""Cropping files: scans and boxes in, smaller scans and a report out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.crop import crop_range
from SSLFewShotLib.imaging.cropped_files import write_cropped
from SSLFewShotLib.imaging.lazy import open_scan
from SSLFewShotLib.imaging.roi_files import ROI_ENDING, read_roi
from SSLFewShotLib.imaging.targets import named_targets
from SSLFewShotLib.localisation.each_target import report_on_each
from SSLFewShotLib.outputs import check_output_folder, refuse_existing
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.batch_report import REPORT_NAME, made_by

FORMATS = ("nrrd", "nii.gz", "mha")


@dataclass(frozen=True)
class CropJob:
    """What is to be done.

    targets: files, DICOM folders or folders of scans; output: the folder for `<stem>_cropped.<format>`.
    boxes: one for all targets, or one for each; box_file: instead of them a Markups ROI for all, or a folder with
        `<stem>_box.mrk.json` for each. margin: mm on every side.
    """

    targets: Sequence[Path]
    output: Path
    boxes: Sequence[Box] | None = None
    box_file: Path | None = None
    margin: float = 0.0
    format: str = "nrrd"
    compress: bool = True
    overwrite: bool = False


def run(job: CropJob, progress: Progress = ignore_progress) -> dict[str, Any]:
    """Crop every target; returns the report, which is also written to report.json.

    One that cannot be cropped is named with its error and does not stop the rest. Raises InputError for boxes that
    cannot be used, an output that exists, or when not one target can be cropped; OutputError when a result cannot
    be written; Cancelled when the user cancels.
    """
    targets = named_targets(job.targets, tiff_stacks=True)
    _check(job, targets)
    numbers = {name: number for number, name in enumerate(targets)}

    def work(name: str, path: Path, progress: Progress) -> dict[str, Any]:
        return _crop_one(job, _box_for(job, numbers[name], name), name, path, progress)

    head = {"made_by": made_by(), "margin_mm": job.margin}
    report = report_on_each(targets, work, job.output, head, progress)
    entries = report["targets"]
    with contextlib.suppress(Cancelled):  # too late: all is written, and so it is answered
        progress(1.0, f"cropped {sum('error' not in entry for entry in entries)} of {len(entries)} scans")
    return report


def _check(job: CropJob, targets: dict[str, Path]) -> None:
    if (job.boxes is None) == (job.box_file is None):
        raise InputError("either boxes or a file of a box was expected")
    if job.boxes is not None and len(job.boxes) not in (1, len(targets)):
        raise InputError(
            f"{len(job.boxes)} boxes for {len(targets)} scans: one for all or one for each was expected"
        )
    if job.format not in FORMATS:
        raise InputError(f"format '{job.format}': one of {', '.join(FORMATS)} was expected")
    if not -1e4 < job.margin < 1e4:
        raise InputError(f"a margin of {job.margin} mm: a length in millimetres was expected")
    if job.box_file is not None and not Path(job.box_file).exists():
        raise InputError(f"{job.box_file}: no such file or folder; a Markups ROI ({ROI_ENDING}) was expected")
    check_output_folder(job.output)
    given = {path.resolve() for path in targets.values()}
    for name in targets:
        path = _output_path(job, name)
        if path.resolve() in given:
            raise InputError(f"{path}: is a scan, and would be overwritten; choose another output")
        refuse_existing(path, job.overwrite)
    refuse_existing(job.output / REPORT_NAME, job.overwrite)


def _output_path(job: CropJob, name: str) -> Path:
    return job.output / f"{name}_cropped.{job.format}"


def _box_for(job: CropJob, number: int, name: str) -> Box:
    if job.boxes is not None:
        return job.boxes[number if len(job.boxes) > 1 else 0]
    path = Path(job.box_file)
    return read_roi(path / f"{name}_box{ROI_ENDING}" if path.is_dir() else path)


def _crop_one(job: CropJob, box: Box, name: str, path: Path, progress: Progress) -> dict[str, Any]:
    started = time.monotonic()
    progress(0.0, f"reading {path.name}")
    scan = open_scan(path, portion(progress, 0.0, 0.4))
    part = crop_range(scan, box, job.margin)
    output = _output_path(job, name)
    write_cropped(scan, part, output, job.overwrite, job.compress, portion(progress, 0.4, 1.0))
    return {
        "image": path.name,
        "cropped": output.name,
        "box": box.to_dict(),
        "crop": part.to_dict(scan.dtype.itemsize),
        "file_bytes": [_bytes_of(path), output.stat().st_size],
        "seconds": round(time.monotonic() - started, 2),
    }


def _bytes_of(path: Path) -> int:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
