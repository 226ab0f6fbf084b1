"""Results go into what is there already, and out again, and nothing of the user's is lost."""

from bridge_results import own, result, segmentation_of, there
from bridge_scene import (
    GRID,
    add_bent,
    add_linear,
    add_segmentation,
    blobs,
    empty_scene,
    scan,
    segment_array,
    terminology,
)

# isort: split
import numpy as np
import pytest
import slicer
from SSLFewShotSlicer.bridge import (
    SegmentExistsError,
    SegmentsError,
    conflicting_segments,
    list_segments,
    place_result,
)

__all__ = ["empty_scene", "own", "result", "scan"]


def _voxels(node, scan):
    return {s.name: segment_array(node, s.segment_id, scan) for s in list_segments(node)}


def test_existing_segments_are_kept_and_new_ones_get_other_names(scan, result, own):
    node, labels = own
    placed = place_result(result, scan, into=node)
    voxels = _voxels(node, scan)
    assert list(voxels) == ["Liver", "Vessel", "Nerve", "Liver (2)", "Leber links", "脾"]
    assert placed.renamed == {"Liver": "Liver (2)"}
    for value, name in enumerate(("Liver", "Vessel", "Nerve"), start=1):
        assert np.array_equal(voxels[name], labels == value)
    assert np.array_equal(voxels["Liver (2)"], blobs() == 1)


def test_refusing_names_what_is_there_and_changes_nothing(scan, result, own):
    node, _ = own
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(SegmentExistsError, match="own: has Liver already") as refusal:
        place_result(result, scan, into=node, existing="refuse")
    assert refusal.value.names == ["Liver"] == conflicting_segments(result, node)
    assert (node.GetSegmentation().GetNumberOfSegments(), slicer.mrmlScene.GetNumberOfNodes()) == (3, count)


def test_replacing_changes_that_segments_voxels_and_nothing_else(scan, result, own):
    node, labels = own
    node.GetSegmentation().GetSegment("Id_Liver").SetColor(0.9, 0.9, 0.1)
    placed = place_result(result, scan, into=node, existing="replace")
    voxels = _voxels(node, scan)
    assert list(voxels) == ["Liver", "Vessel", "Nerve", "Leber links", "脾"]
    assert np.array_equal(voxels["Liver"], blobs() == 1)
    assert np.array_equal(voxels["Vessel"], labels == 2)
    assert np.array_equal(voxels["Nerve"], labels == 3)
    assert node.GetSegmentation().GetSegment("Id_Liver").GetColor() == (0.9, 0.9, 0.1)
    assert placed.segment_ids["Liver"] == "Id_Liver"
    assert placed.replaced == ["Liver"]


def test_a_segment_of_the_same_name_but_other_terminology_is_another_structure(scan, result, own):
    node, labels = own
    segment = node.GetSegmentation().GetSegment("Id_Liver")
    segment.SetTag(segment.GetTerminologyEntryTagName(), terminology("Liver lesion"))
    placed = place_result(result, scan, into=node, existing="replace")
    assert placed.renamed == {"Liver": "Liver (2)"}
    assert np.array_equal(_voxels(node, scan)["Liver"], labels == 1)


def test_segments_are_matched_by_name_whatever_their_order(scan, result):
    labels = np.zeros_like(blobs())
    labels[0, 0, 0], labels[0, 0, 1] = 1, 2
    node = add_segmentation(labels, GRID, {1: "脾", 2: "Liver"}, "turned")
    place_result(result, scan, into=node, existing="replace")
    assert np.array_equal(_voxels(node, scan)["脾"], blobs() == 3)
    assert np.array_equal(_voxels(node, scan)["Liver"], blobs() == 1)


def test_undo_takes_out_what_was_added_and_puts_back_what_was_replaced(scan, result, own):
    node, labels = own
    before = there()
    place_result(result, scan, into=node, existing="replace").undo()
    assert there() == before
    voxels = _voxels(node, scan)
    assert list(voxels) == ["Liver", "Vessel", "Nerve"]
    for value, name in enumerate(voxels, start=1):
        assert np.array_equal(voxels[name], labels == value)


def test_undo_of_a_new_node_leaves_the_scene_as_it_was(scan, result):
    before = there()
    placed = place_result(result, scan)
    assert len(there()) == len(before) + 4  # segmentation, confidence, and how each is displayed
    placed.undo()
    placed.undo()
    assert there() == before


def test_undo_leaves_what_the_user_added_to_the_new_node_meanwhile(scan, result):
    placed = place_result(result, scan)
    node = segmentation_of(placed)
    own = np.zeros_like(blobs())
    own[:2, :2, :2] = 1
    add_segmentation(own, GRID, {1: "mine"}, node=node)
    placed.undo()
    assert [s.name for s in list_segments(node)] == ["mine"]
    assert np.array_equal(segment_array(node, "Id_mine", scan), own > 0)


def test_undo_leaves_a_segment_that_was_painted_into_the_results_labelmap(scan, result):
    # The Segment Editor puts a new segment into a labelmap where it overlaps none.
    placed = place_result(result, scan)
    node = segmentation_of(placed)
    image = node.GetSegmentation().GetSegment(placed.segment_ids["Liver"]).GetRepresentation("Binary labelmap")
    segment = slicer.vtkSegment()
    segment.SetName("painted")
    segment.SetLabelValue(3)
    segment.AddRepresentation("Binary labelmap", image)
    node.GetSegmentation().RemoveSegment(placed.segment_ids["脾"])
    node.GetSegmentation().AddSegment(segment, "painted")
    painted = segment_array(node, "painted", scan)
    placed.undo()
    assert [s.name for s in list_segments(node)] == ["painted"]
    assert np.array_equal(segment_array(node, "painted", scan), painted)


def test_one_step_of_the_scenes_undo_takes_the_result_out(scan, result):
    slicer.mrmlScene.SetUndoOn()
    placed = place_result(result, scan)
    assert slicer.mrmlScene.GetNumberOfUndoLevels() == 1
    slicer.mrmlScene.Undo()
    assert segmentation_of(placed) is None
    assert slicer.mrmlScene.GetNodeByID(scan.GetID()) is not None


def test_into_a_segmentation_under_another_linear_transform_the_place_in_the_world_is_kept(scan, result):
    parent = add_linear(np.array([[0.0, -1, 0, 5], [1, 0.2, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]]))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "elsewhere")
    node.SetAndObserveTransformNodeID(parent.GetID())
    placed = place_result(result, scan, into=node)
    assert np.array_equal(segment_array(node, placed.segment_ids["Liver"], scan), blobs() == 1)


def test_into_a_segmentation_with_a_bent_transform_between_is_refused(scan, result):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "bent")
    node.SetAndObserveTransformNodeID(add_bent().GetID())
    with pytest.raises(SegmentsError, match="bent: a non-linear transform is between"):
        place_result(result, scan, into=node)


def test_into_a_segmentation_of_surfaces_is_refused(scan, result, own):
    node, _ = own
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    with pytest.raises(SegmentsError, match="is stored as Closed surface"):
        place_result(result, scan, into=node)
