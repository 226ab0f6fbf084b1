"""The simplest baseline: the support's masks, moved so that the boxes of both bodies coincide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from SSLFewShotLib.imaging.body import body_box
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.mask_box import mask_box
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.decision import box_on_grid, decide_in_slabs
from SSLFewShotLib.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class _Marking:
    """One segment of one support: its mask, cropped with a rim of 0, and where that lies."""

    segment: int
    mask: np.ndarray
    lpsToIjk: np.ndarray
    body: np.ndarray
    extent: np.ndarray


class BodyBoxSegmenter(Segmenter):
    """Looks a voxel's place, relative to the body's box, up in the supports' masks; needs no model.

    What a method must beat to have learned more than where a structure usually lies. The probability of a segment
    is the mean of the masks, interpolated linearly, over the supports that have marked it.

    After `fit`: segments_, markings_.
    """

    name = "box"

    def fit(self, support: SupportSet, progress: Progress = ignore_progress) -> BodyBoxSegmenter:
        """Find the supports' bodies and keep their masks."""
        self.segments_ = list(support.segments)
        self.overlapping_ = any(labels.overlapping for _, labels in support)
        self.markings_: list[_Marking] = []
        for number, (volume, _) in enumerate(support):
            part = portion(progress, number / len(support), (number + 1) / len(support))
            body = body_box(volume, progress=portion(part, 0.0, 0.9))
            for value, mask in support.masks(number).items():
                part(0.9, f"keeping the segments of {volume.name}")
                self.markings_.append(_marking(volume, mask, value - 1, body))
        self.supports_ = np.bincount([m.segment for m in self.markings_], minlength=len(self.segments_))
        return self

    def predict(self, volume: Volume, progress: Progress = ignore_progress) -> tuple[LabelMap, Volume]:
        """Label a scan by place alone; works through it in slabs."""
        body = body_box(volume, progress=portion(progress, 0.0, 0.5))
        size = body[1] - body[0]
        reached = []
        lookups = []
        for marking in self.markings_:
            scale = (marking.body[1] - marking.body[0]) / size
            # The target's index (i, j, k, 1) to its place, to the same place in the support, to the mask's index.
            place = np.diag([*scale, 1.0])
            place[:3, 3] = marking.body[0] - scale * body[0]
            lookups.append(marking.lpsToIjk @ place @ volume.ijkToLps)
            reached.append(body[0] + (marking.extent - marking.body[0]) / scale)
        box = np.stack([np.min([r[0] for r in reached], axis=0), np.max([r[1] for r in reached], axis=0)])

        def mean_of_masks(slab: tuple[slice, slice, slice]) -> np.ndarray:
            start = np.array([s.start for s in slab])
            total = np.zeros((len(self.segments_), *(s.stop - s.start for s in slab)), np.float32)
            for marking, lookup in zip(self.markings_, lookups, strict=True):
                matrix = lookup[:3, :3][::-1, ::-1]
                found = ndimage.affine_transform(
                    marking.mask,
                    matrix,
                    lookup[:3, 3][::-1] + matrix @ start,
                    total.shape[1:],
                    np.float32,
                    order=1,
                )
                total[marking.segment] += found / 255
            return total / self.supports_[:, None, None, None]

        return decide_in_slabs(
            volume,
            mean_of_masks,
            box_on_grid(volume, box),
            self.segments_,
            self.overlapping_,
            progress=portion(progress, 0.5, 1.0),
        )

    def provenance(self) -> dict[str, Any]:
        return {"method": self.name, "settings": {}}


def _marking(volume: Volume, mask: np.ndarray, segment: int, body: np.ndarray) -> _Marking:
    box = mask_box(mask)
    crop = np.pad(mask[box].astype(np.uint8) * 255, 1)
    first = np.array([part.start - 1 for part in box])[::-1]
    to_crop = volume.lpsToIjk
    to_crop[:3, 3] -= first
    low, high = first, first + np.array(crop.shape[::-1]) - 1
    corners = np.array([[(low, high)[bit][a] for a, bit in enumerate(bits)] for bits in np.ndindex(2, 2, 2)])
    points = volume.points_from_indices(corners)
    return _Marking(segment, crop, to_crop, body, np.stack([points.min(axis=0), points.max(axis=0)]))
