"""What can happen to nodes while the worker computes: each is told, and the scene stays as it is."""

from bridge_results import computed, own, result, there
from bridge_scene import (
    COLOURS,
    GRID,
    NAMES,
    add_segmentation,
    add_volume,
    blobs,
    empty_scene,
    scan,
    vtk_matrix,
)

# isort: split
from dataclasses import replace

import numpy as np
import pytest
import slicer
from SSLFewShotSlicer.bridge import (
    NodeGoneError,
    ResultError,
    list_segments,
    place_in_steps,
    place_result,
    take_volume,
)

__all__ = ["empty_scene", "own", "result", "scan"]


def test_a_scan_that_was_deleted_meanwhile_is_named(scan, result):
    source = take_volume(scan)
    slicer.mrmlScene.RemoveNode(scan)
    with pytest.raises(NodeGoneError, match="scan: is no longer in the scene"):
        place_result(result, source)


def test_a_scene_that_was_closed_meanwhile_stays_empty(scan, result):
    source = take_volume(scan)
    slicer.mrmlScene.Clear(0)
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(NodeGoneError):
        place_result(result, source)
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_another_scene_whose_nodes_have_the_same_ids_is_not_taken_for_the_first(scan, result):
    source, node_id = take_volume(scan), scan.GetID()
    placed = place_result(result, source)
    slicer.mrmlScene.Clear(0)
    other = add_volume(np.zeros(blobs().shape, np.int16), GRID, "scan")
    kept = add_segmentation(blobs(), GRID, NAMES, "kept")
    assert other.GetID() == node_id
    assert kept.GetID() == "vtkMRMLSegmentationNode1"
    assert source.changed()
    with pytest.raises(NodeGoneError, match="scan: is no longer in the scene"):
        place_result(result, source)
    before = there()
    placed.undo()
    assert there() == before


def test_a_segmentation_that_was_deleted_meanwhile_is_named_and_nothing_is_added(scan, result, own):
    node, _ = own
    node_id = node.GetID()
    slicer.mrmlScene.RemoveNode(node)
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(NodeGoneError):
        place_result(result, scan, into=node_id)
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_a_scan_whose_image_or_place_was_changed_meanwhile_is_not_given_the_result(scan, result):
    source = take_volume(scan)
    scan.SetIJKToRASMatrix(vtk_matrix(np.diag([2.0, 1.0, 1.0, 1.0])))
    with pytest.raises(ResultError, match="scan: its position was changed"):
        place_result(result, source)
    slicer.util.updateVolumeFromArray(scan, np.zeros((3, 4, 5), np.int16))
    with pytest.raises(ResultError, match="scan: its image was changed"):
        place_result(result, scan)


def test_a_result_of_an_image_that_was_edited_meanwhile_is_placed_and_the_user_is_told(scan, result):
    source = take_volume(scan)
    assert place_result(result, source).notes == []
    slicer.util.arrayFromVolume(scan)[0, 0, 0] = 7
    slicer.util.arrayFromVolumeModified(scan)
    (note,) = place_result(result, source).notes
    assert note.startswith("scan: its image has changed since it was segmented")


def test_the_result_of_another_scan_is_not_taken_for_this_ones(scan, result):
    source = take_volume(scan)
    moved = result.geometry.copy()
    moved[:3, 3] += 3
    with pytest.raises(ResultError, match="scan: the result belongs to another scan"):
        place_result(replace(result, geometry=moved), source)


def test_segments_of_which_nothing_was_found_are_there_and_named(scan, tmp_path):
    marks = add_segmentation(blobs(), GRID, NAMES)
    marks.GetSegmentation().AddEmptySegment("none", "Absent")
    placed = place_result(computed(scan, marks, tmp_path), scan)
    assert placed.empty == ["Absent"]
    assert [s.name for s in list_segments(placed.segmentation_id)] == [*COLOURS, "Absent"]


def test_an_error_half_way_leaves_the_scene_as_it_was(scan, result, monkeypatch):
    def fails(*_):
        raise MemoryError

    monkeypatch.setitem(place_in_steps.__globals__, "add_confidence", fails)
    before = there()
    with pytest.raises(MemoryError):
        place_result(result, scan)
    assert there() == before


@pytest.mark.parametrize("steps_taken", [1, 2])
def test_a_result_that_is_given_up_half_way_leaves_the_scene_as_it_was(scan, result, own, steps_taken):
    before = there()
    for into in (None, own[0]):
        steps = place_in_steps(result, scan, into=into)
        for _ in range(steps_taken):
            next(steps)
        steps.close()
        assert there() == before


@pytest.mark.parametrize("steps_taken", [1, 2])
def test_a_segmentation_that_is_deleted_half_way_is_named_and_nothing_stays(scan, result, steps_taken):
    before = there()
    steps = place_in_steps(result, scan)
    for _ in range(steps_taken):
        next(steps)
    slicer.mrmlScene.RemoveNode(slicer.mrmlScene.GetFirstNodeByName("scan segmentation"))
    with pytest.raises(NodeGoneError, match="scan segmentation: is no longer in the scene"):
        list(steps)
    # Slicer keeps the display node of a node that a script deletes.
    assert set(there()) - set(before) <= {"vtkMRMLSegmentationDisplayNode2"}


@pytest.mark.parametrize("steps_taken", [1, 2])
def test_a_scene_that_is_closed_half_way_stays_empty(scan, result, steps_taken):
    steps = place_in_steps(result, scan)
    for _ in range(steps_taken):
        next(steps)
    slicer.mrmlScene.Clear(0)
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(NodeGoneError):
        list(steps)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
