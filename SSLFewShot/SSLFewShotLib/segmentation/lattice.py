"""`Lattice`: a scan's body on a regular grid of points, each described at most once."""

from __future__ import annotations

import time

import numpy as np
from scipy import ndimage

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.body import body_box
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion, watched

_MOST_NODES = 100_000_000


class Lattice:
    """Points `spacing` mm apart along L, P and S over a scan.

    shape: (K, J, I) nodes along S, P, L; body: (K, J, I) bool, the nodes within the body;
    box: (2, 3) LPS mm, the body's box. Descriptors are computed on demand and remembered; describing_seconds
    says how long that took so far, the preparation of the scan included.

    Raises InputError for a spacing that is not above 0, or so fine that the points would not fit into memory.
    """

    def __init__(
        self,
        volume: Volume,
        descriptor: Descriptor,
        spacing: float,
        progress: Progress = ignore_progress,
    ):
        self.volume = volume
        self.descriptor = descriptor
        self.spacing = float(spacing)
        began = time.perf_counter()
        scan = descriptor.prepare(volume, portion(progress, 0.0, 0.8))
        low, high = scan.origin, scan.origin + scan.spacing * (np.array(scan.values.shape[::-1]) - 1)
        if not self.spacing > 0 or np.prod((high - low) / self.spacing + 1) > _MOST_NODES:
            raise InputError(
                f"{volume.name}: points every {self.spacing:g} mm over "
                f"{' × '.join(f'{s:.0f}' for s in high - low)} mm are too many; give a larger spacing"
            )
        count = np.floor((high - low) / self.spacing).astype(int) + 1
        self.origin = (low + high) / 2 - self.spacing * (count - 1) / 2
        self.shape = tuple(int(n) for n in count[::-1])
        prepared = Volume.from_spacing(
            scan.body.numpy(), tuple(scan.spacing), tuple(scan.origin), name=volume.name
        )
        self.box = body_box(prepared, scan.body.numpy(), portion(progress, 0.8, 0.9))
        step = self.spacing / scan.spacing[::-1]
        start = ((self.origin - scan.origin) / scan.spacing)[::-1]
        # A node counts as body when body lies within half a step, so that the skin is not lost.
        size = [max(1, 2 * int(s / 2) + 1) for s in step]
        near = watched(
            lambda: ndimage.maximum_filter(scan.body.numpy(), size), progress, 0.9, f"preparing {volume.name}"
        )
        index = np.ix_(
            *(
                np.clip(np.round(start[a] + step[a] * np.arange(self.shape[a])), 0, near.shape[a] - 1).astype(int)
                for a in range(3)
            )
        )
        self.body = near[index]
        self._row = np.full(self.shape, -1, np.int64)
        self._blocks: list[np.ndarray] = []
        self._count = 0
        self.describing_seconds = time.perf_counter() - began

    def points(self, nodes: np.ndarray) -> np.ndarray:
        """(N, 3) LPS mm of nodes, given as (N,) flat numbers."""
        k, j, i = np.unravel_index(nodes, self.shape)
        return self.origin + self.spacing * np.stack([i, j, k], axis=1)

    def positions(self, nodes: np.ndarray) -> np.ndarray:
        """(N, 3) places relative to the body's box: 0 right, anterior, inferior; 1 left, posterior, superior."""
        low, high = self.box
        return (self.points(nodes) - low) / (high - low)

    def vectors(self, nodes: np.ndarray, progress: Progress = ignore_progress) -> np.ndarray:
        """(N, D) descriptors of nodes, computing those that are not known yet."""
        rows = self._row.ravel()
        missing = nodes[rows[nodes] < 0]
        if len(missing):
            began = time.perf_counter()
            self._blocks.append(self.descriptor.describe(self.volume, self.points(missing), progress))
            rows[missing] = self._count + np.arange(len(missing))
            self._count += len(missing)
            self.describing_seconds += time.perf_counter() - began
        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks)]
        return (
            self._blocks[0][rows[nodes]] if self._blocks else np.empty((0, self.descriptor.dimension), np.float32)
        )

    def coarse_nodes(self) -> np.ndarray:
        """(N,) every second node along each axis, within the body."""
        chosen = np.zeros(self.shape, bool)
        chosen[::2, ::2, ::2] = self.body[::2, ::2, ::2]
        return np.flatnonzero(chosen)
