"""One scan after the other, each with its entry in a report."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.batch_report import BatchReport

Work = Callable[[str, Path, Progress], dict[str, Any]]
"""Takes the name of a target's results and its path; returns its entry."""


def report_on_each(
    targets: dict[str, Path],
    work: Work,
    output: Path,
    head: dict[str, Any],
    progress: Progress = ignore_progress,
) -> dict[str, Any]:
    """Do the work on every target; returns the report, which is in report.json after each one.

    head: what the report says of all of them. One that cannot be used is named with its error (and in an
    `InputWarning`) and does not stop the rest. Raises InputError when not one can be used, and what else `work`
    raises.
    """
    report = BatchReport(output, head, targets)
    for number, (name, path) in enumerate(targets.items()):
        part = portion(progress, number / len(targets), (number + 1) / len(targets))
        try:
            entry = work(name, path, part)
        except InputError as error:
            if len(targets) == 1:
                raise
            warnings.warn(f"left out: {error}", InputWarning, stacklevel=2)
            entry = {"image": path.name, "error": str(error)}
        report.add(name, entry)
    if not report.has_results:
        raise InputError(f"{report.failed[0]['error']} (and none of the {len(targets)} scans could be used)")
    return report.as_dict()
