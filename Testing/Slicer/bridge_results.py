"""What the worker would write for a scan of the scene, for tests of how it becomes nodes."""

from bridge_scene import GRID, NAMES, add_segmentation, blobs

# isort: split
import numpy as np
import pytest
import slicer
from SSLFewShotLib.imaging.files import read_labels, read_volume, write_labels, write_volume
from SSLFewShotSlicer.bridge import read_result, take_segments, take_volume


@pytest.fixture
def result(scan, tmp_path):
    """What the worker would write for `scan`: the marks themselves, with a confidence."""
    return computed(scan, add_segmentation(blobs(), GRID, NAMES, "support"), tmp_path)


def computed(scan, marks, tmp_path):
    target = take_volume(scan)
    target.write(tmp_path / "target.nrrd")
    take_segments(marks, target).write(tmp_path / "labels.seg.nrrd")
    volume, labels = read_volume(tmp_path / "target.nrrd"), read_labels(tmp_path / "labels.seg.nrrd")
    write_labels(labels, tmp_path / "target_seg.seg.nrrd", overwrite=True)
    sure = np.linspace(0, 1, volume.array.size, dtype=np.float32).reshape(volume.array.shape)
    write_volume(volume.with_array(sure), tmp_path / "target_confidence.nrrd", overwrite=True)
    return read_result(tmp_path / "target_seg.seg.nrrd", tmp_path / "target_confidence.nrrd")


def there():
    """The IDs of the scene's nodes; Slicer makes its subject hierarchy by itself."""
    scene = slicer.mrmlScene
    nodes = (scene.GetNthNode(number) for number in range(scene.GetNumberOfNodes()))
    return [node.GetID() for node in nodes if not node.IsA("vtkMRMLSubjectHierarchyNode")]


def segmentation_of(placed):
    return slicer.mrmlScene.GetNodeByID(placed.segmentation_id)


@pytest.fixture
def own():
    """The user's own segmentation: another Liver (7 voxels), and two neighbours in the same labelmap."""
    labels = np.zeros_like(blobs())
    labels[0, 0, :7] = 1
    labels[1, 1:4, :] = 2
    labels[15, 10:, 10:] = 3
    return add_segmentation(labels, GRID, {1: "Liver", 2: "Vessel", 3: "Nerve"}, "own"), labels
