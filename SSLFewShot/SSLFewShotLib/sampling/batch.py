"""`ScanBatch`: several prepared scans in one flat buffer, so that one gather reads patches of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from SSLFewShotLib.sampling.preparation import PreparedScan


class ScanBatch:
    """Prepared scans on one device.

    values: (V,) float32, the scans' voxels one after another; offsets: (S,) where each begins;
    sizes: (S, 3) voxels along k, j, i; scans: the scans on the CPU, for drawing positions.
    """

    def __init__(self, scans: Sequence[PreparedScan], device: torch.device | str = "cpu"):
        self.scans = list(scans)
        self.device = torch.device(device)
        sizes = [scan.values.shape for scan in scans]
        starts = np.cumsum([0, *(scan.values.numel() for scan in scans)])[:-1]
        self.values = torch.cat([scan.values.reshape(-1) for scan in scans]).to(self.device)
        self.offsets = torch.as_tensor(starts, dtype=torch.int64, device=self.device)
        self.sizes = torch.tensor([tuple(size) for size in sizes], dtype=torch.int64, device=self.device)
        self._body_voxels: list[np.ndarray | None] = [None] * len(self.scans)

    def __len__(self) -> int:
        return len(self.scans)

    def on_device(self, number: int) -> PreparedScan:
        """A scan with its values on the batch's device, where they share the buffer, and its body too."""
        scan, start = self.scans[number], int(self.offsets[number])
        values = self.values[start : start + scan.values.numel()].view(scan.values.shape)
        return replace(scan, values=values, body=scan.body.to(self.device))

    def draw_body_positions(self, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(N,) scan numbers to (N, 3) continuous indices (i, j, k), uniform over each scan's body."""
        positions = np.empty((len(which), 3))
        for row, number in enumerate(which):
            if self._body_voxels[number] is None:
                body = self.scans[number].body.numpy()
                voxels = np.flatnonzero(body)
                self._body_voxels[number] = voxels if len(voxels) else np.arange(body.size)
            voxels = self._body_voxels[number]
            k, j, i = np.unravel_index(voxels[rng.integers(len(voxels))], self.scans[number].body.shape)
            positions[row] = (i, j, k)
        return positions + rng.uniform(-0.5, 0.5, positions.shape)

    def draw_central_positions(
        self, which: np.ndarray, rng: np.random.Generator, reach: float = 0.5
    ) -> np.ndarray:
        """(N,) scan numbers to (N, 3) indices (i, j, k), uniform in the central box [-reach, reach]³.

        In normalised coordinates, where a scan spans [-1, 1] (paper, section 2.1).
        """
        size = np.array([self.scans[n].values.shape[::-1] for n in which], dtype=np.float64)
        return (size - 1) / 2 + rng.uniform(-reach, reach, size.shape) * size / 2
