"""DENSE: a fully convolutional descriptor; one pass over a scan describes every place of it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.descriptors.kept import KeptWith
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.networks.device_memory import on_device_or_cpu
from SSLFewShotLib.networks.tiles import TILES_AT_ONCE, through_network
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.pretext.dense import CROP, dense_preparation
from SSLFewShotLib.progress import Progress, portion
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.tiles import gaussian_window, tiles_of
from SSLFewShotLib.sampling.views import sampled

OVERLAP = 0.2
"""Of two tiles next to each other, as a share of their side."""
_WINDOW = 0.22
_MOST_BYTES = 6_000_000_000
"""Of a field; it is needed twice for a moment."""


class DenseDescriptor(Descriptor):
    """Vectors of unit length from a `UNet3d`, interpolated between the voxels of its grid.

    The scan goes through the network in tiles of the size that it was trained on, blended where they overlap: the
    network's normalisation is over what it sees at once, and memory stays bounded. The field of the last scan
    is kept as long as the scan is. Where the device's memory does not suffice, the tiles that are left are
    computed on the CPU, and an `InputWarning` says so; the next scan begins on the device again.
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
        tile: tuple[int, int, int] = CROP,
    ):
        """tile: voxels along k, j, i, as in the training."""
        super().__init__()
        self.name = name
        self.device = torch.device(device)
        self.modality = modality
        self.preparation = dense_preparation(extent, intensity)
        self.network = network.to(self.device, memory_format=torch.channels_last_3d).eval()
        self.dimension = network.settings["outputs"]
        self.tile = tuple(tile)
        self._provenance = provenance or {}
        self._field: KeptWith[np.ndarray] = KeptWith()

    def provenance(self) -> dict[str, Any]:
        return {"name": self.name, **self._provenance}

    def field(self, scan: PreparedScan, progress: Progress) -> np.ndarray:
        """(C, K, J, I) float32: the vector of every voxel of a prepared scan.

        A vector lies together in memory: reading it at a place then costs one access and not one a channel.
        """
        field = self._field.get(scan)
        return self._field.put(scan, self._computed(scan, progress)) if field is None else field

    def _computed(self, scan: PreparedScan, progress: Progress) -> np.ndarray:
        shape = scan.values.shape
        if (size := 4 * self.dimension * scan.values.numel()) > _MOST_BYTES:
            raise InputError(
                f"{scan.name}: {self.name} looks at every {scan.spacing.min():.2g} mm of it, which would take "
                f"{size / 1e9:.0f} GB of memory; choose a model for scans of this size, or crop the scan"
            )
        total = torch.zeros(*shape, self.dimension)
        window = gaussian_window(self.tile, _WINDOW)[..., None]
        parts = [part for part in tiles_of(tuple(shape), self.tile, OVERLAP) if scan.body[part].any()]
        device = self.device
        for start in range(0, len(parts), TILES_AT_ONCE):
            progress(start / len(parts), f"describing {scan.name}")
            some = parts[start : start + TILES_AT_ONCE]
            through = functools.partial(self._through, [scan.values[part] for part in some])
            found, device = on_device_or_cpu(through, device, scan.name)
            for part, vectors in zip(some, found, strict=True):
                size = scan.values[part].shape
                inside = tuple(slice(n) for n in size)
                total[part].addcmul_(vectors.movedim(0, -1)[inside], window[inside])
        # In place: of a large scan the whole field is a gigabyte.
        total /= torch.linalg.vector_norm(total, dim=-1, keepdim=True).clamp_(min=1e-12)
        progress(1.0, f"described {scan.name}")
        return total.movedim(-1, 0).numpy()

    def _through(self, tiles: list[torch.Tensor], device: torch.device) -> torch.Tensor:
        """(K, J, I) values of tiles to (N, C, *tile) vectors of unit length, on the CPU."""
        return through_network(self.network, _unit_length, tiles, self.tile, device)

    def _describe(self, scan: PreparedScan, points: np.ndarray, progress: Progress) -> np.ndarray:
        field = self.field(scan, portion(progress, 0.0, 0.9))
        progress(0.9, f"describing {scan.name}")
        found = sampled(torch.from_numpy(field), torch.from_numpy(scan.indices(points)).float())
        return F.normalize(found, dim=1, eps=1e-6).numpy()


def _unit_length(vectors: torch.Tensor) -> torch.Tensor:
    # In place: the copy that torch's `normalize` makes takes longer than what it computes.
    return vectors.div_(torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_(min=1e-12))
