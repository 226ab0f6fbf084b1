"""Waiting for what comes true by itself, and whether a process is there still."""

import time
from collections.abc import Callable

from SSLFewShotLib.worker import process_tree


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition; the time is for a busy machine, and none is lost when it comes true earlier."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    found = process_tree.find(pid)
    return found is not None and not found.ended
