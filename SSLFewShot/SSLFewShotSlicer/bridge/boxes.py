"""Boxes that the worker has found, as Markups ROI nodes in their exact place. Main thread only."""

from __future__ import annotations

import numpy as np
import slicer

from SSLFewShotSlicer.bridge.nodes import find_node, matrix_of_array
from SSLFewShotSlicer.bridge.volumes import VolumeSource

_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_TOLERANCE = 1e-6


def place_box(box: dict, source: VolumeSource, name: str, colour: tuple[float, float, float] | None = None):
    """Add a Markups ROI node of a box of the worker's, {"centre", "size", "axes"} in LPS mm as it saw the scan.

    It goes under the scan's transform, and with it when that is changed, unless the transform scales or shears:
    then it is put where the box is in the world. colour: (r, g, b) in 0..1 of one of several boxes, which show no
    names and handles: `show_handles` does. Raises NodeGoneError when the scan is no longer in the scene.
    """
    volume = source.reference.find("vtkMRMLVolumeNode")
    place = np.eye(4)
    place[:3, :3] = _TO_RAS @ np.array(box["axes"], float).T
    place[:3, 3] = _TO_RAS @ np.array(box["centre"], float)
    own = source.own_from_seen() @ place
    follows = np.allclose(own[:3, :3].T @ own[:3, :3], np.eye(3), atol=_TOLERANCE) and np.linalg.det(own) > 0
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", slicer.mrmlScene.GenerateUniqueName(name))
    modifying = node.StartModify()
    node.SetSize(*(float(length) for length in box["size"]))
    node.SetAndObserveObjectToNodeMatrix(matrix_of_array(own if follows else place))
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID() if follows else None)
    node.EndModify(modifying)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    if display is not None:
        display.SetFillOpacity(0.08)  # the scan is to be seen
        if colour is not None:
            display.SetColor(*colour)
            display.SetSelectedColor(*colour)
            display.SetPropertiesLabelVisibility(False)
            display.SetHandlesInteractive(False)
    return node


def show_handles(box, shown: bool) -> None:
    """Show the handles of a Markups ROI (a node or its ID), or hide them. Raises NodeGoneError."""
    display = find_node(box, "vtkMRMLMarkupsROINode").GetDisplayNode()
    if display is not None:
        display.SetHandlesInteractive(shown)


def hide_box(box) -> None:
    """Hide a Markups ROI (a node or its ID). Raises NodeGoneError."""
    display = find_node(box, "vtkMRMLMarkupsROINode").GetDisplayNode()
    if display is not None:
        display.SetVisibility(False)
