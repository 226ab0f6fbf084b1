"""Localisation by certainty: where a network tells surely how the next slice is turned, there is the object.

Zharov, Ershov and Baumbach (2020), section 2.2, "Uncertainty estimation", and figure 3: the probability of the
right class for each slice on each of the three axes, thresholded to a box.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.localisation.localiser import Localiser, Location, Profile, emptiness
from SSLFewShotLib.localisation.runs import Run, longest_run
from SSLFewShotLib.localisation.slice_model import SliceModel
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.slices import AXES, SliceScan, planes, turned

WHAT = "probability of the right rotation"
_COMMON_TURN = 7.0
"""Degrees by which both slices are turned, as in training: every angle of the table is interpolated alike then."""
_PAIRS_AT_ONCE = 56
_SIDES = ("right to left", "front to back", "foot to head")


class CertaintyLocaliser(Localiser):
    """Boxes from the probability of the right rotation, slice by slice on each of the three axes.

    model: of slice-rotation. fraction: where between the levels of background and object the threshold lies, see
    `runs.longest_run`. rounds: from the second one on, slices are cut to what the first found along the other two
    axes and `beside` (a share of it) on every side, so that the object is seen as large as in training, and what
    lies apart from it does not count.

    Certainty is the step between inside and outside, as a share of the greatest possible one, over the three axes.
    """

    name = "certainty"

    def __init__(self, model: SliceModel, fraction: float = 0.08, rounds: int = 3, beside: float = 0.1):
        if not model.angles:
            raise InputError(f"model {model.name}: of {model.method}; certainty needs one of slice-rotation")
        if not 0 < fraction < 1 or not 0 <= beside <= 10 or rounds < 1:
            raise InputError(
                f"fraction {fraction}, beside {beside}, {rounds} rounds: a share between 0 and 1, one of 0 to 10 "
                "and at least one round were expected"
            )
        self.model = model
        self.fraction = fraction
        self.rounds = rounds
        self.beside = beside

    def fit(self, data: Any = None, progress: Progress = ignore_progress) -> CertaintyLocaliser:
        """There is nothing to learn from the scans: the network has learned before."""
        return self

    def locate(self, volume: Volume, progress: Progress = ignore_progress) -> Location:
        """Find the object. Along an axis without any difference the box spans the whole scan."""
        if reason := emptiness(volume):
            return Location(None, 0.0, reason)
        scan = self.model.preparation(volume, portion(progress, 0.0, 0.1))
        chance = 1 / len(self.model.angles)
        values: list[np.ndarray] = [np.empty(0)] * 3
        runs: list[Run | None] = [None] * 3
        looked: dict[int, Window] = {}
        for turn in range(self.rounds):
            for axis in range(3):
                at = 0.1 + 0.9 * (turn + axis / 3) / self.rounds
                part = portion(progress, at, at + 0.3 / self.rounds)
                known = runs if turn else [None] * 3
                window = window_of(known, axis, scan.values.shape, self.beside)
                if axis in looked and _alike(window, looked[axis]):
                    continue
                looked[axis] = window
                values[axis] = rotation_certainty(self.model, scan, axis, part, window)
                runs[axis] = longest_run(values[axis], chance, self.fraction)
        profiles = [profile_of(scan, axis, values[axis], runs[axis], WHAT, chance) for axis in range(3)]
        return located(scan, volume, runs, profiles, chance)

    def provenance(self) -> dict[str, Any]:
        settings = {"fraction": self.fraction, "rounds": self.rounds, "beside": self.beside}
        return {"method": self.name, "descriptor": self.model.provenance(), "settings": settings}


Window = tuple[slice, slice, slice]
"""Of a prepared scan's values, along k, j, i."""


def window_of(runs: list[Run | None], axis: int, shape: tuple[int, ...], beside: float) -> Window:
    """What slices across an axis are cut to: the stretches found along the other two, and a little beside."""
    spans = []
    for other in range(3):
        length = shape[2 - other]
        run = None if other == axis else runs[other]
        if run is None or run.whole:
            spans.append(slice(0, length))
            continue
        more = max(2.0, beside * (run.stop - run.start))
        spans.append(
            slice(
                int(np.clip(np.floor(run.start - more), 0, length - 1)),
                int(np.clip(np.ceil(run.stop + more) + 1, 1, length)),
            )
        )
    return spans[2], spans[1], spans[0]


