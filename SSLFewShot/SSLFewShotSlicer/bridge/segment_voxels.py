"""The voxels of one segment on a volume's grid, whatever representation and geometry it is stored in.

Main thread, except for `Mask.on_grid`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from SSLFewShotSlicer.bridge.errors import SegmentsError
from SSLFewShotSlicer.bridge.nodes import array_of_matrix, matrix_of_array

# A grid is taken for the volume's own when no voxel's centre is further off than this part of a voxel.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Mask:
    """A box of voxels of the volume's grid. voxels: (K, J, I); corner: (k, j, i) of its first voxel.

    A voxel belongs to the segment when it has this value, or when it is at least `threshold`.
    """

    voxels: np.ndarray = field(repr=False)
    corner: tuple[int, int, int]
    value: int | None = None
    threshold: float | None = None

    def on_grid(self, shape: tuple[int, int, int]) -> tuple[tuple[slice, slice, slice], np.ndarray]:
        """The part that lies on a grid of that shape: where, and (K, J, I) bool."""
        begins = [max(0, corner) for corner in self.corner]
        counts = zip(self.corner, self.voxels.shape, shape)
        ends = [max(0, min(corner + there, on_grid)) for corner, there, on_grid in counts]
        where = tuple(slice(begin, max(begin, end)) for begin, end in zip(begins, ends))
        part = tuple(slice(w.start - corner, w.stop - corner) for w, corner in zip(where, self.corner))
        voxels = self.voxels[part]
        return where, voxels == self.value if self.threshold is None else voxels >= self.threshold


class SegmentReader:
    """Reads segments of one segmentation node as masks on one volume's grid.

    to_volume: from the segmentation's coordinates to the volume's, a (4, 4) or VTK's general transform;
    geometry: (4, 4) IJK to RAS of the volume in its own coordinates; shape: (K, J, I).
    """

    def __init__(self, node, to_volume, geometry: np.ndarray, shape: tuple[int, int, int], volume_name: str):
        self._contents = node.GetSegmentation()
        self._source = self._contents.GetSourceRepresentationName()
        self._name = node.GetName() or "the segmentation"
        self._to_volume = to_volume
        self._geometry = geometry
        self._shape = shape
        self._volume_name = volume_name
        # Segments share labelmaps: each is copied, or resampled, once.
        self._known: dict[int, tuple[np.ndarray, tuple[int, int, int]]] = {}
        self._resampled: list[str] = []

    def notes(self) -> list[str]:
        """What the user should know of how segments were brought onto the grid."""
        if not self._resampled:
            return []
        names = ", ".join(self._resampled)
        return [f"{self._name}: {names} lie on another grid than {self._volume_name} and were resampled to it"]

    def mask(self, segment_id: str, name: str) -> Mask:
        """The voxels of one segment. Raises SegmentsError when it has no representation that can be read."""
        segment = self._contents.GetSegment(segment_id)
        converter = slicer.vtkSegmentationConverter
        binary = segment.GetRepresentation(converter.GetBinaryLabelmapRepresentationName())
        surface = segment.GetRepresentation(converter.GetClosedSurfaceRepresentationName())
        fractional = segment.GetRepresentation(converter.GetFractionalLabelmapRepresentationName())
        # What the user made decides; the others were derived from it, on whatever grid.
        if self._source == converter.GetFractionalLabelmapRepresentationName() and fractional is not None:
            return self._from_fractional(fractional, name)
        if surface is not None and (
            binary is None or self._source == converter.GetClosedSurfaceRepresentationName()
        ):
            return self._from_surface(surface, name)
        if binary is not None:
            voxels, corner = self._on_grid(binary, name)
            return Mask(voxels, corner, value=int(segment.GetLabelValue()))
        raise SegmentsError(
            f"{self._name}: {name} is stored as {self._source}, which cannot be read; create its binary labelmap "
            "in the module Segmentations"
        )

    def _from_fractional(self, image, name: str) -> Mask:
        low, high = _fractional_range(image)
        voxels, corner = self._on_grid(image, name, background=low)
        return Mask(voxels, corner, threshold=(low + high) / 2)

    def _from_surface(self, surface, name: str) -> Mask:
        """Fill a closed surface on the volume's grid: the voxels whose centres are inside.

        As Slicer's own conversion does it (in index space, so that any grid will do), on a copy.
        """
        moved = vtk.vtkTransformPolyDataFilter()
        moved.SetInputData(surface)
        moved.SetTransform(_vtk_transform(self._to_volume))
        in_voxels = vtk.vtkTransformPolyDataFilter()
        in_voxels.SetInputConnection(moved.GetOutputPort())
        in_voxels.SetTransform(_vtk_transform(np.linalg.inv(self._geometry)))
        triangles = vtk.vtkTriangleFilter()
        triangles.SetInputConnection(in_voxels.GetOutputPort())
        strips = vtk.vtkStripper()
        strips.SetInputConnection(triangles.GetOutputPort())
        strips.Update()
        extent = self._extent_of(strips.GetOutput())
        if extent is None:
            return Mask(np.zeros((0, 0, 0), np.uint8), (0, 0, 0), value=1)
        stencil = vtk.vtkPolyDataToImageStencil()
        stencil.SetInputConnection(strips.GetOutputPort())
        stencil.SetOutputSpacing(1, 1, 1)
        stencil.SetOutputOrigin(0, 0, 0)
        stencil.SetOutputWholeExtent(extent)
        image = vtk.vtkImageStencilToImage()
        image.SetInputConnection(stencil.GetOutputPort())
        image.SetInsideValue(1)
        image.SetOutsideValue(0)
        image.SetOutputScalarTypeToUnsignedChar()
        image.Update()
        return Mask(_voxels(image.GetOutput()).copy(), tuple(extent[4::-2]), value=1)

    def _extent_of(self, surface) -> list[int] | None:
        """The voxels (i0, i1, j0, j1, k0, k1) of the grid around a surface in voxel units; None when outside."""
        if surface.GetNumberOfCells() < 1:
            return None
        bounds = surface.GetBounds()
        extent = []
        for axis, count in enumerate(self._shape[::-1]):
            low, high = np.floor(bounds[2 * axis]), np.ceil(bounds[2 * axis + 1])
            extent += [max(0, int(low)), min(count - 1, int(high))]
        return None if any(extent[2 * axis] > extent[2 * axis + 1] for axis in range(3)) else extent

    def _on_grid(self, image, name: str, background: float | None = None) -> tuple[np.ndarray, tuple]:
        """A labelmap's voxels on the volume's grid, (K, J, I) and the corner; background: None for labels."""
        key = id(image)
        if key in self._known:
            voxels, corner, resampled, _ = self._known[key]
        else:
            found = None
            if _is_empty(image):
                found = np.zeros((0, 0, 0), np.uint8), (0, 0, 0)
            elif isinstance(self._to_volume, np.ndarray):
                found = _aligned(image, _index_map(self._geometry, self._to_volume, image))
            resampled = found is None
            voxels, corner = (self._resample(image, background), (0, 0, 0)) if resampled else found
            # The image is kept too, so that no other takes its id.
            self._known[key] = voxels, corner, resampled, image
        if resampled:
            self._resampled.append(name)
        return voxels, corner

    def _resample(self, image, background: float | None) -> np.ndarray:
        """(K, J, I) voxels on the whole grid: the nearest for labels, linear between fractions."""
        source = image
        if background is not None:
            cast = vtk.vtkImageCast()
            cast.SetInputData(image)
            cast.SetOutputScalarTypeToFloat()
            cast.Update()
            source = slicer.vtkOrientedImageData()
            source.ShallowCopy(cast.GetOutput())
            matrix = vtk.vtkMatrix4x4()
            image.GetImageToWorldMatrix(matrix)
            source.SetGeometryFromImageToWorldMatrix(matrix)
        result = slicer.vtkOrientedImageData()
        done = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
            source, self._reference(), result, background is not None, False,
            _vtk_transform(self._to_volume), 0.0 if background is None else background,
        )  # fmt: skip
        if not done:
            raise SegmentsError(f"{self._name}: could not be resampled onto {self._volume_name}'s grid")
        return _voxels(result).copy()

    def _reference(self):
        """The volume's grid as VTK knows it: one byte a voxel is promised, none is allocated."""
        reference = slicer.vtkOrientedImageData()
        reference.SetExtent(0, self._shape[2] - 1, 0, self._shape[1] - 1, 0, self._shape[0] - 1)
        reference.SetGeometryFromImageToWorldMatrix(matrix_of_array(self._geometry))
        return reference


