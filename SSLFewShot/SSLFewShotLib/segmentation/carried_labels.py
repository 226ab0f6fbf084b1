"""The supports' labels at places of a scan, through an alignment, and probabilities on a lattice likewise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SSLFewShotLib.imaging.mask_box import mask_box
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.segmentation.alignment import Alignment, looked_up


@dataclass(frozen=True)
class Marking:
    """One segment of a support: its mask (K, J, I), 0 to 255, with a rim of 0; lpsToIjk leads to its indices."""

    segment: int
    mask: np.ndarray
    lpsToIjk: np.ndarray

    @classmethod
    def of(cls, volume: Volume, mask: np.ndarray, segment: int, smoothing: float = 0.0) -> Marking:
        """Crop a mask (K, J, I) on a volume's grid; it must hold a voxel. smoothing: mm, a Gaussian's sigma."""
        box = mask_box(mask)
        sigma = smoothing / volume.spacing[::-1]
        rim = 1 + np.ceil(2 * sigma).astype(int)
        crop = np.pad(mask[box].astype(np.uint8) * 255, [(n, n) for n in rim])
        if smoothing > 0:
            crop = ndimage.gaussian_filter(crop, sigma, mode="constant", truncate=2.0)
        matrix = volume.lpsToIjk
        matrix[:3, 3] -= np.array([part.start - n for part, n in zip(box, rim, strict=True)])[::-1]
        return cls(segment, crop, matrix)

    def corners(self) -> np.ndarray:
        """(8, 3) LPS mm of its crop's corners."""
        size = np.array(self.mask.shape[::-1]) - 1
        back = np.linalg.inv(self.lpsToIjk)
        return np.array([size * bits for bits in np.ndindex(2, 2, 2)]) @ back[:3, :3].T + back[:3, 3]


class CarriedLabels:
    """The supports' masks at places of a scan, through their alignments; of several the better fit counts.

    Called with (N, 3) LPS mm it gives (S, N) float32.
    """

    def __init__(
        self,
        scan: PreparedScan,
        markings: list[list[Marking]],
        alignments: list[Alignment],
        segments: int,
        sharpness: float,
    ):
        self.scan = scan
        self.segments = segments
        self.markings = markings
        self.alignments = alignments
        fits = np.stack([alignment.fit for alignment in alignments])
        self.shares = np.exp(sharpness * (fits - fits.max(axis=0))).astype(np.float32)

    def each(self) -> list[CarriedLabels]:
        """Those of each support alone."""
        return [
            CarriedLabels(self.scan, [markings], [alignment], self.segments, 0.0)
            for markings, alignment in zip(self.markings, self.alignments, strict=True)
        ]

    def box(self) -> np.ndarray | None:
        """(2, 3) LPS mm around everything that is carried; the scan's own extent where it reaches beyond."""
        reached = []
        for markings, alignment in zip(self.markings, self.alignments, strict=True):
            back = np.linalg.inv(alignment.affine)
            slack = np.abs(alignment.displacement).max(axis=(1, 2, 3))[::-1] * self.scan.spacing
            for marking in markings:
                points = marking.corners() @ back[:3, :3].T + back[:3, 3]
                reached.append(np.stack([points.min(axis=0) - slack, points.max(axis=0) + slack]))
        boxes = np.stack(reached)
        return np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])

    def __call__(self, points: np.ndarray) -> np.ndarray:
        index = self.scan.indices(points)
        total = np.zeros((self.segments, len(points)), np.float32)
        spoken = np.zeros((self.segments, len(points)), np.float32)
        for markings, alignment, share in zip(self.markings, self.alignments, self.shares, strict=True):
            weight = looked_up(share[None], index)[:, 0]
            places = np.ascontiguousarray(alignment.places(self.scan, points).T)
            for marking in markings:
                where = marking.lpsToIjk[2::-1, :3] @ places + marking.lpsToIjk[2::-1, 3:]
                near = np.logical_and.reduce((where > -1) & (where < np.array(marking.mask.shape)[:, None]))
                if near.any():
                    found = ndimage.map_coordinates(marking.mask, where[:, near], np.float32, order=1)
                    total[marking.segment, near] += weight[near] * found / 255
                spoken[marking.segment] += weight
        return total / np.maximum(spoken, 1e-6)


class LatticeProbabilities:
    """Probabilities (S, K, J, I) float32 on a lattice along L, P, S, interpolated; 0 outside of it."""

    def __init__(self, origin: np.ndarray, spacing: float, probabilities: np.ndarray):
        self.origin = origin
        self.spacing = spacing
        self.probabilities = probabilities

    def box(self) -> np.ndarray | None:
        """(2, 3) LPS mm around every node with a probability above 0; None when there is none."""
        nodes = np.argwhere(self.probabilities.max(axis=0) > 0)[:, ::-1]
        if not len(nodes):
            return None
        return self.origin + self.spacing * np.stack([nodes.min(axis=0) - 1, nodes.max(axis=0) + 1])

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return looked_up(self.probabilities, (points - self.origin) / self.spacing).T
