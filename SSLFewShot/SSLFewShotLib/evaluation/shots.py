"""Which scans are marked and which are labelled from them: support sets over shots, and two folds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.cases import Case, select_cases


@dataclass(frozen=True)
class Fold:
    """Support sets, and the cases that each of them labels: never one that is in a set of the fold."""

    support_sets: tuple[tuple[str, ...], ...]
    queries: tuple[str, ...]

    @property
    def supports(self) -> list[str]:
        """Every case that is in a set, in order of appearance."""
        return list(dict.fromkeys(identity for chosen in self.support_sets for identity in chosen))


def support_label(supports: Sequence[str]) -> str:
    """What results call a support set: "pt_013+pt_061"."""
    return "+".join(supports)


def cyclic_sets(ids: Sequence[str], shots: int, repeats: int) -> list[tuple[str, ...]]:
    """Sets of `shots` ids: the first `repeats` ids, each with those that follow it, the first after the last.

    So every one of the first ids is the whole support once when one is marked, and no scan is in more sets than
    need be. A set that repeats another (with all ids, there is only one) is left out.
    """
    sets: dict[frozenset[str], tuple[str, ...]] = {}
    for start in range(min(repeats, len(ids))):
        chosen = tuple(ids[(start + step) % len(ids)] for step in range(shots))
        sets.setdefault(frozenset(chosen), chosen)
    return list(sets.values())


def plan_folds(
    cases: Sequence[Case],
    supports: Sequence[str],
    queries: Sequence[str] | None = None,
    shots: Sequence[int] = (1,),
    repeats: int | Sequence[int] = 5,
    two_fold: bool = False,
) -> list[Fold]:
    """Decide who labels whom.

    cases: of a folder; those without labels take no part.
    supports: ids, in the order in which they are added as shots increase.
    repeats: support sets for each number of shots, at most; one number for all, or one for each of `shots`.
    queries: ids; None for every labelled case that is not in `supports`.
    two_fold: the labelled cases are split into a first and a second half, and each labels the other (Blendowski
        et al., MICCAI 2019, section 3.1: 1-10 and 11-19). `supports` and `queries` then narrow down who of a
        half takes part as which; without `supports` all do.

    Warns (InputWarning) of a number of shots that there are not enough supports for, and leaves it out. Raises
    InputError for an unknown id, a query that is a support, and when nothing is left to do.
    """
    wanted = [repeats] * len(shots) if isinstance(repeats, int) else list(repeats)
    if len(wanted) == 1:
        wanted *= len(shots)
    if len(wanted) != len(shots):
        raise InputError(f"repeats {wanted}: one number, or one for each of the shots {list(shots)} was expected")
    if not shots or min(shots) < 1 or min(wanted) < 1:
        raise InputError(f"shots {list(shots)}, repeats {repeats}: whole numbers from 1 up were expected")
    sets = dict(zip(shots, wanted, strict=True))
    labelled = [case for case in cases if case.labels is not None]
    if len(labelled) < 2:
        raise InputError(f"{len(labelled)} labelled cases: at least two are needed, one to mark and one to label")
    named = [case.id for case in select_cases(labelled, supports)]
    asked = None if queries is None else [case.id for case in select_cases(labelled, queries)]
    if not two_fold:
        if not named:
            raise InputError("no support was named; give the ids of the scans that count as marked")
        both = [identity for identity in asked or [] if identity in named]
        if both:
            raise InputError(f"{both[0]}: named as support and as query; a scan cannot be both, leave one out")
        rest = [case.id for case in labelled if case.id not in named] if asked is None else asked
        return [_fold(named, rest, sets)]
    ids = [case.id for case in labelled]
    half = (len(ids) + 1) // 2
    folds = []
    for own, other in ((ids[:half], ids[half:]), (ids[half:], ids[:half])):
        marked = [identity for identity in named if identity in own] if named else own
        folds.append(_fold(marked, [i for i in other if asked is None or i in asked], sets))
    return folds


def _fold(supports: list[str], queries: list[str], wanted: dict[int, int]) -> Fold:
    """wanted: number of shots → support sets, at most."""
    if not queries:
        raise InputError("no labelled case is left to be a query; name fewer supports, or use two folds")
    sets: list[tuple[str, ...]] = []
    for count, repeats in sorted(wanted.items()):
        if count > len(supports):
            warnings.warn(
                f"{count} shots: left out, there are only {len(supports)} supports", InputWarning, stacklevel=4
            )
            continue
        sets += cyclic_sets(supports, count, repeats)
    if not sets:
        raise InputError(
            f"shots {min(wanted)}: only {len(supports)} supports are there; name more or ask for fewer"
        )
    return Fold(tuple(sets), tuple(queries))
