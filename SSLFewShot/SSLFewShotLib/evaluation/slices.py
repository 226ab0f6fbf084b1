"""Pictures of a scan: outlines of its segments, and where a segmentation is unsure, on three slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.evaluation.figure_files import save_figure
from SSLFewShotLib.evaluation.planes import Plane, shown_boxes, three_planes
from SSLFewShotLib.imaging.body import is_ct
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.volume import Volume

_DARK, _PALE = "#101010", "#e6e6e6"
_HEIGHT = 3.4  # inches of a panel


def slices_with_contours(
    volume: Volume,
    labels: LabelMap,
    path: str | Path,
    reference: LabelMap | None = None,
    confidence: Volume | None = None,
    title: str = "",
    scores: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> None:
    """Draw the outlines of the segments on an axial, a coronal and a sagittal slice.

    The slices are those that show most of `labels` (of `reference`, where `labels` is empty), in radiological
    convention: the patient's left is on the right. On an oblique grid they are the grid's own slices closest to
    the anatomical planes; a sheared one is drawn with right angles.

    labels: solid lines in the segments' colours.
    reference: dashed lines in the colours of the segments of the same name.
    confidence: 0..1; a second row shows where it is low.
    scores: Dice by segment name, for the legend.

    Raises InputError when the grids differ, or when `path` exists and `overwrite` is not set.
    """
    _same_grid(volume, labels, reference, confidence)
    shown = labels if labels.array.any() or reference is None else reference
    planes, window = three_planes(shown), _window(volume)
    boxes = shown_boxes(volume, shown, planes)
    figure, rows = _panels(planes, boxes, volume, 1 if confidence is None else 2, title, confidence is not None)
    for row, axes in enumerate(rows):
        for panel, plane, box in zip(axes, planes, boxes, strict=True):
            _draw_slice(panel, plane, volume, box, window, scale=row == 0)
            if row == 1:
                _draw_doubt(panel, plane, confidence, box)
                continue
            _draw_contours(panel, plane, labels, box)
            if reference is not None:
                _draw_contours(panel, plane, reference, box, like=labels, dashed=True)
    if confidence is not None:
        _confidence_bar(figure, rows[1])
    _legend(figure, labels, reference, scores)
    save_figure(figure, path, overwrite)


def confidence_overlay(
    volume: Volume,
    confidence: Volume,
    labels: LabelMap,
    path: str | Path,
    title: str = "",
    overwrite: bool = False,
) -> None:
    """Colour three slices where the confidence is low; slices and outlines as in `slices_with_contours`."""
    _same_grid(volume, labels, confidence)
    planes, window = three_planes(labels), _window(volume)
    boxes = shown_boxes(volume, labels, planes)
    figure, (axes,) = _panels(planes, boxes, volume, 1, title, bar=True)
    for panel, plane, box in zip(axes, planes, boxes, strict=True):
        _draw_slice(panel, plane, volume, box, window)
        _draw_doubt(panel, plane, confidence, box)
        _draw_contours(panel, plane, labels, box, width=1.0)
    _confidence_bar(figure, axes)
    _legend(figure, labels)
    save_figure(figure, path, overwrite)


def _same_grid(volume: Volume, *others: Volume | None) -> None:
    for other in others:
        if other is not None and not volume.same_grid(other):
            raise InputError(f"{other.name}: not on the grid of {volume.name}; resample it to the image first")


def _window(volume: Volume) -> tuple[float, float]:
    """The grey values that are black and white."""
    if is_ct(volume):
        return -180.0, 280.0
    step = max(1, round((volume.array.size / 2e6) ** (1 / 3)))
    low, high = np.percentile(volume.array[::step, ::step, ::step], [1, 99.5])
    return float(low), float(high if high > low else low + 1)


def _panels(
    planes: Sequence[Plane], boxes: Sequence, volume: Volume, count: int, title: str, bar: bool
) -> tuple[Figure, np.ndarray]:
    """A dark figure with `count` rows of panels of equal height, as wide as their slices are in mm."""
    ratios = []
    for plane, box in zip(planes, boxes, strict=True):
        rows, columns = plane.cut(volume.array, box).shape
        ratios.append(float(np.clip(columns * plane.spacing[0] / (rows * plane.spacing[1]), 0.3, 3.5)))
    size = (_HEIGHT * sum(ratios) + 0.3 + 0.9 * bar, count * (_HEIGHT + 0.05) + 0.6 + 0.35 * bool(title))
    figure = Figure(figsize=size, facecolor=_DARK, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.05, wspace=0.01, hspace=0.0)
    if title:
        figure.suptitle(title, color=_PALE, fontsize=12)
    return figure, figure.subplots(count, 3, squeeze=False, width_ratios=ratios)


def _extent(plane: Plane, image: np.ndarray) -> tuple[float, float, float, float]:
    return 0, image.shape[1] * plane.spacing[0], image.shape[0] * plane.spacing[1], 0


def _draw_slice(axes: Axes, plane: Plane, volume: Volume, box, window, scale: bool = True) -> None:
    image = plane.cut(volume.array, box).astype(np.float32)
    extent = _extent(plane, image)
    axes.imshow(
        image, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="bilinear", aspect="equal"
    )
    axes.axis("off")
    outline = [matplotlib.patheffects.withStroke(linewidth=1.5, foreground=_DARK)]
    for letter, (x, y) in zip(plane.sides, ((0.015, 0.5), (0.985, 0.5), (0.5, 0.985), (0.5, 0.015)), strict=True):
        horizontal = "left" if x < 0.1 else "right" if x > 0.9 else "center"
        vertical = "top" if y > 0.9 else "bottom" if y < 0.1 else "center"
        axes.text(
            x, y, letter, transform=axes.transAxes, color=_PALE, fontsize=8, ha=horizontal, va=vertical,
            path_effects=outline,
        )  # fmt: skip
    if scale:
        length = max(n for n in (1, 2, 5, 10, 20, 50, 100) if n <= max(0.33 * extent[1], 1))
        x, y = 0.03 * extent[1], 0.97 * extent[2]
        axes.plot([x, x + length], [y, y], color=_PALE, linewidth=2, solid_capstyle="butt", path_effects=outline)
        axes.text(
            x + length / 2, y - 0.012 * extent[2], f"{length} mm", color=_PALE, fontsize=7, ha="center",
            va="bottom", path_effects=outline,
        )  # fmt: skip


def _draw_contours(
    axes: Axes,
    plane: Plane,
    labels: LabelMap,
    box,
    like: LabelMap | None = None,
    dashed: bool = False,
    width: float = 1.4,
) -> None:
    known = {segment.name: segment.colour for segment in (like or labels).segments}
    for segment in labels.segments:
        mask = np.pad(plane.cut(labels.mask(segment), box), 1)  # so that an outline closes at the picture's edge
        if not mask.any():
            continue
        x, y = ((np.arange(n) - 0.5) * mm for n, mm in zip(mask.shape[::-1], plane.spacing, strict=True))
        axes.contour(
            x, y, mask, [0.5], colors=[known.get(segment.name, segment.colour)],
            linewidths=0.8 * width if dashed else width, linestyles=[(0, (3, 2))] if dashed else "solid",
        )  # fmt: skip


def _draw_doubt(axes: Axes, plane: Plane, confidence: Volume, box) -> None:
    doubt = 1 - np.clip(plane.cut(confidence.array, box).astype(np.float32), 0, 1)
    axes.imshow(
        doubt, cmap="inferno", vmin=0, vmax=0.5, alpha=np.clip((doubt - 0.05) / 0.2, 0, 0.85),
        extent=_extent(plane, doubt), interpolation="nearest", aspect="equal",
    )  # fmt: skip


def _confidence_bar(figure: Figure, axes: Sequence[Axes]) -> None:
    scale = ScalarMappable(Normalize(0, 0.5), "inferno")
    bar = figure.colorbar(scale, ax=list(axes), shrink=0.8, pad=0.01, aspect=28, ticks=[0, 0.25, 0.5])
    bar.ax.set_yticklabels(["1.0", "0.75", "≤ 0.5"], color=_PALE, fontsize=8)
    bar.ax.tick_params(color=_PALE, length=2)
    bar.outline.set_edgecolor(_PALE)
    bar.set_label("confidence", color=_PALE, fontsize=8)


def _legend(
    figure: Figure,
    labels: LabelMap,
    reference: LabelMap | None = None,
    scores: Mapping[str, float] | None = None,
) -> None:
    handles = []
    for segment in labels.segments:
        score = (scores or {}).get(segment.name, np.nan)
        name = segment.name if np.isnan(score) else f"{segment.name} {score:.2f}"
        handles.append(Line2D([], [], color=segment.colour, linewidth=2.2, label=name))
    if reference is not None:
        handles.append(Line2D([], [], color=_PALE, linewidth=1.4, label="prediction"))
        handles.append(Line2D([], [], color=_PALE, linewidth=1.2, linestyle=(0, (3, 2)), label="reference"))
    lines = int(np.ceil(len(handles) * 1.25 / figure.get_figwidth()))
    columns = int(np.ceil(len(handles) / max(lines, 1)))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, labelcolor=_PALE, fontsize=8,
        handlelength=1.6, columnspacing=1.4,
    )  # fmt: skip
