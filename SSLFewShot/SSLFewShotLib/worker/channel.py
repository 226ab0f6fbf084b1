"""The two ends of the protocol: standard input and output, taken away from everything else in the process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from SSLFewShotLib.worker.protocol import encode


def take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return what was standard input and output, for the protocol alone.

    Afterwards standard input is empty, and what a library prints on standard output goes to standard error.
    Processes that are started inherit neither end.
    """
    stream_in = os.fdopen(os.dup(0), "rb")
    stream_out = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # started without a standard error
        os.dup2(nothing, 1)
    os.close(nothing)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A letter that the log lacks must not make a request fail.
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    return stream_in, stream_out


class Channel:
    """Sends messages, each as one whole line, from any thread; `on_gone` is called once nobody reads them."""

    def __init__(self, stream: BinaryIO, on_gone: Callable[[], None]):
        self._stream = stream
        self._on_gone = on_gone
        self._lock = threading.Lock()
        self._gone = False

    def send(self, message: dict[str, Any]) -> None:
        """Send a message. Raises ProtocolError and TypeError as `encode` does, nothing when nobody reads."""
        self.write(encode(message))

    def write(self, line: bytes) -> None:
        """Send what `encode` has made."""
        with self._lock:
            if self._gone:
                return
            try:
                self._stream.write(line)
                self._stream.flush()
                return
            except (OSError, ValueError):
                self._gone = True
        self._on_gone()
