"""Requests about files, to a worker that shares no disk: the files go there, the results come here.

Pure standard library of Python 3.9.
"""

from __future__ import annotations

import contextlib
import io
import json
import uuid
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import Cancelled, InputError, OutputError
from SSLFewShotLib.outputs import check_output_folder, refuse_existing, write_text, written_atomically
from SSLFewShotLib.worker.carried_names import flaw_of
from SSLFewShotLib.worker.carrier import Carrier, OnBytes, remote_path
from SSLFewShotLib.worker.other_names import OtherNames
from SSLFewShotLib.worker.protocol import WRONG_INPUT
from SSLFewShotLib.worker.request import OnProgress, WorkerError, WorkerLost
from SSLFewShotLib.worker.scan_files import files_of_scan

REPORT, SUMMARY = "report.json", "summary.csv"
_SENT, _DONE = 0.15, 0.95
"""Fractions of a request's progress at which its files are there, and its results begin to come."""

_FILES = {
    "support/set": ("supports",),
    "segment": ("supports", "targets"),
    "segment/batch": ("supports", "targets"),
    "compare": ("reference", "segmentation", "image"),
    "models/fitting": ("image",),
}
"""The parameters that name files to be carried. Supports stay there, the rest goes once it is answered."""


class CarriedJobs:
    """Makes requests with this machine's paths to a worker elsewhere, with results as if it had run here.

    Keep one for all requests to a client: supports are carried once, and again to the worker that takes the place
    of a lost one.
    """

    def __init__(self, client: Any) -> None:
        self.carrier = Carrier(client)
        self._client = client
        self._supports: dict[str, tuple[str, dict[str, Any]]] = {}  # name → the worker's folder, params as given

    @property
    def needed(self) -> bool:
        """Whether the worker shares no disk with this machine; it is started to be asked."""
        return not (self._client.info or self._client.start()).get("shares_disk")

    def run(self, method: str, params: dict[str, Any], on_progress: OnProgress | None = None) -> Any:
        """Carry what the parameters name, make the request, bring the results, and return the answer.

        params: with the paths of this machine; "output" is the folder here that gets the results. Blocks; the
        client's callbacks run meanwhile. `on_progress` may raise Cancelled.

        Raises what the carrier and the request raise, with this machine's names in it; InputError for an output
        that exists already or is a file.
        """
        if method not in _FILES:
            return self._client.request(method, params, on_progress).result()
        report = on_progress or (lambda fraction, message, remaining: None)
        output = _checked_output(params) if "output" in params else None
        self._give_again(params, report)
        try:
            return self._run(method, params, output, report)
        except WorkerError as error:
            # A worker that was lost meanwhile has come back without the files of the support.
            if isinstance(error, WorkerLost) or error.code != WRONG_INPUT or not self._give_again(params, report):
                raise
            return self._run(method, params, output, report)

    def _give_again(self, params: dict[str, Any], report: OnProgress) -> bool:
        """Set the support again when the worker that had it is not there any more; returns whether it was set."""
        folder, given = self._supports.get(params.get("support", ""), (None, {}))
        if folder is None or folder == self._folder():
            return False
        self._run("support/set", given, None, report)
        return True

    def _folder(self) -> str:
        return str((self._client.info or self._client.start())["folder"])

    def _run(self, method: str, params: dict[str, Any], output: Path | None, report: OnProgress) -> Any:
        folder, names = self._folder(), OtherNames()
        results = str(remote_path(folder) / "carried" / f"results-{uuid.uuid4().hex}")
        used = [results]
        try:
            theirs = self._carried(method, params, names, used, report)
            if output is not None:
                names.same(results, str(output))
                theirs["output"] = results
                if params.get("resume"):
                    self._give_results(output, results, names)
            try:
                request = self._client.request(method, theirs, _within(report, names))
                answer = names.ours(request.result())
            except (WorkerError, Cancelled) as error:
                if output is not None and not isinstance(error, WorkerLost) and self._is_there(folder):
                    # Scans that were finished before are kept, as by a worker that shares the disk.
                    with contextlib.suppress(WorkerError, InputError):
                        self._bring(results, output, params, names, _silent)
                raise
            if output is not None:
                self._bring(results, output, params, names, report)
        except WorkerError as error:
            error.message, error.data = names.ours(error.message), names.ours(error.data)
            error.args = (error.message,)
            raise
        finally:
            if self._is_there(folder):
                for path in used:  # not waited for: it comes after all that was sent before
                    self._client.request("files/remove", {"path": path})
        if method == "support/set":
            self._supports[answer["support"]] = folder, dict(params)
        report(1.0, "done", None)
        return answer

    def _is_there(self, folder: str) -> bool:
        """Whether the worker with this folder still runs; a lost one is not started again just to clean up."""
        info = self._client.info
        return info is not None and info["folder"] == folder

    def _carried(
        self, method: str, params: dict[str, Any], names: OtherNames, used: list[str], report: OnProgress
    ) -> dict[str, Any]:
        """Send all files that the parameters name; returns the parameters with their paths there."""
        values = {key: params[key] for key in _FILES[method] if params.get(key) is not None}
        paths = list(dict.fromkeys(path for value in values.values() for path in _paths_in(value)))
        there: dict[str, str] = {}
        for number, path in enumerate(paths):
            tell = _share(report, _SENT * number / len(paths), _SENT / len(paths), f"sending {Path(path).name}")
            there[path] = self.carrier.put(path, tell)
            names.same(there[path], path)
            for name, _ in files_of_scan(Path(path)):
                names.renamed(name.split("/"))
        for key, value in values.items():
            if key != "supports":
                used += [str(remote_path(there[path]).parent) for path in _paths_in(value)]
        kept = {str(remote_path(there[path]).parent) for path in _paths_in(values.get("supports", []))}
        used[:] = [path for path in used if path not in kept]
        return {**params, **{key: _replaced(value, there) for key, value in values.items()}}

    def _give_results(self, output: Path, results: str, names: OtherNames) -> None:
        """Carry the results of an interrupted job there, so that it can go on from them."""
        try:
            report = json.loads((output / REPORT).read_text(encoding="utf-8"))
            entries = [entry for entry in report["targets"] if "error" not in entry]
            made = [str(entry[key]) for entry in entries for key in ("segmentation", "confidence")]
        except (OSError, ValueError, KeyError, TypeError):
            return
        folder = remote_path(results).name
        with written_atomically(output / f".{REPORT}") as temporary:
            temporary.write_text(json.dumps(names.theirs(report)), encoding="utf-8")
            self.carrier.put_as(f"{folder}/{REPORT}", temporary)
        (output / f".{REPORT}").unlink()
        for name in made:
            if (output / name).is_file():
                self.carrier.put_as(f"{folder}/{names.theirs(name)}", output / name)

    def _bring(
        self, results: str, output: Path, params: dict[str, Any], names: OtherNames, report: OnProgress
    ) -> None:
        """Fetch the results that the report there names, and the report; each under its name here."""
        text = self._text(results, REPORT)
        told = json.loads(text)
        given = {
            Path(path).resolve() for key in ("supports", "targets") for path in _paths_in(params.get(key, []))
        }
        made = [entry for entry in told["targets"] if "error" not in entry]
        for number, entry in enumerate(made):
            step = (1 - _DONE) / len(made)
            pair = [_result(entry[key]) for key in ("segmentation", "confidence")]
            ours = [output / names.ours(name) for name in pair]
            for path in ours:
                if path.resolve() in given:
                    raise InputError(
                        f"{path}: is a scan or its labels, and would be overwritten; choose another output"
                    )
                refuse_existing(path, bool(params.get("overwrite") or params.get("resume")))
            # Both or neither, whatever interrupts the writing.
            with written_atomically(ours[0]) as first, written_atomically(ours[1]) as second:
                for half, path in enumerate((first, second)):
                    tell = _share(report, _DONE + step * (number + half / 2), step / 2, "fetching the results")
                    with open(path, "wb") as file:
                        self.carrier.fetch(str(remote_path(results) / pair[half]), file, tell)
        if told.get("summary") is not None:
            write_text(output / SUMMARY, names.ours_in_csv(self._text(results, SUMMARY)))
        ours_told = names.ours(told)
        if ours_told != told:
            text = json.dumps(ours_told, indent=2, ensure_ascii=False) + "\n"
        write_text(output / REPORT, text)

    def _text(self, results: str, name: str) -> str:
        held = io.BytesIO()
        self.carrier.fetch(str(remote_path(results) / name), held)
        return held.getvalue().decode("utf-8")


