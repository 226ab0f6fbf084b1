"""How the command speaks: progress and warnings on standard error, results on standard output."""

from __future__ import annotations

import json
import math
import shutil
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
        self._pending: tuple[str, float] | None = None

    def __call__(self, fraction: float, message: str) -> None:
        """Show where we are, at most ten times a second (bar) or once in five seconds (lines)."""
        now = self._clock()
        elapsed = now - self._started
        remaining = f", {_duration(elapsed * (1 - fraction) / fraction)} left" if 0.02 < fraction < 1 else ""
        text = f"{fraction:4.0%} {message} ({_duration(elapsed)}{remaining})"
        self._pending = (text, fraction)
        if now - self._shown < (0.1 if self._bar else 5.0):
            return
        self._shown = now
        self._write(text, fraction)

    def _write(self, text: str, fraction: float) -> None:
        self._pending = None
        if self._bar:
            done = round(_BAR_WIDTH * min(max(fraction, 0.0), 1.0))
            line = f"[{'█' * done}{' ' * (_BAR_WIDTH - done)}] {text}"
            # A line that wraps could not be taken back.
            self._stream.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
            self._open_line = True
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def end_line(self) -> None:
        """Show what was held back, and leave the bar's line, before something else is printed."""
        if self._pending:
            self._write(*self._pending)
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


def accept_any_letter() -> None:
    """Have letters that the console lacks escaped: a file's name must not turn success into failure."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def print_result(result: Any, as_json: bool, text: str) -> None:
    """The result on standard output: for machines (plain ASCII, null for numbers that are not finite) or people.

    None is the result of a process that leaves the talking to another one.
    """
    if result is None:
        return
    print(json.dumps(_finite(result), indent=2, allow_nan=False) if as_json else text, flush=True)


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
