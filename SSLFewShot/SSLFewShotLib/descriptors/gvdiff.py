"""GVDIFF: grey-value differences at a random pattern (context-feature paper, section 3; after BRIEF, 2010)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.progress import Progress
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import Preparation, PreparedScan

SPREAD = 0.4
"""Standard deviation of the pattern's offsets, in units: comparable to the networks' view (section 3)."""
STEP = 1 / 24
"""Grid on which values are looked up, in units; its anti-aliasing is the smoothing that BRIEF asks for."""


class GreyValueDifferences(Descriptor):
    """192 differences between the values at two offsets each, drawn once from a Gaussian."""

    name = "gvdiff"
    dimension = 192
    batch_size = 16384

    def __init__(self, extent: Extent, intensity: Intensity, seed: int = 0):
        super().__init__()
        self.preparation = Preparation(extent, intensity, STEP)
        self.seed = seed
        self.pattern = np.random.default_rng(seed).normal(0.0, SPREAD, (2, self.dimension, 3))

    def provenance(self) -> dict[str, Any]:
        extent = self.preparation.extent
        return {"name": self.name, "method": "gvdiff", "seed": self.seed, "extent": [extent.unit, extent.scale]}

    def _describe(self, scan: PreparedScan, points: np.ndarray, progress: Progress) -> np.ndarray:
        values = scan.values.numpy()
        positions = scan.indices(points)
        offsets = self.pattern * scan.unit / scan.spacing
        vectors = np.empty((len(points), self.dimension), np.float32)
        what = f"describing {scan.name}"
        for start in range(0, len(points), self.batch_size):
            part = slice(start, start + self.batch_size)
            for column in range(self.dimension):
                if column % 32 == 0:
                    progress((start + column / self.dimension * self.batch_size) / len(points), what)
                first, second = (
                    ndimage.map_coordinates(
                        values, (positions[part] + offsets[end, column]).T[::-1], order=1, mode="nearest"
                    )
                    for end in (0, 1)
                )
                vectors[part, column] = first - second
        return vectors
