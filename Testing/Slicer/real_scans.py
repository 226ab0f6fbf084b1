"""Real CTs of head and neck in the scene, with their labels as Slicer imports them; larger ones made of them."""

import os
from pathlib import Path

import numpy as np


def add_real(number, marked, size=None):
    """A real CT as a volume node, and with `marked` its labels as a segmentation node: (volume, segmentation).

    size: (i, j, k) voxels to make of it, each the nearest one of the scan; None for the scan as it is.
    """
    import SimpleITK
    import slicer

    folder = Path(os.environ["SSLFEWSHOT_DATA"]) / "head-neck-ct" / "labelled"

    def read(kind):
        image = SimpleITK.ReadImage(str(folder / f"pt_{number}_{kind}.nii.gz"))
        return SimpleITK.GetArrayFromImage(image), np.array(image.GetSpacing())

    array, spacing = read("ct")
    shape = array.shape if size is None else size[::-1]
    node = slicer.util.addVolumeFromArray(_of_shape(array, shape), name=f"CT {number}")
    node.SetSpacing(*(spacing * array.shape[::-1] / shape[::-1]))
    node.CreateDefaultDisplayNodes()
    if not marked:
        return node
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    slicer.util.updateVolumeFromArray(labels, _of_shape(read("seg")[0].astype(np.uint8), shape))
    labels.CopyOrientation(node)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"CT {number} marked")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(node)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, segmentation)
    slicer.mrmlScene.RemoveNode(labels)
    return node, segmentation


def _of_shape(array, shape):
    for axis, n in enumerate(shape):
        array = np.take(array, np.arange(n) * array.shape[axis] // n, axis=axis)
    return np.ascontiguousarray(array)
