"""Volume nodes made of arrays, in the place of a scan of the scene. Main thread only."""

from __future__ import annotations

import numpy as np
import slicer
from vtk.util import numpy_support

from SSLFewShotSlicer.bridge.nodes import matrix_of_array


def add_volume(class_name: str, name: str, array: np.ndarray, own_geometry: np.ndarray, volume=None, display=None):
    """Add a volume node, under the transform of `volume` if there is one; it shares the array's memory.

    array: (K, J, I) or (K, J, I, C); own_geometry: (4, 4) IJK to RAS in the node's own coordinates. display: its
    display node, if there is one already.
    """
    scene = slicer.mrmlScene
    node = scene.AddNewNodeByClass(class_name, scene.GenerateUniqueName(name))
    voxels = np.ascontiguousarray(array)
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(voxels.shape[2::-1])
    flat = voxels.reshape(-1, voxels.shape[3]) if voxels.ndim == 4 else voxels.reshape(-1)
    scalars = numpy_support.numpy_to_vtk(flat, deep=False)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    node.SetIJKToRASMatrix(matrix_of_array(own_geometry))
    if volume is not None:
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    # Before the image: a display node that is made for one looks at all of its voxels.
    if display is not None:
        node.SetAndObserveDisplayNodeID(display.GetID())
    node.SetAndObserveImageData(image)
    return node
