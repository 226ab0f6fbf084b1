"""Labelmaps that segments share, and giving some segments other ones without touching their neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from SSLFewShotSlicer.bridge.nodes import matrix_of_array


@dataclass
class Replaced:
    """What segments had before.

    before: segment ID → (labelmap, value); shared: those labelmaps that other segments lay in too.
    """

    before: dict[str, tuple[Any, int]] = field(default_factory=dict)
    shared: list[Any] = field(default_factory=list)


def labelmap_of(labels: np.ndarray, corner: tuple[int, int, int], geometry: np.ndarray):
    """A VTK labelmap with voxels of its own. labels: (K, J, I); corner: (k, j, i) of the first one."""
    image = slicer.vtkOrientedImageData()
    extent = [bound for low, n in zip(corner[::-1], labels.shape[::-1]) for bound in (low, low + n - 1)]
    image.SetExtent(extent)
    image.SetGeometryFromImageToWorldMatrix(matrix_of_array(geometry))
    scalars = numpy_support.numpy_to_vtk(labels.reshape(-1), deep=True)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def replace_labelmaps(node, changes: dict[str, tuple[Any, int]]) -> Replaced:
    """Give segments other labelmaps and values, segment ID → (labelmap, value).

    Segments that shared a labelmap with them get one without the voxels of those that leave. One pass over each
    shared labelmap, whatever the number of segments: Slicer's own separation takes two for each segment.
    """
    kind = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    contents = node.GetSegmentation()
    replaced = Replaced()
    staying: dict[int, tuple[Any, list]] = {}
    for number in range(contents.GetNumberOfSegments()):
        segment_id = contents.GetNthSegmentID(number)
        segment = contents.GetSegment(segment_id)
        image = segment.GetRepresentation(kind)
        if segment_id in changes:
            replaced.before[segment_id] = image, int(segment.GetLabelValue())
        elif image is not None:
            staying.setdefault(id(image), (image, []))[1].append(segment)
    leaving = {id(image) for image, _ in replaced.before.values()}
    for key, (image, neighbours) in staying.items():
        if key in leaving:
            replaced.shared.append(image)
            alone = with_values(image, [int(segment.GetLabelValue()) for segment in neighbours])
            for segment in neighbours:
                segment.AddRepresentation(kind, alone)
    _give(contents, kind, changes)
    return replaced


def put_back(node, replaced: Replaced) -> None:
    """Give segments back what they had; those that are no longer there are passed over."""
    kind = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    own: dict[int, Any] = {}
    for image in replaced.shared:
        # The neighbours have one of their own by now, and may have been painted on.
        values = [value for other, value in replaced.before.values() if other is image]
        own[id(image)] = with_values(image, values)
    changes = {key: (own.get(id(image), image), value) for key, (image, value) in replaced.before.items()}
    _give(node.GetSegmentation(), kind, changes)


def remove_segments(node, segment_ids: list[str]) -> None:
    """Remove those segments that are still there.

    Slicer separates each from the labelmap that it shares, two passes over all voxels a segment; here it is one
    pass for all of them.
    """
    contents = node.GetSegmentation()
    there = [segment_id for segment_id in segment_ids if contents.GetSegment(segment_id) is not None]
    nothing = labelmap_of(np.zeros((1, 1, 1), np.uint8), (0, 0, 0), np.eye(4))
    replace_labelmaps(node, dict.fromkeys(there, (nothing, 1)))
    for segment_id in there:
        contents.RemoveSegment(segment_id)


def with_values(image, values: list[int]):
    """A copy of a labelmap in which all other values are background."""
    stored = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    low, high = (int(stored.min()), int(stored.max())) if stored.size else (0, 0)
    if low >= 0 and high < 1 << 16:
        lookup = np.zeros(high + 1, stored.dtype)
        there = [value for value in values if 0 < value <= high]
        lookup[there] = there
        kept = lookup[stored]
    else:
        kept = np.where(np.isin(stored, values), stored, 0).astype(stored.dtype)
    copy = slicer.vtkOrientedImageData()
    copy.SetExtent(image.GetExtent())
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    copy.SetGeometryFromImageToWorldMatrix(matrix)
    scalars = numpy_support.numpy_to_vtk(kept, deep=True)
    scalars.SetName("ImageScalars")
    copy.GetPointData().SetScalars(scalars)
    return copy


def _give(contents, kind: str, changes: dict[str, tuple[Any, int]]) -> None:
    for segment_id, (image, value) in changes.items():
        segment = contents.GetSegment(segment_id)
        if segment is not None:
            segment.SetLabelValue(value)
            segment.AddRepresentation(kind, image)
