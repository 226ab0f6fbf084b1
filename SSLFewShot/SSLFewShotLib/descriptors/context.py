"""HEATMAP, REG2D, XAVIER and DOERSCH: descriptors of the context-feature paper (MICCAI 2019)."""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.errors import InputWarning
from SSLFewShotLib.networks.context import D2D, D3D, DESCRIPTOR_LENGTH, initialise_xavier
from SSLFewShotLib.networks.device_memory import empty_cache, is_out_of_memory, on_the_cpu_instead
from SSLFewShotLib.pretext.doersch import cubic_preparation
from SSLFewShotLib.pretext.planar_offset import AXIS_NAMES, planar_preparation, slice_offsets_in_voxels
from SSLFewShotLib.progress import Progress
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.patches import cubic_patches, planar_patches
from SSLFewShotLib.sampling.preparation import PreparedScan

LEAST_BATCH = 32
"""Points described at once below which no memory worth the time is saved."""
DEVICE_BATCHES = 32
"""How many times as many points are described at once on a graphics card as on the CPU."""


class PatchDescriptor(Descriptor):
    """What learned descriptors share: batches of patches through frozen networks on one device.

    Where the device's memory does not suffice, a scan is described in batches half as large, down to
    `LEAST_BATCH`, then on the CPU. An `InputWarning` says so, and `fell_back` of the scan that came last, "" or a
    sentence. The next scan begins on the device again: what filled it may be gone.

    On the CPU, batches are so small that their patches stay in its cache: they then take half of the time, and a
    cancel is heard between two of them.
    """

    batch_size = 128

    def __init__(self, name: str, device: torch.device, modality: str, provenance: dict[str, Any]):
        super().__init__()
        self.name = name
        self.device = device
        self.modality = modality
        self.fell_back = ""
        self._provenance = provenance
        self._room: _Room | None = None
        if device.type != "cpu":
            self.batch_size *= DEVICE_BATCHES

    def provenance(self) -> dict[str, Any]:
        return {"name": self.name, **self._provenance}

    def patches_to_vectors(self, batch: ScanBatch, positions: torch.Tensor) -> torch.Tensor:
        """(N, 3) indices (i, j, k) in the only scan of `batch` to (N, D)."""
        raise TypeError(f"{type(self).__name__} describes no patches")

    def networks(self) -> list[nn.Module]:
        """The networks; `_describe` brings them to the device on which it runs."""
        return []

    def _describe(self, scan: PreparedScan, points: np.ndarray, progress: Progress) -> np.ndarray:
        positions = torch.as_tensor(scan.indices(points), dtype=torch.float32)
        vectors = np.empty((len(points), self.dimension), np.float32)
        room, batch, start = self._room_of(scan), None, 0
        said_before = self.fell_back
        with torch.inference_mode():
            while start < len(points):
                progress(start / len(points), f"describing {scan.name}{room.where}")
                part = slice(start, start + room.batch_size)
                try:
                    if batch is None:
                        self._move(room.device)
                        batch = ScanBatch([scan], room.device)
                    vectors[part] = self._vectors(batch, positions[part])
                    start += room.batch_size
                    continue
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error) or not room.less(0 if batch is None else len(positions[part])):
                        raise
                # Here and not in the handler: the error keeps alive what the failed batch had.
                if batch is not None and batch.device != room.device:
                    batch = None
                    self._move(room.device)
                empty_cache()
                self.fell_back = room.fell_back
        if self.fell_back != said_before:
            warnings.warn(f"{scan.name}: {self.fell_back}", InputWarning, stacklevel=3)
        progress(1.0, f"described {scan.name}")
        return vectors

    def _vectors(self, batch: ScanBatch, positions: torch.Tensor) -> np.ndarray:
        half = torch.autocast("cuda", torch.float16) if batch.device.type == "cuda" else contextlib.nullcontext()
        with half:
            found = self.patches_to_vectors(batch, positions.to(batch.device))
        return found.float().cpu().numpy()

    def _room_of(self, scan: PreparedScan) -> _Room:
        """Where and how this scan is described: as its points were before, or the device with whole batches."""
        if self._room is None or self._room.scan() is not scan or self._room.asked != self.batch_size:
            self._room = _Room(weakref.ref(scan), self.device, self.device, self.batch_size, self.batch_size)
            self.fell_back = ""
        return self._room

    def _move(self, device: torch.device) -> None:
        # Weights that are moved in inference mode could not be used outside of it any more.
        with torch.inference_mode(False):
            for network in self.networks():
                network.to(device)


@dataclass
class _Room:
    """What the description of a scan has come down to, from the device and the batch that were asked for."""

    scan: weakref.ref
    wanted: torch.device
    device: torch.device
    asked: int
    batch_size: int

    def less(self, failed: int) -> bool:
        """Take half of the points that did not fit (0: the scan alone), or the CPU; False when there is no way."""
        if failed > LEAST_BATCH:
            self.batch_size = max(LEAST_BATCH, failed // 2)
        elif self.device.type != "cpu":
            self.device, self.batch_size = torch.device("cpu"), max(LEAST_BATCH, self.asked // DEVICE_BATCHES)
        else:
            return False
        return True

    @property
    def where(self) -> str:
        return "" if self.device == self.wanted else " on the CPU"

    @property
    def fell_back(self) -> str:
        if self.device != self.wanted:
            return on_the_cpu_instead(self.wanted)
        return (
            f"the memory of {self.wanted} was full, so the scan was described {self.batch_size} points at a time "
            f"instead of {self.asked}"
        )


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
        self.encoders = {axis: encoders[axis].eval() for axis in AXIS_NAMES if axis in encoders}
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

    def networks(self) -> list[nn.Module]:
        return list(self.encoders.values())


class CubicDescriptor(PatchDescriptor):
    """DOERSCH: one D3D network on a cube, 192 numbers a voxel (section 2.1)."""

    dimension = 192
    batch_size = 16

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
        self.encoder = encoder.eval()

    def patches_to_vectors(self, batch: ScanBatch, positions: torch.Tensor) -> torch.Tensor:
        which = torch.zeros(len(positions), dtype=torch.int64, device=batch.device)
        return self.encoder(cubic_patches(batch, which, positions, D3D.input_size))

    def networks(self) -> list[nn.Module]:
        return [self.encoder]


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
