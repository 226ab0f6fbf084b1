"""Files that a user keeps: written under a temporary name and moved into place, never half-written."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from SSLFewShotLib.errors import InputError, OutputError


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise `InputError` when `path` exists and the user did not ask to overwrite it."""
    if path.exists() and not overwrite:
        raise InputError(f"{path}: the output exists already; overwrite it, or choose another output")


def check_output_folder(folder: Path) -> None:
    """Raise `InputError` when no folder can be at `folder`, since there, or above it, lies a file."""
    for place in (folder, *folder.parents):
        if place.is_dir():
            return
        if os.path.lexists(place):
            raise InputError(
                f"{place}: a folder was expected for the output, this is a file; choose another output"
            )


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there when the block succeeds, else remove it.

    The temporary name ends with the name of `path`, so that writers which look at the extension work. Its folder
    has the number of this process in its name, see `remove_leftovers`.
    Raises `OutputError` naming `path` when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_prefix(os.getpid()), dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            os.replace(temporary, path)
    except OSError as error:
        raise _explained(error, path, temporary) from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; parts of file names that are no Unicode are escaped."""
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def remove_leftovers(folder: Path, pid: int) -> list[Path]:
    """Remove what a process that was killed had begun to write in `folder`; returns what was removed.

    pid: of that process, which must have ended. What cannot be removed or listed is left.
    """
    try:
        begun = [entry for entry in Path(folder).iterdir() if entry.name.startswith(_prefix(pid))]
    except OSError:
        return []
    for entry in begun:
        shutil.rmtree(entry, ignore_errors=True)
    return [entry for entry in begun if not entry.exists()]


def _prefix(pid: int) -> str:
    return f".writing-{pid}-"


def _explained(error: OSError, path: Path, temporary: Path | None) -> OSError:
    if isinstance(error, OutputError):
        # Written within another writing: the name that the user knows is the outer one.
        return OutputError(error.errno, (error.strerror or str(error)).replace(str(temporary), str(path)))
    if error.errno == errno.ENOSPC:
        return OutputError(error.errno, f"{path}: no space left on the disk; free some or choose another output")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(error.errno, f"{path}: not allowed to write here; choose another output folder")
    return OutputError(
        error.errno, f"{path}: could not be written ({error.strerror or error}); choose another output"
    )
