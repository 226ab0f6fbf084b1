"""Which slices of an axis show the object: a robust threshold on a profile, and the runs above it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_FRACTION = 0.08
"""Where between the levels of background and object the threshold lies: near the former, since a slice that shows
little of the object, as its tips do, is told much less surely."""
_STRAYS, _FRACTION_AT_MOST = 4.0, 0.5
"""The threshold is at least this many deviations of the background above its level, but at most half way up."""
_BACKGROUND_AT_MOST = 0.1
"""Where between floor and object the lower class lies at most to be background; a higher one is object, seen less
clearly: rather keep too much than lose a part of it."""
_LEAST_STEP = 0.2
"""Between the levels of object and background; less is no difference."""
_GAP, _GAP_OF_RUNS, _SECOND = 0.1, 0.5, 0.25
"""Share of an axis that a gap in an object may have, and share of the shorter of the runs beside it; share of the
longest run from which another one counts."""


@dataclass(frozen=True)
class Run:
    """The slices from `start` to `stop`, continuous places along the axis, that show the object.

    threshold: above it a slice counts; inside, outside: mean values; whole: it spans the whole axis, nothing being
    told apart; others: runs beside it that are too long to be noise, as (start, stop).
    """

    start: float
    stop: float
    threshold: float
    inside: float
    outside: float
    whole: bool = False
    others: tuple[tuple[float, float], ...] = ()


def longest_run(values: np.ndarray, floor: float, fraction: float = _FRACTION) -> Run | None:
    """The longest run of slices whose value is above a robust threshold.

    values: (N,) one a slice; floor: what a slice without any object has (chance).

    The values, with single outliers removed, are parted into a lower and an upper class (Otsu); the threshold lies
    between their medians, or between floor and upper class where the lower one is too high for background. Where
    they differ by less than 0.2, all slices are taken for object when they are that much above the floor;
    otherwise there is none, and None is returned.
    """
    smooth = ndimage.median_filter(values, max(1, min(5, 2 * (len(values) // 2) - 1)), mode="nearest")
    low, high, stray = _levels(smooth)
    if high - max(low, floor) < _LEAST_STEP:
        if high - floor < _LEAST_STEP:
            return None
        mean = float(smooth.mean())
        return Run(-0.5, len(values) - 0.5, floor, mean, floor, whole=True)
    if low > floor + _BACKGROUND_AT_MOST * (high - floor):
        low, stray = floor, 0.0
    strayed = min(_STRAYS * stray, _FRACTION_AT_MOST * (high - low))
    threshold = low + max(fraction * (high - low), strayed)
    spans = _without_gaps(smooth > threshold)
    above = np.zeros(len(values), bool)
    for first, last in spans:
        above[first : last + 1] = True
    lengths = [last - first + 1 for first, last in spans]
    best = int(np.argmax(lengths))
    first, last = spans[best]
    others = tuple(
        (float(a) - 0.5, float(b) + 0.5)
        for number, (a, b) in enumerate(spans)
        if number != best and lengths[number] >= _SECOND * lengths[best]
    )
    outside = smooth[~above]
    return Run(
        _crossing(smooth, first, -1, threshold),
        _crossing(smooth, last, 1, threshold),
        float(threshold),
        float(smooth[first : last + 1].mean()),
        float(outside.mean()) if len(outside) else floor,
        others=others,
    )


def _without_gaps(above: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) of each run, those that only a gap parts taken together."""
    labels, count = ndimage.label(above)
    spans = [tuple(int(n) for n in np.flatnonzero(labels == number)[[0, -1]]) for number in range(1, count + 1)]
    at = 1
    while at < len(spans):
        (first, left), (right, last) = spans[at - 1 : at + 1]
        shorter = min(left - first, last - right) + 1
        if right - left - 1 <= max(_GAP * len(above), _GAP_OF_RUNS * shorter):
            spans[at - 1 : at + 1] = [(first, last)]
            at = max(1, at - 1)
        else:
            at += 1
    return spans


def _levels(values: np.ndarray) -> tuple[float, float, float]:
    """The medians of the two classes that differ most between and least within (Otsu 1979), and how far values of
    the lower one stray from its median (1.4826 times their median distance from it)."""
    ordered = np.sort(values)
    if len(ordered) < 2:
        return float(ordered[0]), float(ordered[0]), 0.0
    count = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)[:-1]
    lower, upper = sums / count, (ordered.sum() - sums) / (len(ordered) - count)
    best = int(np.argmax(count * (len(ordered) - count) * (upper - lower) ** 2)) + 1
    low = float(np.median(ordered[:best]))
    return low, float(np.median(ordered[best:])), 1.4826 * float(np.median(np.abs(ordered[:best] - low)))


def _crossing(values: np.ndarray, place: int, step: int, threshold: float) -> float:
    """Where between the last slice of a run and the next one the threshold is crossed."""
    beyond = place + step
    if not 0 <= beyond < len(values):
        return place + 0.5 * step
    here, there = values[place], values[beyond]
    share = (here - threshold) / (here - there) if here > there else 0.5
    return place + step * float(np.clip(share, 0, 1))
