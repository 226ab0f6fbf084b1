"""What a worker that shares no disk has made: fetched, each file under its name here.

Pure standard library of Python 3.9.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import InputError, OutputError
from SSLFewShotLib.outputs import check_output_folder, refuse_existing, write_text, written_atomically
from SSLFewShotLib.worker.carried_names import carried_name, flaw_of
from SSLFewShotLib.worker.carrier import Carrier, OnBytes, remote_path
from SSLFewShotLib.worker.other_names import OtherNames
from SSLFewShotLib.worker.request import OnProgress
from SSLFewShotLib.worker.scan_files import files_of_scan

REPORT, SUMMARY = "report.json", "summary.csv"
BROUGHT_FROM = 0.95
"""The fraction of a request's progress at which its results begin to come."""

_ONE_FILE = {"models/export": "archive", "descriptor/map": "output", "descriptor/similarity": "output"}
"""Methods that make one file, with the parameter that names it."""


class Results:
    """What a request is to make: a folder with a report, or one file. path: here."""

    parameter = "output"

    def __init__(self, params: dict[str, Any]) -> None:
        self._params = params
        self.path = Path(params[self.parameter])
        self._check()

    @classmethod
    def of(cls, method: str, params: dict[str, Any]) -> Results | None:
        """Those of a request, None when it makes none. Raises InputError for an output that is there already."""
        if method in _ONE_FILE:
            return _ResultFile(params, _ONE_FILE[method])
        if method == "crop":
            return _CroppedScans(params)
        return cls(params) if "output" in params else None

    def expect(self, there: str, names: OtherNames) -> str:
        """Where the worker is to put them; there: the folder for them. Learns what that is called here."""
        names.same(there, str(self.path))
        return there

    def bring(self, carrier: Carrier, there: str, names: OtherNames, report: OnProgress) -> None:
        """Fetch what the report there names, and the report; each under its name here."""
        text = _text(carrier, there, REPORT)
        told = json.loads(text)
        given = self._given()
        made = [files for entry in told["targets"] if "error" not in entry and (files := _made_for(entry))]
        for number, files in enumerate(made):
            step = (1 - BROUGHT_FROM) / len(made)
            ours = [self.path / names.ours(name) for name in files]
            for path in ours:
                if path.resolve() in given:
                    raise InputError(
                        f"{path}: is a scan or its labels, and would be overwritten; choose another output"
                    )
                refuse_existing(path, self._may_replace())
            # All of one scan's or none, whatever interrupts the writing.
            with contextlib.ExitStack() as together:
                parts = [together.enter_context(written_atomically(path)) for path in ours]
                for part, name in enumerate(files):
                    start = BROUGHT_FROM + step * (number + part / len(files))
                    tell = share(report, start, step / len(files), "fetching the results")
                    with open(parts[part], "wb") as file:
                        carrier.fetch(str(remote_path(there) / name), file, tell)
        if told.get("summary") is not None:
            write_text(self.path / SUMMARY, names.ours_in_csv(_text(carrier, there, SUMMARY)))
        ours_told = names.ours(told)
        if ours_told != told:
            text = json.dumps(ours_told, indent=2, ensure_ascii=False) + "\n"
        write_text(self.path / REPORT, text)

    def _given(self) -> set[Path]:
        """The scans and labels that no result may replace."""
        paths = [path for key in ("supports", "targets") for path in paths_in(self._params.get(key, []))]
        return {Path(path).resolve() for path in paths}

    def _may_replace(self) -> bool:
        return bool(self._params.get("overwrite") or self._params.get("resume"))

    def _check(self) -> None:
        check_output_folder(self.path)
        refuse_existing(self.path / REPORT, self._may_replace())


class _CroppedScans(Results):
    """Parts of scans, which are called like scans, and may lie in a folder of them."""

    def _given(self) -> set[Path]:
        paths = paths_in(self._params["targets"])
        return {file.resolve() for path in paths for _, file in files_of_scan(Path(path))}


class _ResultFile(Results):
    """One file, and no report."""

    def __init__(self, params: dict[str, Any], parameter: str) -> None:
        self.parameter = parameter
        super().__init__(params)

    def expect(self, there: str, names: OtherNames) -> str:
        file = str(remote_path(there) / carried_name(self.path.name))
        names.same(file, str(self.path))
        return file

    def bring(self, carrier: Carrier, there: str, names: OtherNames, report: OnProgress) -> None:
        tell = share(report, BROUGHT_FROM, 1 - BROUGHT_FROM, "fetching the result")
        carrier.get(str(remote_path(there) / carried_name(self.path.name)), self.path, tell)

    def _check(self) -> None:
        if self.parameter == "archive":  # maps are replaced, here as there
            refuse_existing(self.path, self._may_replace())


def share(report: OnProgress, start: float, length: float, message: str) -> OnBytes:
    """Progress of the bytes of a file as a part of the whole."""

    def tell(done: float, of: int) -> None:
        report(start + length * done / max(of, 1), message, None)

    return tell


def paths_in(value: Any) -> list[str]:
    """The paths in a parameter: one, several, or pairs of image and labels."""
    if isinstance(value, dict):
        return [str(path) for path in value.values()]
    if isinstance(value, (list, tuple)):
        return [path for entry in value for path in paths_in(entry)]
    return [str(value)]


def _made_for(entry: dict[str, Any]) -> list[str]:
    """The names of the files that a report says were made for one scan."""
    keys = ("segmentation", "confidence", "file", "profile_plot", "cropped")
    parts = [part.get("file") for part in entry.get("segments") or () if isinstance(part, dict)]
    return [_checked(name) for name in (*(entry.get(key) for key in keys), *parts) if name is not None]


def _checked(name: Any) -> str:
    """The name of a result, which a worker says: it must not lead out of the output folder."""
    if not isinstance(name, str) or "/" in name or flaw_of(name):
        raise OutputError(None, "the worker named a result in a way that is no file's name; it was left there")
    return name


def _text(carrier: Carrier, there: str, name: str) -> str:
    held = io.BytesIO()
    carrier.fetch(str(remote_path(there) / name), held)
    return held.getvalue().decode("utf-8")
