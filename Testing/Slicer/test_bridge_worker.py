"""The library segments what the bridge has written: under a transform as well as without one."""

from bridge_scene import empty_scene  # noqa: F401 - a fixture that every test uses

# isort: split
import json
import os
import subprocess

import numpy as np
import pytest
import slicer
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotSlicer.bridge import (
    JobFolder,
    list_segments,
    place_result,
    provenance_of,
    read_result,
    take_segments,
    take_volume,
)

from bridge_scene import ROOT, add_linear, add_segmentation, add_volume, numpy_matrix, segment_array, vtk_matrix

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def python() -> str:
    """A Python with the whole library, torch included."""
    named = os.environ.get("SSLFEWSHOT_WORKER_PYTHON", "")
    if not named:
        pytest.skip("SSLFEWSHOT_WORKER_PYTHON does not name a Python that has torch and faiss")
    return named


def torso(seed):
    """A phantom as nodes: its volume, and its segmentation."""
    volume, labels = phantom(seed, size=(64, 52, 48))
    node = add_volume(volume.array, LPS @ volume.ijkToLps, f"torso {seed}")
    names = {segment.value: segment.name for segment in labels.segments}
    return node, add_segmentation(labels.array, LPS @ volume.ijkToLps, names, f"organs {seed}")


def segmented(python, support, target):
    volume, labels, scan = take_volume(support[0]), take_segments(support[1], support[0]), take_volume(target)
    with JobFolder() as folder:
        image, marks = folder.file("support", volume.name), folder.file("labels", labels.name, ".seg.nrrd")
        given = folder.file("target", scan.name)
        volume.write(image)
        labels.write(marks)
        scan.write(given)
        command = [python, "-m", "SSLFewShotLib", "segment", given, "--support", image, marks, "--output"]
        command += [folder.results, "--model", "gvdiff", "--format", "seg.nrrd"]
        subprocess.run([str(part) for part in command], cwd=ROOT / "SSLFewShot", check=True, capture_output=True)
        report = json.loads((folder.results / "report.json").read_text(encoding="utf-8"))
        result = read_result(folder.result(given, "seg", ".seg.nrrd"), folder.result(given, "confidence"))
    placed = place_result(result, scan, provenance=provenance_of(report))
    node = slicer.mrmlScene.GetNodeByID(placed.segmentation_id)
    return node, {s.name: segment_array(node, s.segment_id, target) for s in list_segments(node)}


@pytest.mark.slow
def test_a_scan_that_is_turned_and_turned_back_by_its_transform_gets_the_very_same_labels(python):
    support, (target, truth) = torso(0), torso(1)
    node, plain = segmented(python, support, target)
    assert node.GetAttribute("SSLFewShot.Model") == "gvdiff"
    liver = segment_array(truth, "Id_Liver", target)
    assert 2 * (plain["Liver"] & liver).sum() / (plain["Liver"].sum() + liver.sum()) > 0.6

    # Its voxels lie askew in its own coordinates, and upright in the world.
    angle = np.radians(35)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0, 30], [np.sin(angle), np.cos(angle), 0, -50]])
    turn = np.vstack([turn, [[0, 0, 1, 70], [0, 0, 0, 1]]])
    matrix = vtk_matrix(np.eye(4))
    target.GetIJKToRASMatrix(matrix)
    target.SetIJKToRASMatrix(vtk_matrix(np.linalg.inv(turn) @ numpy_matrix(matrix)))
    target.SetAndObserveTransformNodeID(add_linear(turn).GetID())
    turned_node, turned = segmented(python, support, target)
    assert turned_node.GetTransformNodeID() == target.GetTransformNodeID()
    assert list(turned) == list(plain)
    assert [name for name in plain if not np.array_equal(plain[name], turned[name])] == []
