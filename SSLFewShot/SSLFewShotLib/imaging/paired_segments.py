"""Which segments are the left and the right one of a pair, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from SSLFewShotLib.errors import InputError

_LEFT, _RIGHT = {"left", "l", "lt", "lh"}, {"right", "r", "rt", "rh"}
# Words of a name: "RightParotid", "LParotid", "kidney_left", "Lung L", "LUNG-RT", "Niere links 2".
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")


def without_side(name: str) -> tuple[tuple[str, ...], str]:
    """The words of a name but its side, and the side: "left", "right", or "" when it says none or both."""
    words = [word.lower() for word in _WORD.findall(name)]
    sides = ["left" if word in _LEFT else "right" for word in words if word in _LEFT | _RIGHT]
    if len(sides) != 1:
        return tuple(words), ""
    return tuple(word for word in words if word not in _LEFT | _RIGHT), sides[0]


def pairs_in(names: Iterable[str]) -> list[tuple[str, str]]:
    """(left, right) names that differ in the side alone, in the order in which their first ones come."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        rest, side = without_side(name)
        if side and rest:
            found.setdefault(rest, {}).setdefault(side, name)
    return [(sides["left"], sides["right"]) for sides in found.values() if len(sides) == 2]


def chosen_pair(names: Sequence[str], given: Sequence[str] | None = None) -> tuple[str, str]:
    """The pair that is meant, of segments with these names: the one that was given, or the only one there is.

    A given pair comes back as (left, right) where the names say so, else as it was given.

    Raises InputError when a given name is not there or both are the same, and when there is no pair or there are
    several and none was given.
    """
    there = ", ".join(dict.fromkeys(names)) or "none"
    if given is not None:
        given = [str(name).strip() for name in given]
        if len(given) != 2 or given[0] == given[1]:
            raise InputError(f"pair '{','.join(given)}': the names of two different segments were expected")
        for name in given:
            if name not in names:
                raise InputError(f"pair: no scan has a segment '{name}'; there are {there}")
        return (given[1], given[0]) if without_side(given[0])[1] == "right" else (given[0], given[1])
    pairs = pairs_in(names)
    if not pairs:
        raise InputError(
            f"no two segments are the left and the right one of a pair by their names ({there}); name the two, "
            "and split a segment that is over both sides first"
        )
    if len(pairs) > 1:
        listed = "; ".join(",".join(pair) for pair in pairs)
        raise InputError(f"there are several pairs of segments, name one of them as the pair: {listed}")
    return pairs[0]
