"""Warnings and log records of the libraries, sent to the client; each request gets the warnings that it caused.

The log names no scan: of an `InputWarning`, which does, only the request's answer holds the text, and of other
texts the paths of the request's parameters are taken out.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from SSLFewShotLib.errors import InputWarning

Log = Callable[[str, str], None]

_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warning"))


class Notices:
    """Takes over `warnings.showwarning` and the root logger. log: gets (level, message)."""

    def __init__(self, log: Log):
        self._log = log
        self._local = threading.local()

    def install(self) -> None:
        """Have every warning and log record of the process come here."""
        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = self._show
        handler = logging.Handler(logging.WARNING)
        handler.emit = self._emit
        logging.getLogger().addHandler(handler)

    @contextlib.contextmanager
    def of_request(self, title: str, params: Any, texts: list[str]) -> Iterator[None]:
        """Within the block, InputWarnings of this thread go to `texts`, each once."""
        self._local.request = title, texts, _hiding(params)
        try:
            yield
        finally:
            del self._local.request

    def _show(self, message, category, filename, lineno, file=None, line=None) -> None:
        title, texts, hide = self._current()
        if not issubclass(category, InputWarning):
            self._log("warning", hide(f"{category.__name__}: {message}"))
            return
        text = str(message)
        if text not in texts:
            texts.append(text)
        self._log("warning", f"{title}: {category.__name__} (its text goes with the answer)")

    def _emit(self, record: logging.LogRecord) -> None:
        _, _, hide = self._current()
        with contextlib.suppress(Exception):  # a log record that cannot be formatted
            level = next((name for number, name in _LEVELS if record.levelno >= number), "info")
            self._log(level, hide(f"{record.name}: {record.getMessage()}"))

    def _current(self) -> tuple[str, list[str], Callable[[str], str]]:
        return getattr(self._local, "request", ("outside of a request", [], lambda text: text))


def _hiding(params: Any) -> Callable[[str], str]:
    """A function that replaces what in a text names a file of `params`."""
    names = sorted({name for value in _texts(params) for name in _names(value)}, key=len, reverse=True)
    if not names:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, names)))
    return lambda text: pattern.sub("…", text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts(entry)


def _names(text: str) -> Iterator[str]:
    """A path, its last part, and that without the ending; nothing for a text that is no path."""
    last = re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    if last == text and "." not in text:
        return
    yield from (name for name in (text, last, last.split(".")[0]) if len(name) > 2)
