"""MIND-SSC: the modality independent neighbourhood descriptor with self-similarity context.

Heinrich et al., "Towards realtime multimodal fusion for image-guided interventions using self-similarities"
(MICCAI 2013). Training-free, local, and the same for every modality: it holds how alike the patches around a voxel
are to one another, not how bright they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.descriptors.kept import KeptWith
from SSLFewShotLib.networks.device_memory import on_device_or_cpu
from SSLFewShotLib.progress import Progress, ignore_progress, portion, renamed
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import Preparation, PreparedScan
from SSLFewShotLib.sampling.views import sampled

STEP = 1 / 48
"""Grid on which the descriptor is computed, in units (2.5 mm for a trunk)."""
RADIUS, DILATION = 1, 2

# The six neighbours of a voxel, and the twelve pairs of them that are at right angles (distance √2).
_SIX = np.array([(0, 1, 1), (1, 1, 0), (1, 0, 1), (1, 1, 2), (2, 1, 1), (1, 2, 1)]) - 1
_PAIRS = [(a, b) for a in range(6) for b in range(a) if np.sum((_SIX[a] - _SIX[b]) ** 2) == 2]


def mind_ssc(
    image: torch.Tensor,
    radius: int = RADIUS,
    dilation: int = DILATION,
    progress: Progress = ignore_progress,
) -> torch.Tensor:
    """Compute the descriptor of a whole image: (K, J, I) float to (12, K, J, I) in 0..1.

    exp(−D/V): D is the mean squared difference of two neighbours' patches (cubes of 2·radius + 1 voxels), less
    the least of the twelve; V the mean of the twelve, within a factor 1000 of its mean over the image (section
    2.2).
    """
    padded = F.pad(image[None, None], [dilation] * 6, mode="replicate")[0, 0]
    size = image.shape

    def shifted(offset: np.ndarray) -> torch.Tensor:
        k, j, i = (dilation + dilation * int(step) for step in offset)
        return padded[k : k + size[0], j : j + size[1], i : i + size[2]]

    distances = torch.empty((len(_PAIRS), *size), dtype=image.dtype, device=image.device)
    for row, (a, b) in enumerate(_PAIRS):
        progress(row / len(_PAIRS), "comparing neighbourhoods")
        distances[row] = _patch_means((shifted(_SIX[a]) - shifted(_SIX[b])) ** 2, radius)
    distances -= distances.amin(dim=0, keepdim=True)
    variance = distances.mean(dim=0)
    middle = float(variance.mean()) or 1.0
    variance = variance.clamp(middle * 1e-3, middle * 1e3)
    return distances.div_(variance).neg_().exp_()  # in place: of a large scan one copy is half a gigabyte


def _patch_means(image: torch.Tensor, radius: int) -> torch.Tensor:
    """(K, J, I) means over cubes of 2·radius + 1 voxels, along one axis after another; the border repeats."""
    found = F.pad(image[None, None], [radius] * 6, mode="replicate")[0, 0]
    for axis, length in enumerate(image.shape):
        found = sum(found.narrow(axis, start, length) for start in range(2 * radius + 1))
    return found / (2 * radius + 1) ** 3


class MindSsc(Descriptor):
    """MIND-SSC looked up at points (12 numbers a voxel).

    The field of the last scan is kept as long as the scan is. Where the device's memory does not suffice for it,
    it is computed on the CPU, and an `InputWarning` says so.
    """

    name = "mind"
    dimension = len(_PAIRS)

    def __init__(self, extent: Extent, intensity: Intensity, device: torch.device | str = "cpu"):
        super().__init__()
        self.preparation = Preparation(extent, intensity, STEP)
        self.device = torch.device(device)
        self._field: KeptWith[np.ndarray] = KeptWith()

    def provenance(self) -> dict[str, Any]:
        extent = self.preparation.extent
        return {"name": self.name, "method": "mind-ssc", "extent": [extent.unit, extent.scale]}

    def field(self, scan: PreparedScan, progress: Progress = ignore_progress) -> np.ndarray:
        """(12, K, J, I) float32: the descriptor of every voxel of a prepared scan."""
        field = self._field.get(scan)
        if field is None:

            def computed(device: torch.device) -> np.ndarray:
                with torch.inference_mode():
                    return self._computed(scan.values.to(device), progress)

            field, _ = on_device_or_cpu(computed, self.device, scan.name)
            self._field.put(scan, field)
        return field

    def _computed(self, values: torch.Tensor, progress: Progress) -> np.ndarray:
        return mind_ssc(values, progress=progress).cpu().numpy()

    def _describe(self, scan: PreparedScan, points: np.ndarray, progress: Progress) -> np.ndarray:
        field = self.field(scan, renamed(portion(progress, 0.0, 0.9), f"describing {scan.name}"))
        where = torch.from_numpy(scan.indices(points)).float()
        return sampled(torch.from_numpy(field), where).contiguous().numpy()
