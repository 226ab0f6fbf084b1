"""How sure the result is, as a volume over the scan. Main thread only."""

from __future__ import annotations

import numpy as np
import slicer

from SSLFewShotSlicer.bridge.added_volumes import add_volume
from SSLFewShotSlicer.bridge.nodes import find_node, own_geometry

# Shown is what needs a look: surer voxels than this are transparent.
SURE = 0.95
_COLOURS = (
    "vtkMRMLColorTableNodeFilePlasma.txt",
    "vtkMRMLColorTableNodeFileInferno.txt",
    "vtkMRMLColorTableNodeRed",
)


def add_confidence(confidence: np.ndarray, volume, name: str):
    """Add a volume node of confidences, (K, J, I) in 0..1, on a volume node's grid and under its transform.

    The node shares the array's memory. It is not shown: see `show_confidence`.
    """
    # The display node comes first: one that is made for an image looks at all of its voxels for a window.
    display = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.SetAutoThreshold(False)
    display.SetThreshold(0.0, SURE)
    display.SetApplyThreshold(True)
    colours = next((c for c in _COLOURS if slicer.mrmlScene.GetNodeByID(c)), None)
    if colours:
        display.SetAndObserveColorNodeID(colours)
    voxels = np.ascontiguousarray(confidence, dtype=np.float32)
    return add_volume("vtkMRMLScalarVolumeNode", name, voxels, own_geometry(volume), volume, display)


def show_confidence(confidence, opacity: float = 0.5) -> None:
    """Lay a confidence node (or its ID) over the scan in all slice views. Raises NodeGoneError."""
    node_id = find_node(confidence, "vtkMRMLScalarVolumeNode").GetID()
    for view in _slice_views():
        view.SetForegroundVolumeID(node_id)
        view.SetForegroundOpacity(opacity)


def hide_confidence(confidence) -> None:
    """Take a confidence node out of the slice views. Raises NodeGoneError."""
    node_id = find_node(confidence, "vtkMRMLScalarVolumeNode").GetID()
    for view in _slice_views():
        if view.GetForegroundVolumeID() == node_id:
            view.SetForegroundVolumeID(None)


def _slice_views():
    scene = slicer.mrmlScene
    count = scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")
    return [scene.GetNthNodeByClass(number, "vtkMRMLSliceCompositeNode") for number in range(count)]
