"""HEATMAP, REG2D, XAVIER and DOERSCH: descriptors of the context-feature paper (MICCAI 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.networks.context import D2D, D3D, DESCRIPTOR_LENGTH, initialise_xavier
from SSLFewShotLib.pretext.doersch import cubic_preparation
from SSLFewShotLib.pretext.planar_offset import AXIS_NAMES, planar_preparation, slice_offsets_in_voxels
from SSLFewShotLib.progress import Progress
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.patches import cubic_patches, planar_patches
from SSLFewShotLib.sampling.preparation import PreparedScan


class PatchDescriptor(Descriptor):
    """What learned descriptors share: batches of patches through frozen networks on one device."""

    def __init__(self, name: str, device: torch.device, modality: str, provenance: dict[str, Any]):
        super().__init__()
        self.name = name
        self.device = device
        self.modality = modality
        self._provenance = provenance
        if device.type != "cpu":
            self.batch_size *= 8

    def provenance(self) -> dict[str, Any]:
        return {"name": self.name, **self._provenance}

    def patches_to_vectors(self, batch: ScanBatch, positions: torch.Tensor) -> torch.Tensor:
        """(N, 3) indices (i, j, k) in the only scan of `batch` to (N, D)."""
        raise TypeError(f"{type(self).__name__} describes no patches")

    def _describe(self, scan: PreparedScan, points: np.ndarray, progress: Progress) -> np.ndarray:
        batch = ScanBatch([scan], self.device)
        positions = torch.as_tensor(scan.indices(points), dtype=torch.float32)
        vectors = np.empty((len(points), self.dimension), np.float32)
        with torch.inference_mode():
            for start in range(0, len(points), self.batch_size):
                progress(start / len(points), f"describing {scan.name}")
                part = slice(start, start + self.batch_size)
                with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
                    found = self.patches_to_vectors(batch, positions[part].to(self.device))
                vectors[part] = found.float().cpu().numpy()
        progress(1.0, f"described {scan.name}")
        return vectors


class PlanarDescriptor(PatchDescriptor):
    """HEATMAP, REG2D and XAVIER: one D2D network an axis, 3 × 64 numbers a voxel (section 2.1)."""

    dimension = 3 * DESCRIPTOR_LENGTH

    def __init__(
        self,
        encoders: Mapping[str, D2D],
        extent: Extent,
        intensity: Intensity,
        name: str,
        device: torch.device | str = "cpu",
        modality: str = "any",
        provenance: dict[str, Any] | None = None,
    ):
        super().__init__(name, torch.device(device), modality, provenance or {})
        self.preparation = planar_preparation(extent, intensity)
        self.encoders = {axis: encoders[axis].to(device).eval() for axis in AXIS_NAMES if axis in encoders}
        self.dimension = DESCRIPTOR_LENGTH * len(self.encoders)

    @classmethod
    def untrained(cls, extent: Extent, intensity: Intensity, device: torch.device | str = "cpu", seed: int = 0):
        """XAVIER: the same networks as they start, drawn from `seed` (section 3, Xavier2D)."""
        encoders = {axis: D2D() for axis in AXIS_NAMES}
        for number, encoder in enumerate(encoders.values()):
            initialise_xavier(encoder, 3 * seed + number)
        settings = {"method": "xavier", "seed": seed, "extent": [extent.unit, extent.scale]}
        return cls(encoders, extent, intensity, "xavier", device, provenance=settings)

    def patches_to_vectors(self, batch: ScanBatch, positions: torch.Tensor) -> torch.Tensor:
        which = torch.zeros(len(positions), dtype=torch.int64, device=batch.device)
        parts = []
        for axis, encoder in self.encoders.items():
            normal = AXIS_NAMES.index(axis)
            patches = planar_patches(batch, which, positions, normal, D2D.input_size, slice_offsets_in_voxels())
            parts.append(encoder(patches))
        return torch.cat(parts, dim=1)


class CubicDescriptor(PatchDescriptor):
    """DOERSCH: one D3D network on a cube, 192 numbers a voxel (section 2.1)."""

    dimension = 192
    batch_size = 64

    def __init__(
        self,
        encoder: D3D,
        extent: Extent,
        intensity: Intensity,
        name: str,
        device: torch.device | str = "cpu",
        modality: str = "any",
        provenance: dict[str, Any] | None = None,
    ):
        super().__init__(name, torch.device(device), modality, provenance or {})
        self.preparation = cubic_preparation(extent, intensity)
        self.encoder = encoder.to(device).eval()

    def patches_to_vectors(self, batch: ScanBatch, positions: torch.Tensor) -> torch.Tensor:
        which = torch.zeros(len(positions), dtype=torch.int64, device=batch.device)
        return self.encoder(cubic_patches(batch, which, positions, D3D.input_size))


def load_weights(module: nn.Module, tensors: Mapping[str, np.ndarray], branch: str) -> nn.Module:
    """Fill a network with the tensors "branch/…" of a model file; RuntimeError when they do not fit."""
    prefix = branch + "/"
    state = {
        key.removeprefix(prefix): torch.from_numpy(np.array(t))
        for key, t in tensors.items()
        if key.startswith(prefix)
    }
    module.load_state_dict(state)
    return module
