"""Real CTs of head and neck in the scene, with their labels as Slicer imports them; larger ones made of them.

Needs SSLFEWSHOT_DATA, the folder of scans; runs in the host and in Slicer itself.
"""

import os
from pathlib import Path

import numpy as np

COLOURS = {
    "Brainstem": (226, 154, 61),
    "SpinalCord": (244, 214, 49),
    "RightParotid": (128, 174, 88),
    "LeftParotid": (88, 160, 140),
    "Esophagus": (190, 120, 90),
    "Larynx": (100, 150, 215),
    "Mandible": (241, 230, 190),
}
"""The structures in the order of their labels, 1 to 7."""


def add_real(number, marked, size=None):
    """A real CT as a volume node, and with `marked` its labels as a segmentation node: (volume, segmentation).

    size: (i, j, k) voxels to make of it, each the nearest one of the scan; None for the scan as it is.
    """
    import slicer

    array, geometry = _read(number, "ct")
    shape = array.shape if size is None else size[::-1]
    geometry[:3, :3] *= np.array(array.shape[::-1]) / np.array(shape[::-1])
    node = slicer.util.addVolumeFromArray(_of_shape(array, shape), ijkToRAS=geometry, name=f"CT {number}")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevelMinMax(-160, 240)
    return (node, _add_marks(node, _of_shape(_read(number, "seg")[0], shape))) if marked else node


def _add_marks(volume, labels):
    import slicer

    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    slicer.util.updateVolumeFromArray(labelmap, labels.astype(np.uint8))
    labelmap.CopyOrientation(volume)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} marked")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, node)
    slicer.mrmlScene.RemoveNode(labelmap)
    contents = node.GetSegmentation()
    for number, (name, colour) in enumerate(COLOURS.items()):
        contents.GetNthSegment(number).SetName(name)
        contents.GetNthSegment(number).SetColor(*(channel / 255 for channel in colour))
    return node


def _read(number, kind):
    """(K, J, I) voxels and (4, 4) IJK to RAS of an image of the data set."""
    import SimpleITK

    folder = Path(os.environ["SSLFEWSHOT_DATA"]) / "head-neck-ct" / "labelled"
    image = SimpleITK.ReadImage(str(folder / f"pt_{number}_{kind}.nii.gz"))
    geometry = np.eye(4)
    geometry[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    geometry[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image), np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry


def _of_shape(array, shape):
    for axis, n in enumerate(shape):
        array = np.take(array, np.arange(n) * array.shape[axis] // n, axis=axis)
    return np.ascontiguousarray(array)
