"""Ctrl-C that waits until what must not be left half-done is done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold the first SIGINT or SIGTERM back until the block has ended; a second one comes through at once.

    Signals that end the process without Python's doing are left alone, and so is every thread but the main one,
    which no signal reaches.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = ("SIGINT", "SIGTERM")
    handlers = {number: signal.getsignal(number) for number in (getattr(signal, name) for name in names)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    held: list[int] = []

    def hold(number, frame):
        if held:
            handlers[number](number, frame)
        held.append(number)

    try:
        for number in handlers:
            signal.signal(number, hold)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    # An error of the block itself goes first: it has come past this point already.
    if held:
        handlers[held[0]](held[0], None)