def carried(
    client: Any,
    method: str,
    params: dict[str, Any],
    output: Path | str | None = None,
    on_progress: OnProgress | None = None,
) -> Any:
    """Make one request with carried files, see `CarriedJobs.run`; output: in place of the one in `params`."""
    given = params if output is None else {**params, "output": str(output)}
    return CarriedJobs(client).run(method, given, on_progress)


def _silent(fraction: float, message: str, remaining: Any) -> None:
    """Progress of what is done after a cancel, which cannot be cancelled once more."""


def _checked_output(params: dict[str, Any]) -> Path:
    output = Path(params["output"])
    check_output_folder(output)
    refuse_existing(output / REPORT, bool(params.get("overwrite") or params.get("resume")))
    return output


def _result(name: Any) -> str:
    """The name of a result, which a worker says: it must not lead out of the output folder."""
    if not isinstance(name, str) or "/" in name or flaw_of(name):
        raise OutputError(None, "the worker named a result in a way that is no file's name; it was left there")
    return name


def _within(report: OnProgress, names: OtherNames) -> OnProgress:
    """Progress of the request itself, with this machine's names."""

    def tell(fraction: float, message: str, remaining: Any) -> None:
        report(_SENT + (_DONE - _SENT) * fraction, names.ours(message), remaining)

    return tell


def _share(report: OnProgress, start: float, length: float, message: str) -> OnBytes:
    """Progress of the bytes of a file as a part of the whole."""

    def tell(done: float, of: int) -> None:
        report(start + length * done / max(of, 1), message, None)

    return tell


def _paths_in(value: Any) -> list[str]:
    """The paths in a parameter: one, several, or pairs of image and labels."""
    if isinstance(value, dict):
        return [str(path) for path in value.values()]
    if isinstance(value, (list, tuple)):
        return [path for entry in value for path in _paths_in(entry)]
    return [str(value)]


def _replaced(value: Any, there: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: there[str(path)] for key, path in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(entry, there) for entry in value]
    return there[str(value)]
