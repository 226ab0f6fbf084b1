"""files/put, files/get and files/remove, for a client that shares no disk with the worker."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from SSLFewShotLib.worker.carried_files import CarriedFiles
from SSLFewShotLib.worker.handler import FLAG, PATH, TEXT, WHOLE, Context, Handler, required


@functools.lru_cache(maxsize=4)
def _files_of(folder: Path) -> CarriedFiles:
    return CarriedFiles(folder)


def _put(params: dict[str, Any], context: Context) -> dict[str, Any]:
    return _files_of(context.folder).put(**params)


def _get(params: dict[str, Any], context: Context) -> dict[str, Any]:
    return _files_of(context.folder).get(**params)


def _remove(params: dict[str, Any], context: Context) -> dict[str, Any]:
    return {"removed": _files_of(context.folder).remove(**params)}


# Light: the scans of the next request can come while one is being worked on.
HANDLERS = {
    "files/put": Handler(
        _put,
        {
            "name": required(TEXT),
            "size": required(WHOLE),
            "sha256": required(TEXT),
            "offset": required(WHOLE),
            "data": required(TEXT),
            "last": required(FLAG),
        },
        light=True,
    ),
    "files/get": Handler(
        _get, {"path": required(PATH), "offset": required(WHOLE), "length": required(WHOLE)}, light=True
    ),
    "files/remove": Handler(_remove, {"path": required(PATH)}, light=True),
}
