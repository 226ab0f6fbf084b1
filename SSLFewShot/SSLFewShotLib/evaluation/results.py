"""The scores of an evaluation on disk: a table that grows by one scan at a time and survives being killed."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import InputError, OutputError
from SSLFewShotLib.outputs import write_text

RESULTS_FILE = "results.csv"
UNIT = ("method", "model", "shots", "support", "query")
"""What identifies one labelled scan; a row adds the segment."""
NUMBERS = ("dice", "nsd", "hd95_mm", "reference_ml", "prediction_ml", "seconds", "recall")
COLUMNS = (*UNIT, "segment", *NUMBERS, "error")


def read_results(output: Path) -> list[dict[str, Any]]:
    """The rows of `output`/results.csv, of scans that were written whole; numbers as numbers, NaN where empty.

    Raises InputError when there is no such table.
    """
    path = Path(output) / RESULTS_FILE
    try:
        content = path.read_bytes()
    except OSError:
        raise InputError(f"{path}: no results are there; evaluate first, or check the folder") from None
    return _parsed(content, path)


class ResultTable:
    """The rows so far, by scan. An empty line closes each addition: what follows the last one was cut off.

    A scan that failed is not kept from earlier runs, so that it is tried again.
    """

    def __init__(self, output: Path):
        """Open `output`/results.csv, or start it. Raises InputError for a table of another kind."""
        self.path = Path(output) / RESULTS_FILE
        self.rows = read_results(output) if self.path.exists() else []
        self.rows = [row for row in self.rows if not row["error"]]
        self._done = {unit_of(row) for row in self.rows}
        self.tidy()

    def has(self, unit: tuple) -> bool:
        """Whether a scan has been scored; unit: (method, model, shots, support, query)."""
        return unit in self._done

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append all rows of one scan; on disk when this returns. Raises OutputError when it cannot be written."""
        empty = {column: math.nan if column in NUMBERS else "" for column in COLUMNS}
        rows = [{**empty, **row} for row in rows]
        try:
            with open(self.path, "ab") as file:
                file.write((_lines(rows) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(error.errno, f"{self.path}: could not be written ({error.strerror})") from error
        self.rows += rows
        self._done.update(unit_of(row) for row in rows)

    def tidy(self) -> None:
        """Write the table anew, sorted, without the empty lines between scans."""
        self.rows.sort(key=unit_of)
        write_text(self.path, ",".join(COLUMNS) + "\n" + _lines(self.rows) + "\n")


def unit_of(row: Mapping[str, Any]) -> tuple:
    """What identifies a row's scan: (method, model, shots, support, query)."""
    return tuple(row[column] for column in UNIT)


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_cell(row[column]) for column in COLUMNS] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return " ".join(str(value).split())


def _parsed(content: bytes, path: Path) -> list[dict[str, Any]]:
    whole = content[: content.rfind(b"\n\n") + 1] if b"\n\n" in content else content.split(b"\n")[0]
    rows = list(csv.DictReader(io.StringIO(whole.decode("utf-8", "replace"))))
    header = content.split(b"\n")[0].decode("utf-8", "replace").split(",")
    if header != list(COLUMNS):
        raise InputError(f"{path}: not a table of results of this version; choose another output or overwrite it")
    try:
        for row in rows:
            row["shots"] = int(row["shots"])
            row.update({column: float(row[column] or "nan") for column in NUMBERS})
    except (ValueError, TypeError):
        raise InputError(f"{path}: damaged; restore it, or evaluate again with overwriting") from None
    return rows
