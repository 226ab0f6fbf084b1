"""Going on with a job on many scans that was interrupted: which results can stay as they are."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.segmentation.batch_report import REPORT_NAME, BatchReport, read_report
from SSLFewShotLib.segmentation.fingerprint import differences, is_same_scan

_LEFTOVER = re.compile(r"\.writing-(\d+)-")


def check_resumable(folder: Path) -> bool:
    """Whether there is a report to go on from; without one, results that lie there are not known to be a job's."""
    return (folder / REPORT_NAME).exists()


def take_over_results(
    report: BatchReport, targets: Mapping[str, Path], made_with: Mapping[str, Any], start_again: bool = False
) -> None:
    """Enter into a report all that an earlier one in its folder has of the same scans, as far as it still holds.

    A result holds when its files are there in their full size and its scan is the same. start_again: take nothing
    over from a report that is damaged or was made with something else.

    Raises InputError in that case without `start_again`, naming what is different.
    """
    path = report.folder / REPORT_NAME
    try:
        earlier = read_report(report.folder)
        if earlier is None:
            return
        if not isinstance(earlier.get("fingerprint"), dict):
            raise InputError(
                f"{path}: does not say what its results were made with, so that they cannot be gone on from; "
                "overwrite them, or choose another output"
            )
        if different := differences(earlier["fingerprint"], made_with):
            raise InputError(
                f"{path}: cannot go on from these results, they were made with something else: "
                f"{'; '.join(different)}; give the same again, overwrite them to make all again, or choose "
                "another output"
            )
    except InputError:
        if start_again:
            return
        raise
    entries = {entry["image"]: entry for entry in earlier["targets"] if "image" in entry and "error" not in entry}
    for name, scan in targets.items():
        entry = entries.get(scan.name)
        if entry is not None and _holds(entry, report.folder, name, scan):
            report.take_over(name, entry)


def remove_old_leftovers(folder: Path, before: float) -> None:
    """Remove what killed processes had begun to write in a folder.

    before: seconds since the epoch; whatever is younger may be another process's that is at work now, perhaps on
        another machine.
    """
    for entry in folder.iterdir():
        match = _LEFTOVER.match(entry.name)
        try:
            if match and entry.stat().st_mtime < before and not _is_running(int(match[1])):
                shutil.rmtree(entry, ignore_errors=True)
        except OSError:
            continue


def _holds(entry: Mapping[str, Any], folder: Path, name: str, scan: Path) -> bool:
    try:
        files = [folder / entry["segmentation"], folder / entry["confidence"]]
        there = all(file.parent == folder and file.name.startswith(f"{name}_") for file in files)
        whole = there and [file.stat().st_size for file in files] == entry["bytes"]
        return whole and is_same_scan(scan, entry["scan"])
    except (KeyError, TypeError, OSError):
        return False


def _is_running(pid: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end it; a leftover does no harm
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
