"""The worker's side of carrying files: pieces in, pieces out, and nothing outside its own folder.

What arrives is checked three times: its name (`carried_names`), its size against the free disk, and its checksum,
before it lies under its name. Pure standard library.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import operator
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from SSLFewShotLib.errors import InputError, OutputError
from SSLFewShotLib.worker.carried_names import flaw_of
from SSLFewShotLib.worker.carried_pieces import LARGEST_PIECE, packed, unpacked

KEPT_FREE = 256 << 20
"""Bytes of the disk that carried files leave to everything else."""
_READ_AT_ONCE = 1 << 20


@dataclass
class _Arriving:
    """A file of which a first part has come."""

    path: Path
    size: int
    sha256: str
    received: int = 0
    sum: Any = field(default_factory=hashlib.sha256)


class CarriedFiles:
    """Files that a client sends to and fetches from a worker that shares no disk with it.

    folder: the worker's own. What is sent, and results that are to be fetched, lie in `root`, its folder
    "carried"; all paths are checked to lie there, links are never followed. Several threads may call.
    """

    def __init__(self, folder: Path, kept_free: int = KEPT_FREE):
        self.root = Path(os.path.realpath(folder)) / "carried"
        self.kept_free = kept_free
        self._lock = threading.RLock()
        self._arriving: dict[str, _Arriving] = {}
        self._there: dict[tuple[str, int], Path] = {}  # (sha256, size) → a complete file
        self._sums: dict[tuple[str, int, int], str] = {}

    def put(self, name: str, size: int, sha256: str, offset: int, data: str, last: bool) -> dict[str, Any]:
        """Take a piece of a file.

        name: parts joined by "/"; size, sha256: of the whole file; offset: of this piece; data: the piece,
        `packed`; last: whether the file ends with it. A piece without data asks how much has come already.

        Returns {"received": bytes so far, "path": the complete file or None}; the path at once when a file with
        this checksum has come before, under whatever name.
        Raises InputError for a wrong name, a piece that does not follow the ones before, damaged data, a wrong
        size or checksum (what has come of the file is removed then); OutputError when the disk has no room for it.
        """
        flaw = flaw_of(name)
        if flaw:
            raise InputError(f"this name of a file cannot be carried: {flaw}")
        if size < 0 or offset < 0 or not _is_sha256(sha256):
            raise InputError(
                "a size and an offset from 0 up and a checksum of 64 hexadecimal digits were expected"
            )
        with self._lock:
            complete = self._complete(name, size, sha256)
            if complete is not None:
                return {"received": size, "path": str(complete)}
            arriving = self._arriving.get(name)
            if arriving is None or (arriving.size, arriving.sha256) != (size, sha256):
                arriving = self._begun(name, size, sha256)
            if not data and not last:
                return {"received": arriving.received, "path": None}
            if offset != arriving.received:
                raise InputError(
                    f"a piece at byte {offset} came, one at {arriving.received} was expected; send it from there"
                )
            try:
                return self._added(name, arriving, unpacked(data), last)
            except (InputError, OSError):
                self._forget(name)
                raise

    def get(self, path: str, offset: int, length: int) -> dict[str, Any]:
        """Read a piece of a file.

        Returns {"data": the piece, `packed`, "size" and "sha256" of the whole file, "last"}.
        Raises InputError for a path that does not lie in `root`, a file that is not there, or a wrong offset.
        """
        if offset < 0 or not 0 < length <= LARGEST_PIECE:
            raise InputError(f"an offset from 0 up and a length up to {LARGEST_PIECE} were expected")
        with self._opened(self._inside(path)) as file:
            status = os.fstat(file.fileno())
            if offset > status.st_size:
                raise InputError(f"the file has {status.st_size} bytes, its byte {offset} was asked for")
            sha256 = self._sum_of(file, path, status)
            file.seek(offset)
            piece = file.read(length)
        return {
            "data": packed(piece, level=0 if path.endswith(".gz") else 1),
            "size": status.st_size,
            "sha256": sha256,
            "last": offset + len(piece) >= status.st_size,
        }

    def remove(self, path: str) -> bool:
        """Remove a file, or a folder and all in it; returns whether there was one.

        Raises InputError for a path that does not lie in `root`.
        """
        inside = self._inside(path)
        with self._lock:
            for key in [key for key, known in self._there.items() if inside in (known, *known.parents)]:
                del self._there[key]
            for name in [n for n, a in self._arriving.items() if inside in (a.path, *a.path.parents)]:
                self._forget(name)
            try:
                kind = os.lstat(inside).st_mode
            except OSError:
                return False
            if stat.S_ISDIR(kind):
                shutil.rmtree(inside)
            else:
                os.unlink(inside)
            return True

    def _complete(self, name: str, size: int, sha256: str) -> Path | None:
        """The file under this name when its content has come before; under another name, it gets this one too."""
        known = self._there.get((sha256, size))
        if known is None:
            return None
        try:
            if os.lstat(known).st_size != size:
                raise FileNotFoundError
            path = self._place_of(name)
            if path == known:
                return path
            if os.path.lexists(path):
                return path if self._there_as(path, size, sha256) else None
            try:
                os.link(known, path)
            except OSError:  # a file system without hard links
                shutil.copyfile(known, path)
            return path
        except OSError:
            del self._there[sha256, size]
            return None

    def _there_as(self, path: Path, size: int, sha256: str) -> bool:
        with self._opened(path) as file:
            status = os.fstat(file.fileno())
            return status.st_size == size and self._sum_of(file, str(path), status) == sha256

    def _begun(self, name: str, size: int, sha256: str) -> _Arriving:
        self._forget(name)
        promised = sum(other.size - other.received for other in self._arriving.values())
        free = shutil.disk_usage(self.root.parent).free - promised - self.kept_free
        if size > free:
            raise OutputError(
                errno.ENOSPC,
                f"the worker's disk has room for {max(free, 0) / 1e6:.1f} MB, the file has {size / 1e6:.1f} MB; "
                "free some space there, or set TMPDIR there to a larger disk",
            )
        path = self._place_of(name)
        if os.path.lexists(path):
            raise InputError("another file lies under this name already; remove it first")
        # Beside its place, so that it gets there by a rename.
        beside = f".arriving-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        arriving = _Arriving(path.with_name(beside), size, sha256)
        with open(arriving.path, "wb"):
            pass
        self._arriving[name] = arriving
        return arriving

    def _added(self, name: str, arriving: _Arriving, piece: bytes, last: bool) -> dict[str, Any]:
        if arriving.received + len(piece) > arriving.size:
            raise InputError(f"more than the {arriving.size} bytes that were announced came; send the file again")
        try:
            with open(arriving.path, "ab") as file:
                file.write(piece)
        except OSError as error:
            said = f"the worker could not write what was sent ({error.strerror}); free some space there"
            raise OutputError(error.errno, said) from error
        arriving.sum.update(piece)
        arriving.received += len(piece)
        if not last:
            return {"received": arriving.received, "path": None}
        if arriving.received != arriving.size:
            raise InputError(f"{arriving.received} of {arriving.size} bytes came; send the file again")
        if arriving.sum.hexdigest() != arriving.sha256:
            raise InputError("the file was damaged on its way (its checksum is another one); send it again")
        path = self._place_of(name)
        os.replace(arriving.path, path)
        del self._arriving[name]
        self._there[arriving.sha256, arriving.size] = path
        return {"received": arriving.size, "path": str(path)}

    def _forget(self, name: str) -> None:
        arriving = self._arriving.pop(name, None)
        if arriving is not None:
            with contextlib.suppress(OSError):
                arriving.path.unlink()

    def _place_of(self, name: str) -> Path:
        """Where a checked name lies; its folders are made, and none of them is a link."""
        path = self.root
        for part in (*name.split("/")[:-1], None):
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise InputError("a file lies where this name needs a folder; send it under another name")
            if part is not None:
                path = path / part
        return path / name.split("/")[-1]

    def _inside(self, path: str) -> Path:
        """The path when it lies below `root` and no link is on the way to it."""
        refused = InputError("only files that were carried can be fetched or removed")
        given = Path(path)
        try:
            real = Path(os.path.realpath(given))
        except (OSError, ValueError):
            raise refused from None
        if not given.is_absolute() or ".." in given.parts or self.root not in real.parents:
            raise refused
        # The worker's folder may itself be reached by a link (/tmp is one on macOS), what is in it may not.
        within = real.relative_to(self.root)
        if given.parts[-len(within.parts) :] != within.parts:
            raise refused
        return real

    @contextlib.contextmanager
    def _opened(self, path: Path) -> Iterator[BinaryIO]:
        gone = InputError("the file is not there any more in the worker's folder")
        flags = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
        try:
            descriptor = os.open(path, functools.reduce(operator.or_, flags, os.O_RDONLY))
        except OSError:
            raise gone from None
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError("a file was expected in the worker's folder, this is something else")
            yield file

    def _sum_of(self, file: BinaryIO, path: str, status: os.stat_result) -> str:
        """The checksum of a whole file, computed once while the file stays as it is."""
        key = path, status.st_mtime_ns, status.st_size
        with self._lock:
            known = self._sums.get(key)
        if known is None:
            total = hashlib.sha256()
            file.seek(0)
            for block in iter(lambda: file.read(_READ_AT_ONCE), b""):
                total.update(block)
            known = total.hexdigest()
            with self._lock:
                self._sums[key] = known
        return known


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)
