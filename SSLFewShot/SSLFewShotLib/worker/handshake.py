"""How a worker that was just started and the client get to know each other: `hello`, then `initialize`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any
from uuid import uuid4

from SSLFewShotLib.worker import protocol

REQUEST_ID = 0
_SAME_VERSION = "install the same version of SSLFewShot on both sides"


class Refused(Exception):  # noqa: N818 - said by the other side
    """Both sides do not fit; (what is wrong, what to do)."""


class Handshake:
    """One start of a worker. `client` is the name that the client goes by.

    The worker is given a file to read, the probe: only one that has this machine's disk can tell what is in it.
    """

    def __init__(self, client: str) -> None:
        self.pid: int | None = None
        self._client = client
        self._probe: str | None = None

    def greeted(self, params: dict) -> dict | None:
        """Take the params of `hello`; returns the request to send, or None when this was no (first) greeting."""
        if self.pid is not None or not isinstance(params.get("pid"), int):
            return None
        self.pid = params["pid"]
        asked = {"protocol": protocol.PROTOCOL_VERSION, "client": self._client}
        content = uuid4().hex
        with contextlib.suppress(OSError):
            handle, self._probe = tempfile.mkstemp(prefix="sslfewshot-probe-", suffix=".txt")
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(content)
            asked["probe"] = {"path": self._probe, "content": content}
        return protocol.request(REQUEST_ID, "initialize", asked)

    def answered(self, message: dict) -> dict:
        """Take the answer to that request; returns what the worker says of itself. Raises Refused."""
        self.end()
        if "error" in message:
            raise Refused(f"refused to start ({message['error']['message']})", _SAME_VERSION)
        info: Any = message["result"]
        spoken = info.get("protocol") if isinstance(info, dict) else None
        if spoken != protocol.PROTOCOL_VERSION:
            expected = protocol.PROTOCOL_VERSION
            raise Refused(f"speaks version {spoken} of the protocol, not version {expected}", _SAME_VERSION)
        return info

    def end(self) -> None:
        """Remove the probe."""
        if self._probe is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._probe)
            self._probe = None
