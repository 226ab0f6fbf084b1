"""Means over many labelled scans, taken so that neither a large structure nor a short scan counts more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

METRICS = ("dice", "nsd", "hd95_mm")
FAILURE = 0.1
"""A structure with a Dice below this was missed."""


def summarise(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sum up rows of results.csv: one summary for each method, model and number of shots, in order of appearance.

    dice, nsd, hd95_mm: mean over pairs (support set, query) of the pair's mean over structures; dice_sd and so on:
        standard deviation over support sets of the mean of each (NaN with one set).
    structures: name → its mean dice, nsd and hd95_mm over pairs.
    failures: share of structures with a Dice below 0.1, of `scored` ones.
    worst_dice, worst_support, worst_query: the pair with the lowest mean.
    seconds: median over pairs; recall: the lowest of the neighbour search (NaN without one).
    support_sets, pairs, errors: how many; a pair with an error has no scores.
    absent: structures without a score (the reference or the support lacks them); they are in no mean.
    """
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["model"], int(row["shots"])), []).append(row)
    return [
        {"method": method, "model": model, "shots": shots, **_of_group(group)}
        for (method, model, shots), group in groups.items()
    ]


def _of_group(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole = [row for row in rows if not row.get("error")]
    scored = [row for row in whole if np.isfinite(row["dice"])]
    pairs: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in scored:
        pairs.setdefault((row["support"], row["query"]), []).append(row)
    summary: dict[str, Any] = {}
    for metric in METRICS:
        means = {pair: float(np.mean([row[metric] for row in found])) for pair, found in pairs.items()}
        of_sets: dict[str, list[float]] = {}
        for (support, _), mean in means.items():
            of_sets.setdefault(support, []).append(mean)
        set_means = [np.mean(values) for values in of_sets.values()]
        summary[metric] = _mean(means.values())
        summary[f"{metric}_sd"] = float(np.std(set_means, ddof=1)) if len(set_means) > 1 else float("nan")
        if metric == "dice" and means:
            worst = min(means, key=lambda pair: means[pair])
            summary.update(worst_dice=means[worst], worst_support=worst[0], worst_query=worst[1])
    names = dict.fromkeys(row["segment"] for row in whole)
    summary["structures"] = {
        name: {metric: _mean(row[metric] for row in scored if row["segment"] == name) for metric in METRICS}
        for name in names
    }
    summary["failures"] = _mean(row["dice"] < FAILURE for row in scored)
    summary["scored"] = len(scored)
    summary["absent"] = len(whole) - len(scored)
    seconds = {(row["support"], row["query"]): row["seconds"] for row in whole}
    summary["seconds"] = float(np.median(list(seconds.values()))) if seconds else float("nan")
    recalls = [row["recall"] for row in whole if np.isfinite(row["recall"])]
    summary["recall"] = min(recalls, default=float("nan"))
    summary["support_sets"] = len({row["support"] for row in rows})
    summary["pairs"] = len(pairs)
    summary["errors"] = sum(bool(row.get("error")) for row in rows)
    return summary


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else float("nan")
