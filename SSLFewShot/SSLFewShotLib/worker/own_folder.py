"""The worker's own temporary folder, and what workers that were killed have left of theirs."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from SSLFewShotLib.errors import OutputError

PREFIX = "sslfewshot-worker-"
_LOCK = "in-use"
_LOCKLESS_SECONDS = 24 * 3600


class OwnFolder:
    """A folder that only this user can enter, removed by `remove`, or by the next worker when this one is killed.

    parent: where it is made; None for the system's folder for temporary files. That its worker lives is told by a
    locked file in it and not by a process number, which may mean another process by then, or none in another
    container.
    """

    def __init__(self, parent: Path | None = None):
        self._parent = parent
        self._path: Path | None = None
        self._lock: IO[bytes] | None = None
        self._changing = threading.Lock()

    @property
    def path(self) -> Path:
        """The folder, made when it is first asked for; OutputError when it cannot be made."""
        with self._changing:
            if self._path is None:
                try:
                    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=self._parent))
                    self._lock = (path / _LOCK).open("wb")
                except OSError as error:
                    where = f"{self._parent}: " if self._parent else ""
                    raise OutputError(
                        error.errno,
                        f"{where}no temporary folder could be made ({error.strerror or error}); free "
                        "some space, or set TMPDIR (TEMP on Windows) to another folder",
                    ) from error
                _locked(self._lock)
                self._path = path
            return self._path

    def remove(self) -> None:
        """Remove the folder with all that lies in it; again is harmless."""
        with self._changing:
            if self._lock is not None:
                self._lock.close()
                self._lock = None
            if self._path is not None:
                shutil.rmtree(self._path, ignore_errors=True)


def remove_leftovers(parent: Path | None = None) -> int:
    """Remove the folders of this user's workers that are gone; returns how many were removed."""
    try:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
    except OSError:  # there is none that can be written to
        return 0
    removed = 0
    for folder in parent.glob(f"{PREFIX}*"):
        if _abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
            removed += not folder.exists()
    return removed


def _abandoned(folder: Path) -> bool:
    try:
        facts = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or (hasattr(os, "getuid") and facts.st_uid != os.getuid()):
            return False
        if not (folder / _LOCK).exists():
            # Being made or removed right now, or left so long ago.
            return time.time() - facts.st_mtime > _LOCKLESS_SECONDS
        with (folder / _LOCK).open("r+b") as lock:
            return _locked(lock)
    except OSError:
        return False


def _locked(file: IO[bytes]) -> bool:
    """Lock a file for this process until it is closed; False when another process has it locked."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
