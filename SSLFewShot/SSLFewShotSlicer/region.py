"""`Region`: the part of a scan that is searched, and the way back from it to the whole scan."""

import itertools
from dataclasses import replace

import numpy as np
import vtk

from SSLFewShotSlicer.bridge import SegmentationResult, UnusableNodeError, find_node
from SSLFewShotSlicer.bridge.nodes import linear_to_world
from SSLFewShotSlicer.translation import _

LEAST_VOXELS = 8
_ON_A_FACE = 1e-4
"""Voxels: a centre that lies on a face of the box counts as in it, whatever rounding says."""


class Region:
    """A box of whole voxels of a scan; without `low` and `high`, all of it.

    source: the `VolumeSource`; low, high: (i, j, k) of the first voxel, and of the one after the last.
    """

    def __init__(self, source, low=None, high=None):
        self.source = source
        size = np.array(source.array.shape[::-1])
        self.low = np.zeros(3, int) if low is None else np.asarray(low, int)
        self.high = size if high is None else np.asarray(high, int)
        self.whole = bool((self.low == 0).all() and (self.high == size).all())

    def write(self, path):
        """Write the voxels of the box as a NRRD that lies where they lie. Any thread."""
        if self.whole:
            self.source.write(path)
            return
        part = replace(
            self.source,
            array=self.source.array[self.slices()],
            seen_geometry=self.source.seen_geometry @ self.shift(),
        )
        part.write(path)

    def shift(self):
        """(4, 4) from the indices of the box to those of the scan."""
        shift = np.eye(4)
        shift[:3, 3] = self.low
        return shift

    def in_whole(self, result):
        """A result for the box as one for the whole scan. Any thread.

        Outside of the box nothing was searched: no label, and a confidence of 1 that nothing is claimed there.
        """
        if self.whole:
            return result
        corner = self.low[::-1]
        layers = tuple(
            replace(layer, corner=tuple(int(a + b) for a, b in zip(layer.corner, corner)))
            for layer in result.layers
        )
        confidence = None
        if result.confidence is not None:
            confidence = np.ones(self.source.array.shape, np.float32)
            confidence[self.slices()] = result.confidence
        return SegmentationResult(
            self.source.array.shape, self.source.seen_geometry, layers, result.segments, confidence
        )

    @property
    def size(self):
        """(i, j, k) voxels of the box."""
        return self.high - self.low

    def slices(self):
        """The box in an array (K, J, I)."""
        return tuple(slice(int(a), int(b)) for a, b in zip(self.low[::-1], self.high[::-1]))


def region_of(source, roi):
    """The smallest box of whole voxels of a scan that holds a Markups ROI (a node or its ID). Main thread.

    Raises UnusableNodeError when the region is not set, or has no part in the scan.
    """
    node, lowest, highest = _extent(source, roi)
    size = np.array(source.array.shape[::-1])
    # A voxel counts as soon as a part of it lies in the box; a thousandth is rounding.
    low = np.clip(np.floor(lowest + 0.501), 0, size).astype(int)
    high = np.clip(np.ceil(highest + 0.499), 0, size).astype(int)
    _check_overlap(node, source, low, high)
    if (high - low).min() < min(LEAST_VOXELS, int(size.min())):
        raise UnusableNodeError(
            _("{roi}: is only {size} voxels of {scan}; make it larger").format(
                roi=node.GetName(), scan=source.name, size=" × ".join(str(n) for n in high - low)
            )
        )
    return Region(source, low, high)


def crop_of(source, roi):
    """The voxels of a scan whose centres lie within a Markups ROI, along each axis of the scan. Main thread.

    The same voxels as the library crops to. Raises UnusableNodeError as `region_of` does.
    """
    node, lowest, highest = _extent(source, roi)
    size = np.array(source.array.shape[::-1])
    low = np.clip(np.ceil(lowest - _ON_A_FACE), 0, size).astype(int)
    high = np.clip(np.floor(highest + _ON_A_FACE) + 1, 0, size).astype(int)
    # Of a box thinner than a voxel, the voxel that it lies in.
    thin = (high <= low) & (highest > -0.5) & (lowest < size - 0.5)
    low[thin] = np.clip(np.rint((lowest + highest) / 2), 0, size - 1)[thin]
    high[thin] = low[thin] + 1
    _check_overlap(node, source, low, high)
    return Region(source, low, high)


def _check_overlap(node, source, low, high):
    if (high <= low).any():
        raise UnusableNodeError(
            _("{roi}: lies outside of {scan}; move the region over it").format(
                roi=node.GetName(), scan=source.name
            )
        )


def _extent(source, roi):
    """The ROI's node, and its lowest and highest (i, j, k) in a scan, in parts of voxels."""
    node = find_node(roi, "vtkMRMLMarkupsROINode")
    name = node.GetName()
    if min(node.GetSize()) <= 0 or node.GetNumberOfControlPoints() < 1:
        raise UnusableNodeError(
            _("{roi}: has no size yet; draw the region, or choose the whole scan").format(roi=name)
        )
    volume = find_node(source.node_id, "vtkMRMLVolumeNode", source.name)
    # Under the same transform both share their coordinates, however it bends them.
    if node.GetParentTransformNode() is volume.GetParentTransformNode():
        corners = _corners(node, node.GetObjectToNodeMatrix())
    else:
        corners = _world_to_own(volume, _corners(node, node.GetObjectToWorldMatrix()))
    inverse = np.linalg.inv(source.own_geometry)
    indices = corners @ inverse[:3, :3].T + inverse[:3, 3]
    return node, indices.min(axis=0), indices.max(axis=0)


def _corners(roi, matrix):
    """(8, 3) RAS of the corners of a ROI, however it is turned; matrix: from its box to where they are wanted."""
    half = [extent / 2 for extent in roi.GetSize()]
    corners = []
    for signs in itertools.product((-1, 1), repeat=3):
        corner = [sign * extent for sign, extent in zip(signs, half)] + [1.0]
        corners.append(matrix.MultiplyPoint(corner)[:3])
    return np.array(corners)


def _world_to_own(volume, points):
    """(N, 3) from the world to a volume's own coordinates, through transforms of any kind."""
    parent = volume.GetParentTransformNode()
    if parent is None:
        return points
    if parent.IsTransformToWorldLinear():
        inverse = np.linalg.inv(linear_to_world(volume))
        return points @ inverse[:3, :3].T + inverse[:3, 3]
    transform = vtk.vtkGeneralTransform()
    parent.GetTransformFromWorld(transform)
    return np.array([transform.TransformPoint(point) for point in points])