def _is_empty(image) -> bool:
    extent = image.GetExtent()
    return image.GetPointData().GetScalars() is None or any(extent[2 * a] > extent[2 * a + 1] for a in range(3))


def _voxels(image) -> np.ndarray:
    """(K, J, I) view of a labelmap's voxels, in its extent."""
    shape = image.GetDimensions()[::-1]
    return numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)


def _index_map(geometry: np.ndarray, to_volume: np.ndarray, image) -> np.ndarray:
    """(4, 4) from the indices of a labelmap to those of the volume."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return np.linalg.inv(geometry) @ to_volume @ array_of_matrix(matrix)


def _aligned(image, index_map: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]] | None:
    """A copy of a labelmap's voxels in the volume's order, and its corner; None when the grids are not the same.

    The same means: voxel centres meet, while the axes may be in another order, or run the other way.
    """
    extent = np.array(image.GetExtent()).reshape(3, 2)
    whole = np.rint(index_map)
    axes = np.abs(whole[:3, :3])
    if not (np.array_equal(axes.sum(axis=0), [1, 1, 1]) and np.array_equal(axes.sum(axis=1), [1, 1, 1])):
        return None
    corners = np.array([[extent[a, bit] for a, bit in enumerate(bits)] + [1] for bits in np.ndindex(2, 2, 2)])
    reached = corners @ whole[:3].T
    if np.abs(corners @ index_map[:3].T - reached).max() > _TOLERANCE:
        return None
    order = [
        int(np.flatnonzero(axes[axis])[0]) for axis in range(3)
    ]  # the labelmap's axis along each of the volume's
    voxels = _voxels(image).transpose([2 - order[2], 2 - order[1], 2 - order[0]])
    flips = [slice(None, None, -1 if whole[axis, order[axis]] < 0 else 1) for axis in (2, 1, 0)]
    corner = tuple(int(n) for n in reached.min(axis=0)[::-1])
    return np.array(voxels[tuple(flips)], order="C"), corner


def _vtk_transform(transform):
    if not isinstance(transform, np.ndarray):
        return transform
    linear = vtk.vtkTransform()
    linear.SetMatrix(matrix_of_array(transform))
    return linear


def _fractional_range(image) -> tuple[float, float]:
    """The values that stand for outside and inside in a fractional labelmap; Slicer's older files do not say."""
    name = slicer.vtkSegmentationConverter.GetScalarRangeFieldName()
    stored = image.GetFieldData().GetArray(name)
    if stored is not None and stored.GetNumberOfValues() >= 2:
        return float(stored.GetValue(0)), float(stored.GetValue(1))
    low, high = image.GetScalarRange()
    return (0.0, 1.0) if low >= 0 and high <= 1 else (float(low), float(high))
