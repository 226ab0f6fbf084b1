"""What HEATMAP and REG2D share: two parallel 2.5D patches a gap apart, whose in-plane offset is to be found.

Blendowski, Nickisch, Heinrich, "How to learn from unlabeled volume data: self-supervised 3D context feature
learning" (MICCAI 2019), section 2.1. One D2D network for each axis, all axes trained side by side.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import nn

from SSLFewShotLib.networks.context import D2D
from SSLFewShotLib.pretext.task import Batch, PretextTask
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.patches import PLANE_AXES, planar_patches
from SSLFewShotLib.sampling.preparation import Preparation

PATCH_SIDE = 0.8
"""In-plane side of a patch, in units."""
SLICE_DISTANCE = 0.05
"""Distance of a patch's three slices, in units (the authors' code; the paper gives 0.05 as the depth)."""
GAP = (0.125, 0.25)
"""Least and greatest distance of the two patches along the normal, in units, either side."""
FIRST_OFFSETS, LAST_OFFSETS = (0.25, 0.3), (0.0, 0.7)
"""Least and greatest in-plane offset, in units, at the beginning and the end of training, linear in between."""

AXIS_NAMES = ("sagittal", "coronal", "axial")
"""Branch names by the planes' normal: L, P, S."""


def planar_preparation(extent: Extent, intensity: Intensity) -> Preparation:
    """The grid on which 42 samples span a patch's side."""
    return Preparation(extent, intensity, PATCH_SIDE / (D2D.input_size - 1))


def slice_offsets_in_voxels() -> tuple[float, float, float]:
    """The three slices' positions along the normal, in voxels of the prepared grid."""
    step = PATCH_SIDE / (D2D.input_size - 1)
    return -SLICE_DISTANCE / step, 0.0, SLICE_DISTANCE / step


class PlanarOffset(PretextTask):
    """Find the in-plane offset (Δ1, Δ2) between two planes that lie Δ0 apart along their normal.

    The gap's size is not part of the target. Anchors are uniform in the body for an extent in
    millimetres, and uniform in the central box [-0.5, 0.5]³ for normalised coordinates (the paper).
    """

    architecture = "D2D"
    control_metric = "offset_error"
    higher_is_better = False

    def __init__(
        self, extent: Extent, intensity: Intensity, batch_size: int = 8, axes: tuple[int, ...] = (0, 1, 2)
    ):
        self.preparation = planar_preparation(extent, intensity)
        self.batch_size = batch_size
        self.axes = axes
        self.encoders = {AXIS_NAMES[axis]: D2D() for axis in axes}
        self.heads = {AXIS_NAMES[axis]: self.make_head() for axis in axes}

    @staticmethod
    @abstractmethod
    def make_head() -> nn.Module:
        """The auxiliary network: (N, 128) pair of descriptors to a prediction."""

    @abstractmethod
    def offset_loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of one axis for target offsets (N, 2)."""

    @abstractmethod
    def offsets(self, prediction: torch.Tensor) -> torch.Tensor:
        """The (N, 2) offsets that a prediction stands for."""

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"encoders": nn.ModuleDict(self.encoders), "heads": nn.ModuleDict(self.heads)})

    def descriptor_modules(self) -> dict[str, nn.Module]:
        return dict(self.encoders)

    def offset_range(self) -> tuple[float, float]:
        """Least and greatest offset at the present `fraction` of training."""
        low, high = (
            first + (last - first) * self.fraction for first, last in zip(FIRST_OFFSETS, LAST_OFFSETS, strict=True)
        )
        return low, high

    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """For each axis: (2N, 3, 42, 42) patches, anchors first, and (N, 2) offsets in units."""
        batch: Batch = {}
        low, high = self.offset_range()
        for axis in self.axes:
            which = rng.integers(len(volumes), size=self.batch_size)
            normalised = self.preparation.extent.unit == "normalised"
            draw = volumes.draw_central_positions if normalised else volumes.draw_body_positions
            anchors = draw(which, rng)
            gap = rng.uniform(*GAP, self.batch_size) * rng.choice([-1, 1], self.batch_size)
            delta = rng.uniform(low, high, (self.batch_size, 2)) * rng.choice([-1, 1], (self.batch_size, 2))
            others = anchors.copy()
            others[:, axis] += gap / self.preparation.step
            others[:, PLANE_AXES[axis][0]] += delta[:, 0] / self.preparation.step
            others[:, PLANE_AXES[axis][1]] += delta[:, 1] / self.preparation.step
            positions = torch.as_tensor(
                np.concatenate([anchors, others]), dtype=torch.float32, device=volumes.device
            )
            scans = torch.as_tensor(np.tile(which, 2), device=volumes.device)
            name = AXIS_NAMES[axis]
            batch[f"patches.{name}"] = planar_patches(
                volumes, scans, positions, axis, D2D.input_size, slice_offsets_in_voxels()
            )
            batch[f"offsets.{name}"] = torch.as_tensor(delta, dtype=torch.float32, device=volumes.device)
        return batch

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sum of the axes' losses; metric: mean distance of the found from the true offset, in units."""
        total = torch.zeros((), device=next(iter(batch.values())).device)
        errors = []
        for name, encoder in self.encoders.items():
            target = batch[f"offsets.{name}"]
            anchor, other = encoder(batch[f"patches.{name}"]).chunk(2)
            prediction = self.heads[name](torch.cat([anchor, other], dim=1)).float()
            total = total + self.offset_loss(prediction, target)
            errors.append((self.offsets(prediction.detach()) - target).norm(dim=1).mean())
        return total, {self.control_metric: torch.stack(errors).mean()}

    @property
    def chance(self) -> float:
        """Mean error of always answering (0, 0), at the present `fraction`: E‖Δ‖ by the midpoint rule."""
        low, high = self.offset_range()
        draws = low + (high - low) * (np.arange(200) + 0.5) / 200
        return float(np.hypot(*np.meshgrid(draws, draws)).mean())

    def settings(self) -> dict[str, Any]:
        return {
            "patch_side": PATCH_SIDE,
            "slice_distance": SLICE_DISTANCE,
            "gap": list(GAP),
            "first_offsets": list(FIRST_OFFSETS),
            "last_offsets": list(LAST_OFFSETS),
            "axes": [AXIS_NAMES[axis] for axis in self.axes],
            "batch_size": self.batch_size,
        }
