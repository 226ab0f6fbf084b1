"""What was computed for the last scan, kept for as long as that scan is."""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar

_Thing = TypeVar("_Thing")


class KeptWith(Generic[_Thing]):
    """One thing, and the object it was computed for; it is let go as soon as nobody uses that object any more.

    A descriptor stays warm for hours, and what it makes of a large scan takes up to a gigabyte.
    """

    def __init__(self) -> None:
        self._kept: tuple[weakref.ref, Any, _Thing] | None = None

    def get(self, owner: object, key: Any = None) -> _Thing | None:
        """What was put for this very object and an equal key; None when that was something else, or never."""
        kept = self._kept  # read once: the object may go, in any thread, between two looks
        return kept[2] if kept is not None and kept[0]() is owner and kept[1] == key else None

    def put(self, owner: object, thing: _Thing, key: Any = None) -> _Thing:
        """Keep `thing` instead of what was kept before, and return it. It must not hold on to `owner`."""
        self._kept = weakref.ref(owner, self._let_go), key, thing
        return thing

    def _let_go(self, reference: weakref.ref) -> None:
        if self._kept is not None and self._kept[0] is reference:
            self._kept = None
