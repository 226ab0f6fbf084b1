"""How long the event loop was kept waiting."""

import time

from PySide6.QtCore import QTimer

INTERVAL = 5


class BlockWatch:
    """A timer of 5 ms; what its calls lie further apart is time in which nothing else could run.

    Only the time inside a running event loop counts: while a test computes between two calls of
    `process`, nobody waits.
    """

    def __init__(self, parent):
        self._timer = QTimer(parent)
        self._timer.setTimerType(self._timer.timerType().PreciseTimer)
        self._last, self._longest = None, 0.0
        self._timer.timeout.connect(self._tick)
        self._timer.start(INTERVAL)

    def _tick(self):
        now = time.perf_counter()
        if self._last is not None:
            self._longest = max(self._longest, (now - self._last) * 1000 - INTERVAL)
        self._last = now

    def resume(self):
        """The event loop starts to run."""
        self._last = time.perf_counter()

    def finish(self):
        """The event loop is left: what happens until it runs again is the test's own time."""
        self._tick()
        self._last = None

    def stop(self):
        self._timer.stop()

    def longest(self):
        return self._longest

    def reset(self):
        self._last, self._longest = None, 0.0
