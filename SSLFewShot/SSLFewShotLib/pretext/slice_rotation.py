"""SLICE-ROTATION: by which angle is the second of two nearby slices turned?

Zharov, Ershov and Baumbach, "Self supervised learning for object localisation in 3D tomographic images" (2020),
section 2.1, equation 3, after Gidaris, Singh and Komodakis (ICLR 2018). Both slices are cut to the largest
circle. The paper draws the first slice uniformly and the second up to 100 of 2000 slices from it; it is a share of
the axis here. Both are turned by a common small angle as well: otherwise a turn by 0 or 90 degrees, which needs no
interpolation, would show in the noise alone, without any object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.pretext.slice_task import SliceTask
from SSLFewShotLib.pretext.task import Batch
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.slices import planes, turned

ANGLES = (-90.0, -60.0, -30.0, 0.0, 30.0, 60.0, 90.0)
_COMMON_TURN, _ZOOM, _ASIDE, _NOISE, _CONTRAST = 12.0, 1.8, 3.0, 0.05, 0.1


class SliceRotation(SliceTask):
    """Tell the angle between two slices.

    axes: the slicing axes that pairs are drawn from, letters of "LPS". reach: how far apart two slices are at
    most, as a share of the axis. angles: degrees, the table. network: "small" or "resnet50" (the paper's); side:
    pixels of a slice.
    """

    name = "slice-rotation"
    control_metric = "accuracy"
    higher_is_better = True
    usual_batch = 16

    def __init__(
        self,
        extent: Extent,
        intensity: Intensity,
        batch_size: int = 16,
        axes: str = "LPS",
        network: str = "small",
        side: int = 96,
        reach: float = 0.05,
        angles: Sequence[float] = ANGLES,
    ):
        if not 0 < reach <= 1:
            raise InputError(f"reach {reach}: a share of an axis, above 0 and at most 1, was expected")
        if len(set(angles)) < 2 or len(set(angles)) != len(angles) or not np.isfinite(angles).all():
            raise InputError(f"angles {list(angles)}: at least two different ones were expected")
        super().__init__(intensity, batch_size, axes, side, network, inputs=2, outputs=len(angles))
        self.reach = reach
        self.angles = [float(angle) for angle in angles]
        self.chance = 1 / len(self.angles)

    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """pairs: (N, 2, side, side), the second slice turned; angle: (N,) which of the table."""
        pairs, which = [], rng.integers(len(self.angles), size=self.batch_size)
        for angle in which:
            scan = volumes.scans[int(rng.integers(len(volumes)))]
            axis = self.axes[int(rng.integers(len(self.axes)))]
            length = scan.values.shape[2 - axis]
            first = int(rng.integers(length))
            found = planes(scan, axis, np.array([first, neighbour(first, length, self.reach, rng)]))
            common = rng.uniform(-_COMMON_TURN, _COMMON_TURN)
            angles = torch.tensor([common, common + self.angles[angle]], dtype=torch.float32)
            aside = rng.normal(0, _ASIDE, 2)
            shifts = torch.as_tensor(aside + rng.uniform(-1, 1, (2, 2)), dtype=torch.float32)
            zoom = _ZOOM ** rng.uniform()
            pair = turned(found, angles, self.preparation.side, scan.fill, shifts, zoom=zoom)
            contrast = np.exp(rng.normal(0, _CONTRAST))
            noise = torch.as_tensor(rng.normal(0, _NOISE, pair.shape), dtype=torch.float32)
            pairs.append(pair * contrast + noise)
        return {
            "pairs": torch.stack(pairs).to(volumes.device),
            "angle": torch.as_tensor(which, device=volumes.device),
        }

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Cross-entropy; metric: the share of right answers."""
        logits = self.network(batch["pairs"]).float()
        accuracy = (logits.detach().argmax(dim=1) == batch["angle"]).float().mean()
        return F.cross_entropy(logits, batch["angle"]), {self.control_metric: accuracy}

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "reach": self.reach, "angles": self.angles}


def neighbour(first: int, length: int, reach: float, rng: np.random.Generator) -> int:
    """A slice up to `reach` of an axis's `length` from the first one, another one where there is another."""
    most = max(1, round(reach * length))
    others = [n for n in range(max(0, first - most), min(length, first + most + 1)) if n != first]
    return int(rng.choice(others)) if others else first
