"""Requests about files, to a worker that shares no disk: the files go there, the results come here.

Pure standard library of Python 3.9.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.outputs import written_atomically
from SSLFewShotLib.worker.carried_names import carried_name
from SSLFewShotLib.worker.carried_results import BROUGHT_FROM, REPORT, Results, paths_in, share
from SSLFewShotLib.worker.carrier import Carrier, remote_path
from SSLFewShotLib.worker.other_names import OtherNames
from SSLFewShotLib.worker.protocol import WRONG_INPUT
from SSLFewShotLib.worker.request import OnProgress, WorkerError, WorkerLost
from SSLFewShotLib.worker.scan_files import files_of_scan

_SENT = 0.15
"""The fraction of a request's progress at which its files are there."""

_FILES = {
    "support/set": ("supports",),
    "segment": ("supports", "targets"),
    "segment/batch": ("supports", "targets"),
    "compare": ("reference", "segmentation", "image"),
    "localise": ("supports", "targets"),
    "crop": ("targets", "box_file"),
    "models/fitting": ("image",),
    "models/import": ("archive",),
    "models/export": (),
    "descriptor/map": ("image",),
    "descriptor/similarity": ("support_image", "target"),
}
"""The parameters that name files to be carried. Supports stay there, the rest goes once it is answered."""
FILE_METHODS = tuple(_FILES)
"""Methods whose files are carried; all others can go straight to the worker."""

_BOX_ENDING = "_box.mrk.json"
"""Of the box of each scan, where "box_file" is a folder."""


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
        results = Results.of(method, params)
        self._give_again(params, report)
        try:
            return self._run(method, params, results, report)
        except WorkerError as error:
            # A worker that was lost meanwhile has come back without the files of the support.
            if isinstance(error, WorkerLost) or error.code != WRONG_INPUT or not self._give_again(params, report):
                raise
            return self._run(method, params, results, report)

    def _give_again(self, params: dict[str, Any], report: OnProgress) -> bool:
        """Set the support again when the worker that had it is not there any more; returns whether it was set."""
        folder, given = self._supports.get(params.get("support", ""), (None, {}))
        if folder is None or folder == self._folder():
            return False
        self._run("support/set", given, None, report)
        return True

    def _folder(self) -> str:
        return str((self._client.info or self._client.start())["folder"])

    def _run(self, method: str, params: dict[str, Any], results: Results | None, report: OnProgress) -> Any:
        folder, names = self._folder(), OtherNames()
        made_in = str(remote_path(folder) / "carried" / f"results-{uuid.uuid4().hex}")
        used = [made_in]
        try:
            theirs = self._carried(method, params, names, used, report)
            if results is not None:
                theirs[results.parameter] = results.expect(made_in, names)
                if params.get("resume"):
                    self._give_results(results.path, made_in, names)
            try:
                request = self._client.request(method, theirs, _within(report, names))
                answer = names.ours(request.result())
            except (WorkerError, Cancelled) as error:
                if results is not None and not isinstance(error, WorkerLost) and self._is_there(folder):
                    # Scans that were finished before are kept, as by a worker that shares the disk.
                    with contextlib.suppress(WorkerError, InputError):
                        results.bring(self.carrier, made_in, names, _silent)
                raise
            if results is not None:
                results.bring(self.carrier, made_in, names, report)
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
        box_folder = None
        if "box_file" in values and Path(values["box_file"]).is_dir():
            box_folder = Path(values.pop("box_file"))
        paths = list(dict.fromkeys(path for value in values.values() for path in paths_in(value)))
        there: dict[str, str] = {}
        for number, path in enumerate(paths):
            tell = share(report, _SENT * number / len(paths), _SENT / len(paths), f"sending {Path(path).name}")
            there[path] = self.carrier.put(path, tell)
            names.same(there[path], path)
            for name, _ in files_of_scan(Path(path)):
                names.renamed(name.split("/"))
        for key, value in values.items():
            if key != "supports":
                used += [str(remote_path(there[path]).parent) for path in paths_in(value)]
        kept = {str(remote_path(there[path]).parent) for path in paths_in(values.get("supports", []))}
        used[:] = [path for path in used if path not in kept]
        theirs = {key: _replaced(value, there) for key, value in values.items()}
        if box_folder is not None:
            theirs["box_file"] = self._put_boxes(box_folder, names)
            used.append(theirs["box_file"])
        return {**params, **theirs}

    def _put_boxes(self, folder: Path, names: OtherNames) -> str:
        """Send the boxes of a folder, each called after its scan as that is called there; returns where they lie.

        Raises InputError when there is none.
        """
        made = f"boxes-{uuid.uuid4().hex}"
        there = None
        for file in sorted(folder.glob(f"*{_BOX_ENDING}")):
            there = self.carrier.put_as(f"{made}/{carried_name(names.theirs(file.name))}", file)
        if there is None:
            raise InputError(
                f"{folder}: no box lies in this folder; <scan>{_BOX_ENDING} was expected for each scan"
            )
        names.same(str(remote_path(there).parent), str(folder))
        return str(remote_path(there).parent)

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


def _within(report: OnProgress, names: OtherNames) -> OnProgress:
    """Progress of the request itself, with this machine's names."""

    def tell(fraction: float, message: str, remaining: Any) -> None:
        report(_SENT + (BROUGHT_FROM - _SENT) * fraction, names.ours(message), remaining)

    return tell


def _replaced(value: Any, there: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: there[str(path)] for key, path in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(entry, there) for entry in value]
    return there[str(value)]
