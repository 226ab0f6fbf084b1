"""A scene of real MRML nodes for tests of the bridge, and what is needed to fill it.

Needs the package slicer-core, which holds Slicer's MRML and runs without the application; tests are skipped
without it. To be imported first: it lets the module's packages be found.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core: Slicer's MRML without the application")

import slicer
import slicer.util
import vtk
from vtk.util import numpy_support

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "SSLFewShot"))

COLOURS = {"Liver": (0.8, 0.36, 0.22), "Leber links": (0.1, 0.2, 0.3), "脾": (1.0, 0.5, 0.25)}
NAMES = dict(enumerate(COLOURS, start=1))
GRID = np.array([[0.9, 0.1, 0, -20], [-0.1, 1.1, 0.2, 5], [0, 0, 2.2, -14], [0, 0, 0, 1.0]])


@pytest.fixture(autouse=True)
def empty_scene():
    """Every test has an empty scene of its own: that of the test host has nodes that its panels need."""
    before = vars(slicer).get("mrmlScene")
    slicer.mrmlScene = slicer.vtkMRMLScene()
    yield
    clear_scene()
    if before is not None:
        slicer.mrmlScene = before


@pytest.fixture
def scan():
    """A scan on an oblique grid."""
    return add_volume(np.zeros(blobs().shape, np.int16), GRID, "scan")


def clear_scene():
    if not hasattr(slicer, "mrmlScene"):
        slicer.mrmlScene = slicer.vtkMRMLScene()
    slicer.mrmlScene.SetUndoOff()
    slicer.mrmlScene.Clear(1)


def vtk_matrix(array):
    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(array[row, column]))
    return matrix


def numpy_matrix(matrix):
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def add_volume(array, ijk_to_ras=None, name="scan", parent=None):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(vtk_matrix(np.eye(4) if ijk_to_ras is None else ijk_to_ras))
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    return node


def add_linear(matrix, parent=None):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(vtk_matrix(matrix))
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    return node


def add_bent(parent=None, by=4.0):
    """A thin-plate spline that moves some corners of a cube by some millimetres: a non-linear transform."""
    corners = 60.0 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for number, corner in enumerate(corners):
        source.InsertNextPoint(corner)
        target.InsertNextPoint(corner + by * np.array([number % 2, number % 3 - 1, 0.5]))
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(spline)
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    return node


def oriented(array, ijk_to_ras, corner=(0, 0, 0)):
    """A vtkOrientedImageData; corner: (i, j, k) of the first voxel."""
    image = slicer.vtkOrientedImageData()
    ends = zip(corner, array.shape[::-1], strict=True)
    image.SetExtent([bound for low, n in ends for bound in (low, low + n - 1)])
    image.SetGeometryFromImageToWorldMatrix(vtk_matrix(ijk_to_ras))
    scalars = numpy_support.numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def add_segmentation(labels, ijk_to_ras=None, names=None, name="marks", parent=None, corner=(0, 0, 0), node=None):
    """A segmentation with one shared labelmap, as the Segment Editor leaves it; names: value → name."""
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.CreateDefaultDisplayNodes()
        node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    image = oriented(labels, np.eye(4) if ijk_to_ras is None else ijk_to_ras, corner)
    names = names or {value: f"Structure {value}" for value in np.unique(labels[labels > 0])}
    for value, called in names.items():
        segment = slicer.vtkSegment()
        segment.SetName(called)
        segment.SetColor(*COLOURS.get(called, (0.1 * (int(value) % 10), 0.5, 0.7)))
        segment.SetTag(segment.GetTerminologyEntryTagName(), terminology(called))
        segment.SetLabelValue(int(value))
        segment.AddRepresentation("Binary labelmap", image)
        node.GetSegmentation().AddSegment(segment, f"Id_{called}")
    return node


def terminology(name):
    return (
        "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
        f"~SCT^10200004^{name}~^^~Anatomic codes - DICOM master list~^^~^^"
    )


def segment_array(node, segment_id, volume):
    """(K, J, I) bool of a segment on a volume's grid, by Slicer's own export."""
    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    ids = vtk.vtkStringArray()
    ids.InsertNextValue(segment_id)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.ExportSegmentsToLabelmapNode(node, ids, labelmap, volume)
    array = slicer.util.arrayFromVolume(labelmap).copy() > 0
    slicer.mrmlScene.RemoveNode(labelmap)
    return array


def blobs(shape=(16, 18, 20)):
    """(K, J, I) labels 1..3 of three unlike, asymmetric boxes, so that no flip or exchange of axes goes unseen."""
    labels = np.zeros(shape, np.uint8)
    labels[2:7, 3:12, 4:9] = 1
    labels[9:14, 2:5, 10:18] = 2
    labels[8:12, 8:16, 1:4] = 3
    labels[2, 3, 4] = 0
    return labels
