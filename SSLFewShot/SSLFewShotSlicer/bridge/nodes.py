"""Nodes by their IDs, and the way from a node's own coordinates to the world's. Main thread only.

Everything that outlives a call holds the ID of a node, never the node: a node can be deleted, and its scene
closed, while the worker computes.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from SSLFewShotSlicer.bridge.errors import NodeGoneError, UnusableNodeError

_WHAT = {
    "vtkMRMLScalarVolumeNode": "a scan",
    "vtkMRMLSegmentationNode": "a segmentation",
    "vtkMRMLVolumeNode": "a volume",
}


def find_node(node, class_name: str = "vtkMRMLNode", name: str = ""):
    """The node of the scene that `node`, an ID or a node, stands for.

    name: what it was called when it was chosen, for the message.

    Raises NodeGoneError when the scene has it no more, UnusableNodeError when it is None or of another class.
    """
    what = _WHAT.get(class_name, "a node")
    if node is None or node == "":
        raise UnusableNodeError(f"no node was chosen where {what} was expected: choose one")
    node_id = node if isinstance(node, str) else node.GetID()
    found = slicer.mrmlScene.GetNodeByID(node_id) if node_id else None
    if found is None or not (isinstance(node, str) or found is node):
        raise NodeGoneError(_gone(name or (node if isinstance(node, str) else node.GetName()) or what, what))
    if not found.IsA(class_name):
        raise UnusableNodeError(f"{found.GetName()}: {what} was expected, this is a {found.GetNodeTagName()}")
    return found


class NodeReference:
    """One node, looked up again by its ID, and no other: a scene opened later gives out the same IDs anew."""

    def __init__(self, node):
        self.node_id = node.GetID()
        self.name = node.GetName() or ""
        self._weak = vtk.vtkWeakReference()
        self._weak.Set(node)

    def find(self, class_name: str = "vtkMRMLNode"):
        """The node. Raises NodeGoneError when it is no longer in the scene."""
        found = find_node(self.node_id, class_name, self.name)
        if found is not self._weak.Get():
            raise NodeGoneError(_gone(self.name or self.node_id, _WHAT.get(class_name, "a node")))
        return found

    def find_or_none(self):
        """The node, None when it is no longer in the scene."""
        try:
            return self.find()
        except NodeGoneError:
            return None


def _gone(name: str, what: str) -> str:
    return f"{name}: is no longer in the scene; choose {what} again"


def array_of_matrix(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """(4, 4) float64 of a VTK matrix."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrix_of_array(array: np.ndarray) -> vtk.vtkMatrix4x4:
    """The VTK matrix of a (4, 4) array."""
    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(array[row, column]))
    return matrix


def own_geometry(volume) -> np.ndarray:
    """(4, 4) IJK to RAS of a volume node in its own coordinates, parent transforms left out."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return array_of_matrix(matrix)


def has_linear_parents(node) -> bool:
    """Whether all transforms above a node are linear; True when there is none."""
    parent = node.GetParentTransformNode()
    return parent is None or bool(parent.IsTransformToWorldLinear())


def linear_to_world(node) -> np.ndarray:
    """(4, 4) from a node's own coordinates to the world's; its parents must be linear."""
    matrix = vtk.vtkMatrix4x4()
    parent = node.GetParentTransformNode()
    if parent is not None:
        parent.GetMatrixTransformToWorld(matrix)
    return array_of_matrix(matrix)


def transform_between(source, target) -> np.ndarray | vtk.vtkGeneralTransform:
    """From the own coordinates of one node to those of another: (4, 4) where that is linear, else VTK's transform.

    Two nodes under the same parent transform, of whatever kind, share their coordinates: the identity.
    """
    above_source, above_target = source.GetParentTransformNode(), target.GetParentTransformNode()
    if above_source is above_target:
        return np.eye(4)
    general = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(above_source, above_target, general)
    if not slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(general):
        return general
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(above_source, above_target, matrix)
    return array_of_matrix(matrix)
