"""Where patches for fine-tuning lie: as often on every segment, however small; and blocks that are held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from SSLFewShotLib.tuning.labelled import LabelledScan

FOREGROUND = 2 / 3
"""Share of the patches that lie on a segment; the others lie anywhere in a body."""
BLOCK = 6
"""Voxels along each side of what is held out in one piece."""
_LEAST, _MOST = 64, 0.25
"""Voxels that a segment must fill for some to be held out, and the share that it may lose at most."""


class PatchCentres:
    """Draws centres of patches: first a segment, each equally often, then a scan that has it, then a voxel of it.

    segments: how many there are. A voxel that counts for nothing, or is held out, is never a centre on a segment.
    """

    def __init__(self, scans: Sequence[LabelledScan], segments: int, foreground: float = FOREGROUND):
        self.foreground = foreground
        self._bodies = [np.flatnonzero(s.scan.body.numpy()) for s in scans]
        self._shapes = [tuple(s.scan.values.shape) for s in scans]
        self._voxels: dict[int, list[tuple[int, np.ndarray]]] = {}
        for segment in range(segments):
            for number, labelled in enumerate(scans):
                if segment in labelled.masks and len(voxels := _learned(labelled, segment)):
                    self._voxels.setdefault(segment, []).append((number, voxels))
        self._drawn_from = sorted(self._voxels)

    def draw(self, rng: np.random.Generator) -> tuple[int, np.ndarray, int | None]:
        """Number of a scan, (3,) index (i, j, k) in it, and the segment there, None for anywhere in the body."""
        if self._drawn_from and rng.random() < self.foreground:
            segment = self._drawn_from[rng.integers(len(self._drawn_from))]
            number, voxels = self._voxels[segment][rng.integers(len(self._voxels[segment]))]
            return number, voxels[rng.integers(len(voxels))][::-1].astype(np.float64), segment
        number = int(rng.integers(len(self._shapes)))
        body, shape = self._bodies[number], self._shapes[number]
        place = body[rng.integers(len(body))] if len(body) else rng.integers(int(np.prod(shape)))
        return number, np.array(np.unravel_index(place, shape)[::-1], np.float64), None


def hold_out(scans: Sequence[LabelledScan], share: float, seed: int) -> None:
    """Choose blocks with about `share` of each segment's voxels, in each scan, to be held out of what is learned.

    Of a small segment nothing is held out, and of none more than a quarter.
    """
    for number, labelled in enumerate(scans):
        labelled.held_out = None
        if share <= 0:
            continue
        rng = np.random.default_rng([seed, number, 3])
        voxels = {segment: mask.inside() for segment, mask in labelled.masks.items()}
        voxels = {segment: found for segment, found in voxels.items() if len(found) >= _LEAST}
        counts = {segment: _in_blocks(found) for segment, found in voxels.items()}
        taken: set[tuple[int, int, int]] = set()
        for segment, blocks in counts.items():
            order = sorted(blocks)
            for at in rng.permutation(len(order)):
                if _lost(blocks, taken) >= share * len(voxels[segment]):
                    break
                with_it = taken | {order[at]}
                if all(_lost(c, with_it) <= _MOST * len(voxels[s]) for s, c in counts.items()):
                    taken = with_it
        if taken:
            held = torch.zeros(labelled.scan.values.shape, dtype=torch.bool)
            for block in taken:
                held[tuple(slice(BLOCK * b, BLOCK * (b + 1)) for b in block)] = True
            labelled.held_out = held


def held_out_centres(
    scans: Sequence[LabelledScan], size: tuple[int, int, int], most: int
) -> list[tuple[int, np.ndarray]]:
    """Patches (scan, centre (i, j, k)) of a size (k, j, i) that show what is held out, `most` at most.

    Each next patch lies on a block that none before shows well within.
    """
    found: list[tuple[int, np.ndarray]] = []
    for number, labelled in enumerate(scans):
        if labelled.held_out is None:
            continue
        blocks = sorted(_in_blocks(np.argwhere(labelled.held_out.numpy())))
        middles = (np.array(blocks) + 0.5) * BLOCK - 0.5
        left = np.ones(len(middles), bool)
        while left.any():
            centre = middles[left][0]
            found.append((number, centre[::-1].copy()))
            left &= (np.abs(middles - centre) > np.maximum(np.array(size) / 2 - BLOCK, 0)).any(axis=1)
    step = max(1.0, len(found) / most)
    return [found[int(n * step)] for n in range(min(most, len(found)))]


def _learned(labelled: LabelledScan, segment: int) -> np.ndarray:
    voxels = labelled.masks[segment].inside()
    voxels = voxels[((voxels >= 0) & (voxels < np.array(labelled.scan.values.shape))).all(axis=1)]
    k, j, i = voxels.T
    counts = labelled.weights[k, j, i].numpy() > 0
    if labelled.held_out is not None:
        counts &= ~labelled.held_out[k, j, i].numpy()
    return voxels[counts]


def _in_blocks(voxels: np.ndarray) -> dict[tuple[int, int, int], int]:
    blocks, counts = np.unique(voxels // BLOCK, axis=0, return_counts=True)
    return {tuple(int(b) for b in block): int(count) for block, count in zip(blocks, counts, strict=True)}


def _lost(counts: dict[tuple[int, int, int], int], taken: set[tuple[int, int, int]]) -> int:
    return sum(counts.get(block, 0) for block in taken)
