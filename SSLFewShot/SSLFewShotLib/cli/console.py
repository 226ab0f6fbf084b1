"""How the command speaks: progress and warnings on standard error, results on standard output."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from SSLFewShotLib.errors import InputWarning

_BAR_WIDTH = 28


class ConsoleProgress:
    """A progress callable: a bar on a terminal, a line every few seconds otherwise."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._started = clock()
        self._shown = float("-inf")
        self._bar = self._stream.isatty()
        self._open_line = False
        self._pending = ""

    def __call__(self, fraction: float, message: str) -> None:
        """Show where we are, at most ten times a second (bar) or once in five seconds (lines)."""
        now = self._clock()
        elapsed = now - self._started
        remaining = f", {_duration(elapsed * (1 - fraction) / fraction)} left" if 0.02 < fraction < 1 else ""
        text = f"{fraction:4.0%} {message} ({_duration(elapsed)}{remaining})"
        self._pending = text
        if now - self._shown < (0.1 if self._bar else 5.0):
            return
        self._shown = now
        self._write(text, fraction)

    def _write(self, text: str, fraction: float) -> None:
        self._pending = ""
        if self._bar:
            done = round(_BAR_WIDTH * fraction)
            self._stream.write(f"\r\x1b[K[{'█' * done}{' ' * (_BAR_WIDTH - done)}] {text}"[:220])
            self._open_line = True
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def end_line(self) -> None:
        """Show what was held back, and leave the bar's line, before something else is printed."""
        if self._pending:
            self._write(self._pending, 1.0)
        if self._open_line:
            self._stream.write("\n")
            self._stream.flush()
            self._open_line = False


def show_warnings_on(progress: ConsoleProgress) -> None:
    """Print `InputWarning`s as one line each; other warnings stay as they are."""
    usual = warnings.showwarning

    def show(message, category, filename, lineno, file=None, line=None):
        progress.end_line()
        if issubclass(category, InputWarning):
            print(f"sslfewshot: warning: {message}", file=sys.stderr)
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.simplefilter("always", InputWarning)
    warnings.showwarning = show


def print_result(result: Any, as_json: bool, text: str) -> None:
    """The result on standard output: for machines or for people."""
    print(json.dumps(result, indent=2, ensure_ascii=False) if as_json else text)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
