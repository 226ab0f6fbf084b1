"""DENSE: a fully convolutional descriptor; one pass over a scan describes every place of it."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.pretext.dense import CROP, dense_preparation
from SSLFewShotLib.progress import Progress
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import PreparedScan

OVERLAP = 0.4
"""Of two tiles next to each other, as a share of their side."""


class DenseDescriptor(Descriptor):
    """Vectors of unit length from a `UNet3d`, interpolated between the voxels of its grid.

    The scan goes through the network in tiles of the size that it was trained on, blended where they overlap: the
    network's normalisation is over what it sees at once, and memory stays bounded. The field of the last scan
    is kept.
    """

    def __init__(
        self,
        network: UNet3d,
        extent: Extent,
        intensity: Intensity,
        name: str,
        device: torch.device | str = "cpu",
        modality: str = "any",
        provenance: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.name = name
        self.device = torch.device(device)
        self.modality = modality
        self.preparation = dense_preparation(extent, intensity)
        self.network = network.to(self.device, memory_format=torch.channels_last_3d).eval()
        self.dimension = network.settings["outputs"]
        self._provenance = provenance or {}
        self._field: tuple[weakref.ref, np.ndarray] | None = None

    def provenance(self) -> dict[str, Any]:
        return {"name": self.name, **self._provenance}

    def field(self, scan: PreparedScan, progress: Progress) -> np.ndarray:
        """(C, K, J, I) float32: the vector of every voxel of a prepared scan."""
        if self._field is None or self._field[0]() is not scan:
            self._field = weakref.ref(scan), self._computed(scan, progress)
        return self._field[1]

    def _computed(self, scan: PreparedScan, progress: Progress) -> np.ndarray:
        shape = scan.values.shape
        total = torch.zeros(self.dimension, *shape)
        weight = torch.zeros(shape)
        window = _window(CROP)
        starts = [_starts(n, side) for n, side in zip(shape, CROP, strict=True)]
        tiles = [(k, j, i) for k in starts[0] for j in starts[1] for i in starts[2]]
        with torch.inference_mode():
            for number, corner in enumerate(tiles):
                progress(number / len(tiles), f"describing {scan.name}")
                part = tuple(slice(c, c + side) for c, side in zip(corner, CROP, strict=True))
                if not scan.body[part].any():
                    continue
                values = scan.values[part]
                size = values.shape
                padding = [
                    p for n, side in zip(reversed(size), reversed(CROP), strict=True) for p in (0, side - n)
                ]
                values = F.pad(values[None, None], padding, mode="replicate").to(self.device)
                with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
                    found = self.network(values.contiguous(memory_format=torch.channels_last_3d))[0]
                found = F.normalize(found.float(), dim=0).cpu()[:, : size[0], : size[1], : size[2]]
                share = window[: size[0], : size[1], : size[2]]
                total[(slice(None), *part)] += found * share
                weight[part] += share
        progress(1.0, f"described {scan.name}")
        return F.normalize(total, dim=0).numpy()

    def _describe(self, scan: PreparedScan, points: np.ndarray, progress: Progress) -> np.ndarray:
        field = self.field(scan, progress)
        positions = scan.indices(points).T[::-1]
        vectors = np.stack(
            [ndimage.map_coordinates(channel, positions, order=1, mode="nearest") for channel in field], axis=1
        )
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin along an axis, evenly spread."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side * (1 - OVERLAP)))) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def _window(size: tuple[int, int, int]) -> torch.Tensor:
    """(k, j, i) weights: highest in a tile's middle, where it has seen the surroundings on all sides."""
    axes = [torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (0.22 * n)) ** 2) for n in size]
    return axes[0][:, None, None] * axes[1][:, None] * axes[2] + 1e-4
