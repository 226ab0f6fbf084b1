"""The client's side of carrying files, for a worker that shares no disk with it.

Files go and come as requests over the stream that is there already: no second connection, no server. Pure standard
library of Python 3.9.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

from SSLFewShotLib.errors import InputError, OutputError
from SSLFewShotLib.outputs import written_atomically
from SSLFewShotLib.worker.carried_names import carried_name
from SSLFewShotLib.worker.carried_pieces import packed, unpacked
from SSLFewShotLib.worker.protocol import WRONG_INPUT
from SSLFewShotLib.worker.request import WorkerError, WorkerLost
from SSLFewShotLib.worker.scan_files import files_of_scan

PIECE = 1 << 20
"""Bytes of a file in one message."""
AHEAD = 4
"""Messages on their way at once, so that a distant worker need not be waited for after each."""
_TRIES = 3

OnBytes = Callable[[int, int], None]
"""Called with the bytes that are done and all of them; raises `Cancelled` to stop."""


class Carrier:
    """Carries files to and from the worker of a `WorkerClient`.

    What the worker has already is not sent again, whatever its name: it is asked first. Methods block, and run the
    client's callbacks meanwhile.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._sums: dict[tuple[str, int, int], str] = {}

    def put(self, path: Path | str, on_bytes: OnBytes | None = None) -> str:
        """Carry a scan or its labels, with the files that belong to it, or a folder with the scans in it.

        Returns its path there, of which the last part is its own name (changed where that is no name for every
        system, see `carried_names`).
        Raises InputError when there is no such file or it changes meanwhile, WorkerError for what the worker
        refuses (its disk is full, say), WorkerLost.
        """
        path = Path(path)
        files = [(name, file, self._facts_of(file)) for name, file in files_of_scan(path)]
        content = "".join(f"{name}\0{sha256}\0" for name, _, (_, sha256) in files)
        bundle = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        whole, done, main = sum(size for _, _, (size, _) in files), 0, ""
        for name, file, (size, sha256) in files:
            carried = "/".join((bundle, *map(carried_name, name.split("/"))))

            def tell(sent: int, before: int = done) -> None:
                if on_bytes is not None:
                    on_bytes(before + sent, whole)

            there = self._put_file(carried, file, size, sha256, tell)
            done += size
            main = main or str(remote_path(there).parents[carried.count("/") - 1] / carried.split("/")[1])
        return main

    def get(self, remote: str, local: Path | str, on_bytes: OnBytes | None = None) -> Path:
        """Fetch a file; it appears under its local name when all of it is there and its checksum is right.

        Raises WorkerError for a file that the worker has not or does not give, WorkerLost, OutputError.
        """
        local = Path(local)
        with written_atomically(local) as temporary, open(temporary, "wb") as file:
            self.fetch(remote, file, on_bytes)
        return local

    def fetch(self, remote: str, file: BinaryIO, on_bytes: OnBytes | None = None) -> None:
        """Fetch a file into an open one, from its beginning. Raises as `get` does."""
        for _ in range(_TRIES):
            file.seek(0)
            file.truncate()
            if self._fetched(remote, file, on_bytes):
                return
        raise OutputError(errno.EIO, "a file was damaged on its way from the worker; try again")

    def put_as(self, name: str, file: Path) -> str:
        """Carry one file to a name of several parts, joined by "/"; returns its path there. Raises as `put`."""
        return self._put_file(name, file, *self._facts_of(file), lambda sent: None)

    def remove(self, remote: str) -> bool:
        """Remove a file or folder there; returns whether there was one."""
        return self._ask("files/remove", path=remote)["removed"]

    def _ask(self, method: str, **params: Any) -> Any:
        return self.client.request(method, params).result()

    def _facts_of(self, file: Path) -> tuple[int, str]:
        """(bytes, sha256) of a file; computed again only when it has changed."""
        try:
            status = file.stat()
            key = str(file), status.st_mtime_ns, status.st_size
            if key not in self._sums:
                total = hashlib.sha256()
                with open(file, "rb") as stream:
                    for block in iter(lambda: stream.read(PIECE), b""):
                        total.update(block)
                self._sums[key] = total.hexdigest()
        except OSError as error:
            raise InputError(
                f"{file}: cannot be read ({error.strerror}); check the name and permissions"
            ) from None
        return status.st_size, self._sums[key]

    def _put_file(self, name: str, file: Path, size: int, sha256: str, tell: Callable[[int], None]) -> str:
        """Send what the worker has not got yet of one file; returns its path there."""
        whole = {"name": name, "size": size, "sha256": sha256}
        for attempt in range(_TRIES):
            answer = self._ask("files/put", **whole, offset=0, data="", last=False)
            if answer["path"] is not None:
                tell(size)
                return answer["path"]
            try:
                return self._sent(whole, file, answer["received"], tell)
            except WorkerError as error:
                # A piece was refused for what it is: the worker is asked what it still has; the rest goes again.
                if isinstance(error, WorkerLost) or error.code != WRONG_INPUT or attempt == _TRIES - 1:
                    raise
            if self._facts_of(file) != (size, sha256):
                raise InputError(f"{file}: has changed while it was sent; try again when it is complete")
        raise AssertionError("the last try returns or raises")

    def _sent(self, whole: dict[str, Any], file: Path, offset: int, tell: Callable[[int], None]) -> str:
        """Send a file from `offset` on, some pieces ahead of the answers."""
        answer: dict[str, Any] = {}
        sending: deque[Any] = deque()
        level = 1
        try:
            for start, piece in _pieces(file, offset, whole["size"]):
                data = packed(piece, level)
                # A .nii.gz gets no smaller: no time is spent on trying again.
                level = 0 if len(data) > 1.3 * len(piece) else level
                last = start + len(piece) >= whole["size"]
                request = {**whole, "offset": start, "data": data, "last": last}
                sending.append(self.client.request("files/put", request))
                if len(sending) >= AHEAD:
                    answer = sending.popleft().result()
                    tell(answer["received"])
            while sending:
                answer = sending.popleft().result()
                tell(answer["received"])
        except WorkerError:
            # What is on its way still has to be refused before the file can be begun again.
            for request in sending:
                with contextlib.suppress(WorkerError):
                    request.result()
            raise
        return answer["path"]

    def _fetched(self, remote: str, file: Any, on_bytes: OnBytes | None) -> bool:
        """Write a remote file to an open one; False when what came is not what its checksum says."""
        total, offset, size, sha256 = hashlib.sha256(), 0, None, None
        asked: deque[Any] = deque()
        asked_for = 0

        def ask() -> None:
            nonlocal asked_for
            asked.append(self.client.request("files/get", {"path": remote, "offset": asked_for, "length": PIECE}))
            asked_for += PIECE

        ask()
        while asked:
            answer = asked.popleft().result()
            if (size, sha256) != (answer["size"], answer["sha256"]) and size is not None:
                return False
            size, sha256 = answer["size"], answer["sha256"]
            try:
                piece = unpacked(answer["data"])
            except InputError:
                return False
            file.write(piece)
            total.update(piece)
            offset += len(piece)
            if on_bytes is not None:
                on_bytes(offset, size)
            while asked_for < size and len(asked) < AHEAD:
                ask()
        return offset == size and total.hexdigest() == sha256


def _pieces(file: Path, offset: int, size: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of a file from `offset` to `size`; one empty piece when nothing is left."""
    try:
        with open(file, "rb") as stream:
            stream.seek(offset)
            while True:
                piece = stream.read(min(PIECE, size - offset))
                yield offset, piece
                offset += len(piece)
                if offset >= size:
                    return
                if not piece:
                    raise InputError(f"{file}: has become shorter while it was sent; try again later")
    except OSError as error:
        raise InputError(f"{file}: cannot be read any more ({error.strerror}); check the disk") from None


def remote_path(path: str) -> PurePath:
    """A path on the worker's machine, which may be of another kind."""
    windows = re.match(r"[A-Za-z]:[\\/]|\\\\", path) is not None
    return PureWindowsPath(path) if windows else PurePosixPath(path)
