"""The pictures of a report; this file draws the charts, `slices` the scans.

Drawn with matplotlib's objects, without pyplot and so without a display or global state. The ending of the path
decides the format (.png, .pdf, .svg).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.evaluation.figure_files import save_figure
from SSLFewShotLib.evaluation.slices import confidence_overlay, slices_with_contours
from SSLFewShotLib.imaging.labelmap import Segment

__all__ = ["confidence_overlay", "dice_over_shots", "dice_table", "slices_with_contours", "tsne_plot"]

# Okabe and Ito (2008): told apart with any colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_MARKERS = "osD^vPX*"


def dice_over_shots(rows: Sequence[Mapping], path: str | Path, title: str = "", overwrite: bool = False) -> None:
    """Draw mean Dice against the number of labelled scans, one line a model.

    rows: mappings with `model`, `shots`, `support` (which scans were marked: one repetition) and `dice`. The
        Dice of one support are averaged first; a point is the mean over supports, its bar the standard deviation
        over supports. NaN (absent structures) are left out.

    Raises InputError without rows, or when `path` exists and `overwrite` is not set.
    """
    if not rows:
        raise InputError(f"{path}: there are no results to draw")
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    models = list(dict.fromkeys(row["model"] for row in rows))
    all_shots = sorted({int(row["shots"]) for row in rows})
    for number, model in enumerate(models):
        shots, means, spreads = _shot_statistics(rows, model)
        # Side by side, or the bars of models that are equally good hide each other.
        offset = 0.07 * (number - (len(models) - 1) / 2)
        axes.errorbar(
            np.array(shots) + offset, means, yerr=spreads, label=model, capsize=2.5, linewidth=1.6, markersize=5,
            elinewidth=1, color=PALETTE[number % len(PALETTE)], marker=_MARKERS[number % len(_MARKERS)],
        )  # fmt: skip
    axes.set(xlabel="labelled scans (shots)", ylabel="mean Dice", title=title, xticks=all_shots)
    axes.set_ylim(0, 1)
    _plain(axes)
    axes.legend(frameon=False, fontsize=8, ncols=1 + (len(models) > 4), loc="best")
    save_figure(figure, path, overwrite)


def tsne_plot(
    embedding: np.ndarray,
    values: np.ndarray,
    segments: Sequence[Segment],
    path: str | Path,
    title: str = "",
    overwrite: bool = False,
) -> None:
    """Draw descriptors in two dimensions, in the colours of the segments that their voxels belong to.

    embedding: (N, 2), as from t-SNE.
    values: (N,) segment values; 0, the background, is drawn small and grey below the others.

    Raises InputError when the lengths differ, or when `path` exists and `overwrite` is not set.
    """
    embedding, values = np.asarray(embedding), np.asarray(values)
    if embedding.ndim != 2 or embedding.shape[1] != 2 or len(embedding) != len(values):
        raise InputError(
            f"{path}: (N, 2) points and N values were expected, not {embedding.shape}, {values.shape}"
        )
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    size = float(np.clip(12000 / max(len(values), 1), 3, 18))
    background = embedding[values == 0]
    if len(background):
        axes.scatter(*background.T, s=size / 2, color="#c4c4c4", linewidths=0, label="background", rasterized=True)
    for segment in segments:
        points = embedding[values == segment.value]
        if len(points):
            axes.scatter(
                *points.T, s=size, color=segment.colour, linewidths=0, label=segment.name, rasterized=True
            )
    axes.set(xticks=[], yticks=[], title=title)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("t-SNE 1")
    axes.set_ylabel("t-SNE 2")
    axes.spines[:].set_color("#a0a0a0")
    legend = axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for handle in legend.legend_handles:
        handle.set_sizes([30])
    save_figure(figure, path, overwrite)


def dice_table(rows: Sequence[Mapping], path: str | Path, title: str = "", overwrite: bool = False) -> None:
    """Draw a table of mean ± standard deviation for each structure.

    rows: as from `metrics.score_case`, of any number of scans; NaN are left out.

    Raises InputError without rows, or when `path` exists and `overwrite` is not set.
    """
    if not rows:
        raise InputError(f"{path}: there are no results to draw")
    names = list(dict.fromkeys(row["segment"] for row in rows))
    columns = (("dice", "Dice", 2), ("nsd", "NSD", 2), ("hd95_mm", "HD95 (mm)", 1))
    values = {
        (name, key): _finite(row[key] for row in rows if row["segment"] == name)
        for name in names
        for key, _, _ in columns
    }
    for key, _, _ in columns:  # the last row: the mean of the structures' means
        values["mean", key] = _finite(np.mean(values[name, key]) for name in names if len(values[name, key]))
    lines = [*names, "mean"]
    text = [
        [name, *(_mean_and_spread(values[name, key], digits, name != "mean") for key, _, digits in columns)]
        for name in lines
    ]
    figure = Figure(figsize=(5.6, 0.34 * (len(lines) + 1) + (0.45 if title else 0.1)), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    axes.set_title(title, fontsize=11)
    table = axes.table(
        cellText=text, colLabels=["structure", *(label for _, label, _ in columns)], cellLoc="center",
        bbox=(0, 0, 1, 1), colWidths=(0.34, 0.22, 0.22, 0.22),
    )  # fmt: skip
    table.auto_set_font_size(False)
    table.set_fontsize(9.5)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("#b8b8b8")
        cell.visible_edges = "B" if 0 < row < len(lines) - 1 else "TB" if row == 0 else "B"
        cell.set_linewidth(1.2 if row in (0, len(lines) - 1) else 0.5)
        if row in (0, len(lines)) or column == 0:
            cell.set_text_props(weight="bold" if row in (0, len(lines)) else "normal")
    save_figure(figure, path, overwrite)


def _shot_statistics(rows: Sequence[Mapping], model: str) -> tuple[list[int], list[float], list[float]]:
    repetitions: dict[int, dict] = {}
    for row in rows:
        if row["model"] == model and np.isfinite(row["dice"]):
            supports = repetitions.setdefault(int(row["shots"]), {})
            supports.setdefault(row.get("support", ""), []).append(row["dice"])
    shots = sorted(repetitions)
    means = [[np.mean(dice) for dice in repetitions[k].values()] for k in shots]
    return shots, [float(np.mean(m)) for m in means], [float(np.std(m, ddof=len(m) > 1)) for m in means]


def _finite(values) -> np.ndarray:
    values = np.array(list(values), dtype=np.float64)
    return values[np.isfinite(values)]


def _mean_and_spread(values: np.ndarray, digits: int, spread: bool) -> str:
    if not len(values):
        return "–"
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std(ddof=1):.{digits}f}" if spread and len(values) > 1 else mean


def _plain(axes: Axes) -> None:
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
