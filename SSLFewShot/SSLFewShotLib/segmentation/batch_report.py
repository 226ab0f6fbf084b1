"""The report of a job on many scans: kept up to date while it runs, read again to go on, summed up at the end."""

from __future__ import annotations

import csv
import io
import json
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import Any

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.models import installed_versions
from SSLFewShotLib.outputs import write_text

REPORT_NAME = "report.json"
SUMMARY_NAME = "summary.csv"

DONE, FAILED, TAKEN_OVER = "done", "failed", "taken over"


class BatchReport:
    """A report with one entry a scan, in the scans' order whatever the order in which they are finished.

    folder: for report.json, which is written anew after each entry. An entry is turned into text once only, so
        that the five hundredth costs little more than the first.
    head: what the report says of the job as a whole.
    names: the scans', in order.
    """

    def __init__(self, folder: Path, head: dict[str, Any], names: Iterable[str]):
        self.folder = folder
        self.head = head
        self.begun = time.time()
        self._names = list(names)
        self._entries: dict[str, dict[str, Any]] = {}
        self._texts: dict[str, str] = {}
        self._taken_over: set[str] = set()
        self._summary: dict[str, Any] | None = None

    @property
    def left(self) -> list[str]:
        """The names of the scans that have no entry yet."""
        return [name for name in self._names if name not in self._entries]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The entries of the scans that could not be used."""
        return [entry for entry in self._ordered() if "error" in entry]

    @property
    def taken_over(self) -> int:
        """How many entries are an earlier run's."""
        return len(self._taken_over)

    @property
    def has_results(self) -> bool:
        """Whether there is any scan that could be used."""
        return len(self.failed) < len(self._entries)

    def take_over(self, name: str, entry: dict[str, Any]) -> None:
        """Keep the entry of an earlier run."""
        self._taken_over.add(name)
        self._set(name, entry)

    def add(self, name: str, entry: dict[str, Any]) -> None:
        """Enter what a scan has come to, and write the report.

        A report of failures alone is not written: it would only be in the way of the next try.
        """
        self._set(name, entry)
        if self.has_results:
            self.write()

    def write(self) -> None:
        """Write report.json, all at once or not at all."""
        write_text(self.folder / REPORT_NAME, self._text())

    def finish(self) -> dict[str, Any]:
        """Write the report with its summary, and summary.csv beside it when there are several scans; return it."""
        if len(self._names) > 1:
            statuses = [self._status(name) for name in self._names if name in self._entries]
            self._summary = summary(self._ordered(), statuses)
            write_text(self.folder / SUMMARY_NAME, summary_csv(self._ordered(), statuses))
        self.write()
        return self.as_dict()

    def as_dict(self) -> dict[str, Any]:
        """What stands in report.json."""
        report = {**self.head, "targets": self._ordered()}
        return report if self._summary is None else {**report, "summary": self._summary}

    def _set(self, name: str, entry: dict[str, Any]) -> None:
        self._entries[name] = entry
        self._texts[name] = textwrap.indent(_encoded(entry), "    ")

    def _ordered(self) -> list[dict[str, Any]]:
        return [self._entries[name] for name in self._names if name in self._entries]

    def _status(self, name: str) -> str:
        if name in self._taken_over:
            return TAKEN_OVER
        return FAILED if "error" in self._entries[name] else DONE

    def _text(self) -> str:
        head = _encoded(self.head).removesuffix("\n}")
        entries = ",\n".join(self._texts[name] for name in self._names if name in self._texts)
        rest = ""
        if self._summary is not None:
            rest = ',\n  "summary": ' + textwrap.indent(_encoded(self._summary), "  ").lstrip()
        return f'{head},\n  "targets": [\n{entries}\n  ]{rest}\n}}\n'


def made_by() -> dict[str, Any]:
    """With which versions and when, for a report's head."""
    return {
        "versions": installed_versions(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report of an earlier job in `folder`; None when there is none. Raises InputError when it is damaged."""
    path = folder / REPORT_NAME
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        report = None
    targets = report.get("targets") if isinstance(report, dict) else None
    if not isinstance(targets, list) or not all(isinstance(entry, dict) for entry in targets):
        raise InputError(
            f"{path}: not a readable report to go on from; overwrite it without resuming, or choose another output"
        )
    return report


def summary(entries: Sequence[Mapping[str, Any]], statuses: Sequence[str]) -> dict[str, Any]:
    """What many scans have come to.

    Returns how many are done, failed and taken over from an earlier run; the seconds of all; for each segment the
    mean volume (ml, over all scans that were segmented) and the mean confidence (over those where it was found);
    and a row for each scan.
    """
    good = [entry for entry in entries if "error" not in entry]
    names = list(dict.fromkeys(name for entry in good for name in entry["volumes_ml"]))
    segments = {}
    for name in names:
        volumes = [entry["volumes_ml"][name] for entry in good if name in entry["volumes_ml"]]
        sure = [entry["mean_confidence"][name] for entry in good if name in entry["mean_confidence"]]
        segments[name] = {
            "found_in": len(sure),
            "mean_volume_ml": round(fmean(volumes), 3),
            "mean_confidence": round(fmean(sure), 3) if sure else None,
        }
    return {
        "scans": len(entries),
        **{status.replace(" ", "_"): statuses.count(status) for status in (DONE, FAILED, TAKEN_OVER)},
        "seconds": round(sum(entry["seconds"] for entry in good), 2),
        "segments": segments,
        "rows": [
            {"image": entry["image"], "status": status, "seconds": entry.get("seconds")}
            for entry, status in zip(entries, statuses, strict=True)
        ],
    }


def summary_text(report: Mapping[str, Any]) -> str:
    """The summary of a report as a table to read; "" for a report without one."""
    if "summary" not in report:
        return ""
    told = report["summary"]
    rows = [("segment", "found in", "mean volume, ml", "mean confidence")]
    for name, values in told["segments"].items():
        sure = values["mean_confidence"]
        found = f"{values['found_in']} of {told['done'] + told['taken_over']}"
        rows.append((name, found, f"{values['mean_volume_ml']:.2f}", "–" if sure is None else f"{sure:.2f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {a:>{widths[1]}}  {b:>{widths[2]}}  {c:>{widths[3]}}" for name, a, b, c in rows
    ]
    counts = f"{told['done']} done, {told['failed']} failed, {told['taken_over']} taken over"
    return "\n".join([*lines, "", f"{told['scans']} scans: {counts}; {told['seconds']:.1f} s of computing"])


def summary_csv(entries: Sequence[Mapping[str, Any]], statuses: Sequence[str]) -> str:
    """A row for each scan: status, seconds, error, and each segment's volume and mean confidence."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.get("volumes_ml", ())))
    measured = [f"{name} {what}" for name in names for what in ("ml", "confidence")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "status", "seconds", "error", *measured])
    for entry, status in zip(entries, statuses, strict=True):
        values = [entry.get(key, {}).get(name, "") for name in names for key in ("volumes_ml", "mean_confidence")]
        writer.writerow([entry["image"], status, entry.get("seconds", ""), entry.get("error", ""), *values])
    return text.getvalue()


def _encoded(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
