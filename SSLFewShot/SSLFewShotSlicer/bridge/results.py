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
    """

    labels: np.ndarray = field(repr=False)
    corner: tuple[int, int, int]
    segments: tuple[tuple[int, SegmentInfo], ...]


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
        found = {s.name for layer in self.layers for v, s in layer.segments if (layer.labels == v).any()}
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
    where = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        there = np.flatnonzero(labels.any(axis=others))
        where.append(slice(int(there[0]), int(there[-1]) + 1) if len(there) else slice(0, 1))
    kind = np.uint8 if max((value for value, _ in segments), default=1) < 256 else np.int16
    part = labels[tuple(where)]
    known = np.isin(part, [value for value, _ in segments])
    box = np.where(known, part, 0).astype(kind)
    return ResultLayer(box, tuple(w.start for w in where), segments)
