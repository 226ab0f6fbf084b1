"""Volume node → the NRRD that the worker reads.

Where is a scan? In its own coordinates (the node's IJKToRAS), and in the world, which the parent transforms lead
to. The worker looks for the body along the patient's axes, so it must see the scan as the user does, in the world:
linear parents are multiplied into the file's geometry, which is exact (the same voxels on another affine grid).
What comes back is a label for each voxel, and goes onto the node's own grid, under the node's own parent: no
resampling, whatever the transform, even when it was changed meanwhile.

A non-linear transform bends the grid, which no file can say without resampling. There the node's own grid is sent,
as if there were no transform, and the result is put under the same transform, which then bends both alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import slicer
from vtk.util import numpy_support

from SSLFewShotSlicer.bridge.errors import NodeGoneError, UnusableNodeError
from SSLFewShotSlicer.bridge.nodes import (
    NodeReference,
    find_node,
    has_linear_parents,
    linear_to_world,
    own_geometry,
)
from SSLFewShotSlicer.bridge.nrrd import NrrdImage, storable, write_nrrd

_HOUNSFIELD = "[hnsf'U]"


@dataclass
class VolumeSource:
    """A volume node as it was when it was taken: what the worker is to see, without touching MRML again.

    array: (K, J, I), the node's own memory, not a copy; own_geometry: (4, 4) IJK to RAS in the node's coordinates;
    seen_geometry: (4, 4) IJK to RAS as the worker sees it.
    notes: plain sentences that the user should read.
    """

    reference: NodeReference = field(repr=False)
    name: str
    modality: str
    array: np.ndarray = field(repr=False)
    own_geometry: np.ndarray = field(repr=False)
    seen_geometry: np.ndarray = field(repr=False)
    notes: list[str] = field(default_factory=list)
    image_time: int = 0

    @property
    def node_id(self) -> str:
        """The ID of the node."""
        return self.reference.node_id

    def own_from_seen(self) -> np.ndarray:
        """(4, 4) from RAS as the worker sees the scan to RAS in the node's coordinates."""
        return self.own_geometry @ np.linalg.inv(self.seen_geometry)

    def write(self, path: Path) -> None:
        """Write the NRRD. Any thread.

        Raises UnusableNodeError for NaN or infinite voxels, OutputError when the file cannot be written.
        """
        keys = {"modality": self.modality} if self.modality else {}
        check = self._refuse_nonfinite if self.array.dtype.kind == "f" else None
        write_nrrd(NrrdImage(self.array, self.seen_geometry, keys), path, check)

    def changed(self) -> bool:
        """Whether the node has other voxels or another grid than when it was taken, or is gone. Main thread."""
        try:
            node = self.reference.find("vtkMRMLScalarVolumeNode")
        except NodeGoneError:
            return True
        return (
            node.GetImageData() is None
            or node.GetImageData().GetMTime() != self.image_time
            or not np.array_equal(own_geometry(node), self.own_geometry)
        )

    def _refuse_nonfinite(self, plane: np.ndarray) -> None:
        if not np.isfinite(plane).all():
            raise UnusableNodeError(
                f"{self.name}: some voxels are NaN or infinite; replace them, by the value of air for example"
            )


def take_volume(volume) -> VolumeSource:
    """Take a volume node (or its ID) for the worker. Main thread; costs no copy of the voxels.

    The proxy node of a sequence is its current frame. Raises NodeGoneError; UnusableNodeError for a node without
    image, a label map, several values a voxel (vectors, tensors, 4D), or a transform that flattens it.
    """
    node = find_node(volume, "vtkMRMLVolumeNode")
    name = node.GetName() or "the volume"
    image = _scalar_image(node, name)
    scalars = image.GetPointData().GetScalars()
    array = numpy_support.vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])
    if not storable(array.dtype):
        raise UnusableNodeError(f"{name}: voxels of type {array.dtype} cannot be used; cast it to short or float")
    own = own_geometry(node)
    notes = []
    if has_linear_parents(node):
        seen = linear_to_world(node) @ own
    else:
        seen = own
        notes.append(
            f"{name}: lies under a non-linear transform. It is segmented as it was acquired, and the result is "
            "put under the same transform"
        )
    if not np.isfinite(seen).all() or abs(np.linalg.det(seen[:3, :3])) < 1e-12:
        raise UnusableNodeError(f"{name}: its transform makes it flat; correct the transform or remove it")
    return VolumeSource(NodeReference(node), name, modality_of(node), array, own, seen, notes, image.GetMTime())


def modality_of(volume) -> str:
    """ "CT", "MR", … of a volume node as far as the scene knows: from its DICOM tags or its units; else ""."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    if hierarchy is not None:
        item = hierarchy.GetItemByDataNode(volume)
        modality = hierarchy.GetItemAttribute(item, "DICOM.Modality") if item else ""
        if modality:
            return modality
    units = volume.GetVoxelValueUnits()
    return "CT" if units is not None and units.GetCodeValue() == _HOUNSFIELD else ""


def _scalar_image(node, name: str):
    """The image of a node that holds one number a voxel."""
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise UnusableNodeError(f"{name}: is a label map; choose the scan itself")
    image = node.GetImageData()
    if image is None or image.GetPointData() is None or min(image.GetDimensions()) < 1:
        raise UnusableNodeError(f"{name}: holds no image; choose another volume")
    scalars = image.GetPointData().GetScalars()
    several = 9 if scalars is None and image.GetPointData().GetTensors() else 0
    if scalars is None and not several:
        raise UnusableNodeError(f"{name}: holds no image; choose another volume")
    several = several or scalars.GetNumberOfComponents()
    if several > 1 or not node.IsA("vtkMRMLScalarVolumeNode"):
        raise UnusableNodeError(
            f"{name}: has {several} values a voxel (colour, vectors, or several frames); one was expected: make a "
            "scalar volume of it first, with the module Vector to Scalar Volume for example"
        )
    return image
