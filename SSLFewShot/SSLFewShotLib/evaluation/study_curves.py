"""How fast fine-tuning learns, pretrained and from random weights, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from SSLFewShotLib.evaluation.figure_files import save_figure
from SSLFewShotLib.evaluation.plots import PALETTE

_WINDOW = 15
"""Entries of the log that are averaged: single patches differ much (the paper's figure 5 is averaged likewise)."""


def draw_convergence(rows: Sequence[Mapping[str, str]], path: Path, title: str = "") -> None:
    """Draw Dice over iterations, one field for each number of labelled scans.

    rows: of curves.csv. Thin lines are the patches that are learned from, a moving average for each seed; thick
    ones with points are what is held out of the supports, the mean over seeds. Of more than two starts the thin
    ones are left out.
    """
    starts = list(dict.fromkeys(row["start"] for row in rows))
    counts = sorted({int(row["scans"]) for row in rows})
    figure = Figure(figsize=(3.2 * len(counts) + 0.6, 3.2), layout="constrained")
    fields = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, count in zip(fields, counts, strict=True):
        for number, start in enumerate(starts):
            colour = PALETTE[number % len(PALETTE)]
            here = [row for row in rows if int(row["scans"]) == count and row["start"] == start]
            for seed in sorted({row["seed"] for row in here}) if len(starts) <= 2 else ():
                told = [row for row in here if row["seed"] == seed and row["training_dice"]]
                if told:
                    iterations, dice = (
                        moving_average([float(row[key]) for row in told], _WINDOW)
                        for key in ("iteration", "training_dice")
                    )
                    axes.plot(iterations, dice, color=colour, linewidth=0.7, alpha=0.5)
            looked = mean_by_iteration(here)
            if looked:
                axes.plot(*zip(*looked, strict=True), color=colour, marker="o", markersize=3, label=start)
        axes.set(title=f"{count} labelled", xlabel="iteration", ylim=(0, 1))
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    fields[0].set_ylabel("Dice on the supports")
    if len(starts) > 2:
        named = fields[0].get_legend_handles_labels()
        figure.legend(*named, frameon=False, fontsize=8, loc="outside right center")
    else:
        fields[0].legend(frameon=False, fontsize=8, loc="lower right")
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path, overwrite=True)


def moving_average(values: Sequence[float], window: int) -> np.ndarray:
    """The means of `window` values in a row, of all where there are fewer."""
    window = min(window, len(values))
    return np.convolve(values, np.ones(window) / window, mode="valid")


def mean_by_iteration(rows: Sequence[Mapping[str, str]]) -> list[tuple[int, float]]:
    """(iteration, mean held-out Dice over seeds), for the iterations at which there was a look."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["held_out_dice"]:
            found.setdefault(int(row["iteration"]), []).append(float(row["held_out_dice"]))
    return [(iteration, float(np.mean(values))) for iteration, values in sorted(found.items())]
