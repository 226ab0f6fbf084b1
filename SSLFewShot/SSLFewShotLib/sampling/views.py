"""`View`: a randomly deformed crop of a scan, and where each of its points comes from."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from SSLFewShotLib.sampling.preparation import PreparedScan

_ALONE = 10_000
"""Points that one thread looks up as fast as several."""


@dataclass(frozen=True)
class Deformation:
    """How strongly views are deformed.

    rotation: greatest angle about each axis, degrees; scale: greatest change of the size, each way, as a factor;
    shear: standard deviation of the linear part beyond that; elastic: standard deviation of the displacements of a
    coarse grid, voxels; nodes: of that grid along each axis.
    """

    rotation: float = 15.0
    scale: float = 1.2
    shear: float = 0.05
    elastic: float = 1.5
    nodes: int = 5


class View:
    """A crop of `size` (k, j, i) voxels: index g in it shows the scan at centre + linear · (g − middle) + e(g).

    centre: (3,) index (i, j, k) in the scan; linear: (3, 3); displacements: (3, n, n, n) voxels on a coarse grid
    over the crop, interpolated linearly, or None.
    """

    def __init__(
        self, size: tuple[int, int, int], centre: np.ndarray, linear: np.ndarray, displacements: np.ndarray | None
    ):
        self.size = size
        self.middle = torch.tensor([(n - 1) / 2 for n in reversed(size)])
        self.centre = torch.as_tensor(centre, dtype=torch.float32)
        self.linear = torch.as_tensor(linear, dtype=torch.float32)
        self.inverse = torch.linalg.inv(self.linear)
        self.displacements = None if displacements is None else torch.as_tensor(displacements, dtype=torch.float32)

    @classmethod
    def drawn(
        cls, size: tuple[int, int, int], centre: np.ndarray, deformation: Deformation, rng: np.random.Generator
    ) -> View:
        """Draw a view around a point; never mirrored, left and right are different places."""
        angles = np.deg2rad(rng.uniform(-deformation.rotation, deformation.rotation, 3))
        scale = np.exp(rng.uniform(-1, 1) * np.log(deformation.scale))
        linear = scale * _rotation(angles) @ (np.eye(3) + rng.normal(0, deformation.shear, (3, 3)))
        displacements = None
        if deformation.elastic > 0:
            displacements = rng.normal(0, deformation.elastic, (3, *(deformation.nodes,) * 3))
        return cls(size, centre, linear, displacements)

    def sources(self, points: torch.Tensor) -> torch.Tensor:
        """(N, 3) indices (i, j, k) in the view to (N, 3) indices in the scan."""
        return self.centre + (points - self.middle) @ self.linear.T + self._displaced(points)

    def places(self, sources: torch.Tensor, iterations: int = 8) -> torch.Tensor:
        """(N, 3) indices in the scan to where the view shows them; may lie outside of it.

        By fixed-point iteration, which converges where displacements vary by less than the distances they are
        over; where they fold the view, ask `sources` whether what was found is right.
        """
        points = self.middle + (sources - self.centre) @ self.inverse.T
        straight = points
        for _ in range(iterations if self.displacements is not None else 0):
            points = straight - self._displaced(points) @ self.inverse.T
        return points

    def inside(self, points: torch.Tensor) -> torch.Tensor:
        """(N,) bool: whether indices lie within the view."""
        return ((points >= 0) & (points <= 2 * self.middle)).all(dim=1)

    def read(self, scan: PreparedScan, mode: str = "bilinear") -> torch.Tensor:
        """(k, j, i) float32: the scan's values in this view; its border repeats outside.

        mode: "bilinear" (that is: linear), or "nearest" for labels.
        """
        return self.read_array(scan.values, mode)

    def read_array(self, array: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
        """(k, j, i) of an array on the scan's grid, computed where the array lies."""
        axes = [torch.arange(n, dtype=torch.float32, device=array.device) for n in self.size]
        k, j, i = torch.meshgrid(*axes, indexing="ij")
        grid = torch.stack([i, j, k], dim=-1).reshape(-1, 3)
        sources = self.on(array.device).sources(grid)
        return sampled(array[None].float(), sources, mode)[:, 0].reshape(self.size)

    def on(self, device: torch.device) -> View:
        """The same view, with its numbers on a device."""
        if self.centre.device == device:
            return self
        moved = copy.copy(self)
        for name in ("middle", "centre", "linear", "inverse", "displacements"):
            value = getattr(self, name)
            setattr(moved, name, None if value is None else value.to(device))
        return moved

    def _displaced(self, points: torch.Tensor) -> torch.Tensor:
        if self.displacements is None:
            return torch.zeros_like(points)
        size = torch.tensor(self.displacements.shape[:0:-1], device=self.middle.device)
        steps = (size - 1) / (2 * self.middle).clamp(min=1)
        return sampled(self.displacements, points * steps)


def sampled(maps: torch.Tensor, points: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """(C, K, J, I) maps at (N, 3) continuous indices (i, j, k), as (N, C); the border repeats outside."""
    size = torch.tensor(maps.shape[:0:-1], device=points.device)
    grid = 2 * points / (size - 1).clamp(min=1) - 1
    # On the CPU torch shares out nothing but the items of a batch to its threads.
    shares = 1
    if grid.device.type == "cpu" and len(grid) > _ALONE and not (maps.requires_grad or grid.requires_grad):
        shares = torch.get_num_threads()
    each = -(-len(grid) // shares)
    parts = F.pad(grid, (0, 0, 0, shares * each - len(grid))).view(shares, 1, 1, each, 3)
    items = maps.expand(shares, *maps.shape)
    found = F.grid_sample(items, parts, mode, padding_mode="border", align_corners=True)
    return found[:, :, 0, 0].movedim(1, 2).flatten(0, 1)[: len(grid)]


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotations about i, j and k, one after another."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix
