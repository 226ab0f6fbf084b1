"""What the worker has written, read back. Any thread: no MRML is touched here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from SSLFewShotSlicer.bridge.errors import ResultError
from SSLFewShotSlicer.bridge.nrrd import read_nrrd
from SSLFewShotSlicer.bridge.segment_keys import SegmentInfo, segments_in


@dataclass(frozen=True)
class ResultLayer:
    """A box of labels that do not overlap.

    labels: (K, J, I) uint8 or int16; corner: (k, j, i) of its first voxel; segments: (value, segment).
    boxes: value → its part of `labels`, for the values that occur. All found beforehand, beside the main thread.
    """

    labels: np.ndarray = field(repr=False)
    corner: tuple[int, int, int]
    segments: tuple[tuple[int, SegmentInfo], ...]
    boxes: dict[int, tuple[slice, slice, slice]] = field(repr=False)


@dataclass(frozen=True)
class SegmentationResult:
    """A segmentation of one scan, and how sure it is of each voxel.

    shape: (K, J, I) of the scan; geometry: (4, 4) IJK to RAS that the worker saw; confidence: (K, J, I) float32
    in 0..1, or None. Segments are in the support's order, over all layers.
    """

    shape: tuple[int, int, int]
    geometry: np.ndarray = field(repr=False)
    layers: tuple[ResultLayer, ...]
    segments: tuple[SegmentInfo, ...]
    confidence: np.ndarray | None = field(default=None, repr=False)

    @property
    def empty(self) -> list[str]:
        """Names of the segments of which not one voxel was found."""
        found = {s.name for layer in self.layers for value, s in layer.segments if value in layer.boxes}
        return [segment.name for segment in self.segments if segment.name not in found]


def read_result(segmentation: Path, confidence: Path | None = None) -> SegmentationResult:
    """Read a .seg.nrrd and the confidence beside it.

    Raises ResultError when a file is missing, damaged, says nothing of segments, or both are not of one grid.
    """
    image = read_nrrd(Path(segmentation))
    labels = image.array if image.array.ndim == 4 else image.array[..., np.newaxis]
    try:
        described = segments_in(image.keys)
    except ValueError:
        described = []
    if not described or labels.dtype.kind not in "iu":
        raise ResultError(f"{segmentation}: holds no segmentation; run it again")
    if any(not 0 <= layer < labels.shape[3] or value < 1 for _, value, layer in described):
        raise ResultError(f"{segmentation}: speaks of layers or values that it does not have; run it again")
    layers = tuple(
        _cropped(labels[..., number], tuple((value, s) for s, value, layer in described if layer == number))
        for number in range(labels.shape[3])
    )
    sure = None
    if confidence is not None:
        other = read_nrrd(Path(confidence))
        if other.array.shape != labels.shape[:3]:
            raise ResultError(f"{confidence}: is not on the grid of the segmentation; run it again")
        sure = other.array.astype(np.float32, copy=False)
    return SegmentationResult(labels.shape[:3], image.ijk_to_ras, layers, tuple(s for s, _, _ in described), sure)


def _cropped(labels: np.ndarray, segments: tuple[tuple[int, SegmentInfo], ...]) -> ResultLayer:
    """The box around the labels of a layer, in a type that VTK takes for labels; one voxel when there is none."""
    where = _box(labels != 0) or (slice(0, 1),) * 3
    part = labels[where]
    # Values that belong to no segment become background.
    kind = np.uint8 if max((value for value, _ in segments), default=1) < 256 else np.int16
    lookup = np.zeros(max(int(part.max()), *(value for value, _ in segments), 1) + 1, kind)
    for value, _ in segments:
        lookup[value] = value
    box = lookup[part]
    planes = [set(np.flatnonzero(np.bincount(plane.ravel(), minlength=1))) for plane in box]
    boxes = {}
    for value, _ in segments:
        there = [number for number, found in enumerate(planes) if value in found]
        if there:
            first = there[0]
            _, *across = _box(box[first : there[-1] + 1] == value)
            boxes[value] = (slice(first, there[-1] + 1), *across)
    return ResultLayer(box, tuple(w.start for w in where), segments, boxes)


def _box(mask: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The smallest box around the voxels of a mask, None when there are none."""
    where = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        there = np.flatnonzero(mask.any(axis=others))
        if not len(there):
            return None
        where.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(where)