def _alike(one: Window, other: Window) -> bool:
    """Whether two windows differ by less than two voxels at every side."""
    return all(abs(a.start - b.start) < 2 and abs(a.stop - b.stop) < 2 for a, b in zip(one, other, strict=True))


def rotation_certainty(
    model: SliceModel,
    scan: SliceScan,
    axis: int,
    progress: Progress = ignore_progress,
    window: Window | None = None,
) -> np.ndarray:
    """(N,) for each slice across an axis: the mean probability of the right class over all angles of the table.

    window: what the slices are cut to.
    """
    if window is not None:
        scan = replace(scan, values=scan.values[window])
    length = scan.values.shape[2 - axis]
    angles = torch.tensor(model.angles)
    at_once = max(1, _PAIRS_AT_ONCE // len(angles))
    found = np.empty(length)
    right = torch.arange(len(angles))
    for start in range(0, length, at_once):
        progress(start / length, f"looking at slices {_SIDES[axis]}")
        numbers = np.arange(start, min(start + at_once, length))
        beside = np.where(numbers + 1 < length, numbers + 1, np.maximum(numbers - 1, 0))
        common = torch.full((len(numbers),), _COMMON_TURN)
        firsts = turned(planes(scan, axis, numbers), common, model.preparation.side, scan.fill)
        seconds = planes(scan, axis, beside)
        pairs = torch.stack(
            [
                torch.stack([firsts, turned(seconds, common + angle, model.preparation.side, scan.fill)], dim=1)
                for angle in angles
            ],
            dim=1,
        )
        with torch.inference_mode():
            logits = model.network(pairs.flatten(0, 1).to(model.device)).float().cpu()
        probabilities = logits.softmax(dim=1).reshape(len(numbers), len(angles), len(angles))
        found[numbers] = probabilities[:, right, right].mean(dim=1).numpy()
    return found


def profile_of(
    scan: SliceScan, axis: int, values: np.ndarray, run: Run | None, what: str, floor: float
) -> Profile:
    """A profile along an axis of the patient, with the edges that were found in it."""
    origin, spacing = scan.origin[axis], scan.spacing[axis]
    edges = None if run is None else (origin + spacing * run.start, origin + spacing * run.stop)
    threshold = floor if run is None else run.threshold
    return Profile(AXES[axis], origin + spacing * np.arange(len(values)), values, threshold, edges, what)


def located(
    scan: SliceScan, volume: Volume, runs: list[Run | None], profiles: list[Profile], floor: float
) -> Location:
    """The box of the runs along the three axes, or why there is none."""
    if all(run is None for run in runs):
        reason = "not found: no slice of this scan shows anything that could be told from background"
        return Location(None, 0.0, reason, (), profiles)
    spans, steps = [], []
    for run, length in zip(runs, scan.values.shape[::-1], strict=True):
        spans.append((-0.5, length - 0.5) if run is None else (run.start, run.stop))
        step = 0.05 if run is None else max(run.inside - max(run.outside, floor), 0.01)
        steps.append(step / (1 - floor))
    low, high = (scan.origin + scan.spacing * np.array([span[side] for span in spans]) for side in (0, 1))
    certainty = float(np.clip(np.prod(steps) ** (1 / 3), 0, 1))
    notes = []
    flat = [side for side, run in zip(_SIDES, runs, strict=True) if run is None]
    full = [side for side, run in zip(_SIDES, runs, strict=True) if run is not None and run.whole]
    several = [side for side, run in zip(_SIDES, runs, strict=True) if run is not None and run.others]
    if flat:
        certainty *= 0.5
        notes.append(f"nothing can be told apart {' and '.join(flat)}, the box spans the whole scan there")
    if len(full) == 3:
        notes.append("the object fills the field of view")
    if several:
        certainty *= 0.6
        notes.append(f"there may be another object: {' and '.join(several)}, the longest stretch was taken")
    box = Box((low + high) / 2, high - low, np.eye(3), f"{volume.name} box", certainty).clipped(volume)
    if box is None:
        return Location(None, 0.0, "not found: what was found lies outside of the scan", (), profiles)
    return Location(box, certainty, "; ".join(notes), (), profiles)
