"""What is called otherwise on the worker's machine: paths, and names that not every system allows.

Pure standard library of Python 3.9.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from SSLFewShotLib.worker.carried_names import carried_name


class OtherNames:
    """Translates texts, and JSON values with texts in them, between this machine's names and the worker's."""

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}

    def same(self, theirs: str, ours: str) -> None:
        """Learn that a path there is a path here."""
        self._ours[theirs] = ours

    def renamed(self, parts: Iterable[str]) -> None:
        """Learn what those of our names are called there that cannot travel as they are."""
        for ours in parts:
            theirs = carried_name(ours)
            if theirs != ours:
                # Without the ending, which both have: results are called after the rest.
                same = next(n for n in range(len(ours)) if theirs[-n - 1 :] != ours[-n - 1 :])
                self._ours[theirs[: len(theirs) - same]] = ours[: len(ours) - same]

    def ours(self, value: Any) -> Any:
        """The same value with the names of this machine."""
        return _translated(value, self._ours)

    def theirs(self, value: Any) -> Any:
        """The same value with the worker's names."""
        return _translated(value, {ours: theirs for theirs, ours in self._ours.items()})

    def ours_in_csv(self, text: str) -> str:
        """A table in CSV with the names of this machine."""
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(self.ours(list(csv.reader(io.StringIO(text)))))
        return table.getvalue()


def _translated(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name in sorted(names, key=len, reverse=True):
            value = value.replace(name, names[name])
        return value
    if isinstance(value, dict):
        return {key: _translated(entry, names) for key, entry in value.items()}
    if isinstance(value, list):
        return [_translated(entry, names) for entry in value]
    return value
