"""The left and the right organ of a pair in labelled scans, and whether they can be learned from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.cases import Case
from SSLFewShotLib.imaging.files import read_labels, read_volume
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.paired_segments import chosen_pair, without_side
from SSLFewShotLib.imaging.resampling import labels_on_grid, resample
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.sampling.preparation import PreparedScan

LEAST_VOXELS = 30
"""Of a scan's own grid: fewer have no shape to learn from."""
MOST_COARSER = 4.0
"""How many times as far apart as in the median scan slices may lie."""
LEAST_APART = 5.0
"""mm between the centres of the two organs across the patient; closer ones are no left and right."""


@dataclass(frozen=True)
class Organs:
    """Of one scan, the left one first: (2, 3) LPS mm of their boxes' middles, and (2, 3) mm of the boxes."""

    case: Case
    middles: np.ndarray
    sides: np.ndarray


class PairedOrgans:
    """The organs of the scans in which both are marked.

    pair: the names of two segments, or None to find the only pair by the names; afterwards (left, right), as
    they lie. found: by the names that scans have once read; cases: those that were found fit.

    Scans without one of the two, with a handful of voxels of one, or whose slices lie far wider apart than those
    of the others are left out with an InputWarning. Raises InputError when fewer than two remain, when the two
    lie in one place or change sides between scans, or when there is no pair, or several to choose from.
    """

    def __init__(self, cases: Sequence[Case], pair: Sequence[str] | None = None):
        if len(cases) < 2:
            raise InputError(
                f"{len(cases)} labelled scan: side prediction compares organs of different patients and needs at "
                "least two; mark another one"
            )
        labels = [read_labels(case.labels) for case in cases]
        names = [segment.name for one in labels for segment in one.segments]
        self.pair = chosen_pair(list(dict.fromkeys(names)), pair)
        self.found: dict[str, Organs] = {}
        self._masks: dict[str, list[tuple[np.ndarray, torch.Tensor]]] = {}
        spacings = {}
        for case, marked in zip(cases, labels, strict=True):
            volume = read_volume(case.image)
            if volume.name in spacings:
                raise InputError(
                    f"{case.image}: another scan is called {volume.name} too; rename one of the files"
                )
            spacings[volume.name] = float(volume.spacing.max())
            if (organs := self._organs(case, volume, marked)) is not None:
                self.found[volume.name] = organs
        self._leave_out_coarse(spacings)
        if len(self.found) < 2:
            raise InputError(
                f"{len(self.found)} of {len(cases)} labelled scans can be used for {' and '.join(self.pair)}: "
                "side prediction needs at least two; mark both organs in another one"
            )
        self._check_sides()

    @property
    def cases(self) -> list[Case]:
        """Those that are learned from."""
        return [organs.case for organs in self.found.values()]

    def largest(self) -> np.ndarray:
        """(3,) mm along L, P, S of a box that holds any of the organs."""
        return np.max([organs.sides for organs in self.found.values()], axis=(0, 1))

    def mask(self, scan: PreparedScan, side: int) -> tuple[np.ndarray, torch.Tensor]:
        """The left (0) or right (1) organ on the scan's grid: the index (i, j, k) where its part begins, and that
        part (k, j, i), bool, with a rim of voxels outside the organ.
        """
        if scan.name not in self._masks:
            case = self.found[scan.name].case
            labels = labels_on_grid(read_labels(case.labels), read_volume(case.image))
            matrix = np.diag([*scan.spacing, 1.0])
            matrix[:3, 3] = scan.origin
            grid = Volume(np.broadcast_to(np.int8(0), scan.body.shape), matrix, scan.name)
            self._masks[scan.name] = []
            for name in self.pair:
                mask = Volume(labels.mask(name).astype(np.uint8), labels.ijkToLps, scan.name)
                self._masks[scan.name].append(_part(resample(mask, grid, order=0, fill=0).array > 0))
        return self._masks[scan.name][side]

    def _organs(self, case: Case, volume: Volume, labels: LabelMap) -> Organs | None:
        """Where the two lie; None, and a warning, where they cannot be used."""
        there = {segment.name for segment in labels.segments}
        middles, sides = [], []
        labels = labels_on_grid(labels, volume)
        masks = [labels.mask(name) if name in there else np.zeros((1, 1, 1), bool) for name in self.pair]
        for name, mask in zip(self.pair, masks, strict=True):
            count = int(mask.sum())
            if count < LEAST_VOXELS:
                said = (
                    f"{name} has {count} voxels, at least {LEAST_VOXELS} were expected" if count else f"no {name}"
                )
                warnings.warn(f"{case.id}: left out, {said}; mark it in full", InputWarning, stacklevel=4)
                return None
            points = np.argwhere(mask)[:, ::-1] @ labels.ijkToLps[:3, :3].T + labels.ijkToLps[:3, 3]
            low, high = points.min(axis=0), points.max(axis=0)
            middles.append((low + high) / 2)
            sides.append(high - low + np.abs(labels.ijkToLps[:3, :3]).sum(axis=1))
        shared = int((masks[0] & masks[1]).sum())
        if shared > 0.1 * min(int(mask.sum()) for mask in masks):
            raise InputError(
                f"{case.id}: {self.pair[0]} and {self.pair[1]} cannot be told apart, {shared} voxels are marked "
                "as both; correct the marks, or choose another pair"
            )
        return Organs(case, np.array(middles), np.array(sides))

    def _leave_out_coarse(self, spacings: dict[str, float]) -> None:
        usual = float(np.median(list(spacings.values())))
        for name in list(self.found):
            if spacings[name] > MOST_COARSER * usual:
                organs = self.found.pop(name)
                warnings.warn(
                    f"{organs.case.id}: left out, its voxels are {spacings[name]:.3g} mm long and those of most "
                    f"scans {usual:.3g} mm; resample it, or take it alone with others of its kind",
                    InputWarning,
                    stacklevel=4,
                )

    def _check_sides(self) -> None:
        """L grows to the patient's left: the left organ has the larger one, in all scans."""
        apart = {name: float(np.subtract(*organs.middles)[0]) for name, organs in self.found.items()}
        left, right = self.pair
        close = [name for name, distance in apart.items() if abs(distance) < LEAST_APART]
        if close:
            raise InputError(
                f"{self.found[close[0]].case.id}: {left} and {right} cannot be told apart, their middles lie "
                f"{abs(apart[close[0]]):.2g} mm apart across the patient; choose a pair that lies side by side"
            )
        to_left = [name for name, distance in apart.items() if distance > 0]
        if to_left and len(to_left) < len(apart):
            fewer = min((to_left, [name for name in apart if name not in to_left]), key=len)
            raise InputError(
                f"{self.found[fewer[0]].case.id}: {left} and {right} lie the other way round than in the other "
                "scans; the marks or the scan's orientation are mistaken, correct or leave out the case"
            )
        if not to_left and without_side(left)[1]:
            warnings.warn(
                f"{left} lies to the right of {right} in all scans; the two are told apart all the same, but look "
                "at the marks",
                InputWarning,
                stacklevel=4,
            )
        elif not to_left:
            self.pair = (right, left)
            self.found = {
                name: replace(organs, middles=organs.middles[::-1], sides=organs.sides[::-1])
                for name, organs in self.found.items()
            }


def _part(mask: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """(K, J, I) bool to where its part with the organ begins, and that part; none of it may have been hit."""
    places = np.argwhere(mask)
    if not len(places):
        return np.zeros(3), torch.zeros((1, 1, 1), dtype=torch.bool)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    part = np.pad(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], 1)
    return (low - 1.0)[::-1].copy(), torch.from_numpy(part)
