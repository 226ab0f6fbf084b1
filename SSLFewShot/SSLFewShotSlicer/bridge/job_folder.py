"""`JobFolder`: the files of one request, gone when it ends.

Files have neutral names (target_1.nrrd): the worker's log shall hold no patient's name. `explain` puts the names
of the nodes back into what the worker says.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
from pathlib import Path

from SSLFewShotLib.errors import OutputError

_PREFIX = "sslfewshot-job-"


class JobFolder:
    """A folder of its own for the files of one request; a context manager, or call `close`.

    parent: where to make it, the system's folder for temporary files when None.

    Raises OutputError when the folder cannot be made.
    """

    def __init__(self, parent: Path | str | None = None):
        base = Path(parent) if parent else Path(tempfile.gettempdir())
        remove_leftovers(base)
        try:
            base.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=str(base)))
        except OSError as error:
            raise OutputError(
                error.errno, f"{base}: no folder for temporary files can be made here ({error.strerror or error})"
            ) from error
        self.results = self.path / "results"
        self._names: dict[str, str] = {}

    def file(self, kind: str, name: str, ending: str = ".nrrd") -> Path:
        """The path of a new file, "<kind>_<number><ending>", that stands for the node called `name`."""
        number = 1 + sum(known.startswith(f"{kind}_") for known in self._names)
        stem = f"{kind}_{number}"
        self._names[stem] = name
        return self.path / f"{stem}{ending}"

    def result(self, given: Path, what: str, ending: str = ".nrrd") -> Path:
        """Where the worker puts what it made of a given file: `what` is "seg" or "confidence"."""
        return self.results / f"{given.name.split('.')[0]}_{what}{ending}"

    def explain(self, message: str) -> str:
        """A message of the worker's with the names of nodes in the place of files."""
        # The longest first: target_1 is a part of target_10.
        for stem in sorted(self._names, key=len, reverse=True):
            for ending in (".seg.nrrd", ".nrrd"):
                for file in (str(self.path / (stem + ending)), stem + ending):
                    message = message.replace(file, self._names[stem])
        return message.replace(str(self.path), "the folder for temporary files")

    def close(self) -> None:
        """Remove the folder and all in it; again is no error. What another process still holds open goes later."""
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> JobFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        # At the interpreter's end modules may be gone already.
        with contextlib.suppress(Exception):
            self.close()


def remove_leftovers(parent: Path) -> None:
    """Remove the folders of sessions that ended without doing so themselves (killed, crashed)."""
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{_PREFIX}*"):
            owner = folder.name[len(_PREFIX) :].split("-")[0]
            if owner.isdigit() and int(owner) != os.getpid() and not _alive(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    if os.name == "nt":
        # os.kill(pid, 0) would end the process there. 0x1000: the right to ask about it, and nothing else.
        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
