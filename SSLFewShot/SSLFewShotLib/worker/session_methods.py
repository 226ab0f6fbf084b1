"""The method that begins a session: who is there, with which devices, and whether both see the same files."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.worker.handler import PATH, TEXT, WHOLE, Context, Handler, object_with, optional, required
from SSLFewShotLib.worker.protocol import PROTOCOL_VERSION
from SSLFewShotLib.worker.versions import versions


def _initialize(params: dict[str, Any], context: Context) -> dict[str, Any]:
    from SSLFewShotLib.pretext.methods import METHODS as PRETEXTS
    from SSLFewShotLib.segmentation.choice import DEFAULT_MODEL, METHODS
    from SSLFewShotLib.worker.devices import devices
    from SSLFewShotLib.worker.methods import all_methods

    if params["protocol"] != PROTOCOL_VERSION:
        raise InputError(
            f"protocol {params['protocol']} was asked for, this worker speaks {PROTOCOL_VERSION}; install the "
            "same version of SSLFewShot on both sides"
        )
    return {
        "protocol": PROTOCOL_VERSION,
        "pid": os.getpid(),
        "versions": versions(),
        "python": platform.python_version(),
        "devices": devices(),
        "shares_disk": _holds(params["probe"]),
        "folder": str(context.folder),
        "methods": [*all_methods(), "shutdown"],
        "segmenters": list(METHODS),
        "pretexts": list(PRETEXTS),
        "default_model": DEFAULT_MODEL,
    }


def _holds(probe: dict[str, str] | None) -> bool:
    """Whether the file that the client has written can be read here."""
    if probe is None:
        return False
    try:
        with Path(probe["path"]).open("rb") as file:
            expected = probe["content"].encode()
            return file.read(len(expected) + 1) == expected
    except (OSError, ValueError):
        return False


HANDLERS = {
    "initialize": Handler(
        _initialize,
        {
            "protocol": required(WHOLE),
            "client": required(TEXT),
            "probe": optional(object_with(path=PATH, content=TEXT)),
        },
        light=True,
    ),
}
