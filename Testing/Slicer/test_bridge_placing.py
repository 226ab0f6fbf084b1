"""Results become new nodes in the right place, under the right names."""

from bridge_results import computed, result, segmentation_of
from bridge_scene import (
    COLOURS,
    GRID,
    NAMES,
    add_bent,
    add_linear,
    add_segmentation,
    blobs,
    empty_scene,
    scan,
    segment_array,
    terminology,
    vtk_matrix,
)

# isort: split
import numpy as np
import pytest
import slicer
from SSLFewShotSlicer.bridge import (
    list_segments,
    place_result,
    provenance_of,
    show_confidence,
    take_volume,
)

__all__ = ["empty_scene", "result", "scan"]


def test_a_new_node_has_the_supports_names_colours_terminology_and_order(scan, result):
    placed = place_result(result, scan)
    segments = list_segments(placed.segmentation_id)
    assert [s.name for s in segments] == list(COLOURS)
    assert [s.colour for s in segments] == list(COLOURS.values())
    assert [s.terminology for s in segments] == [terminology(name) for name in COLOURS]
    for value, name in NAMES.items():
        found = segment_array(segmentation_of(placed), placed.segment_ids[name], scan)
        assert np.array_equal(found, blobs() == value)


def test_a_new_node_refers_to_its_scan_and_is_called_after_it(scan, result):
    node = segmentation_of(place_result(result, scan))
    role = node.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReferenceID(role) == scan.GetID()
    assert node.GetName() == "scan segmentation"
    assert node.GetDisplayNode() is not None
    assert segmentation_of(place_result(result, scan)).GetName() != "scan segmentation"


def test_segments_that_do_not_overlap_share_one_labelmap(scan, result):
    contents = segmentation_of(place_result(result, scan)).GetSegmentation()
    assert contents.GetNumberOfLayers() == 1


def test_overlapping_results_keep_all_voxels(scan, tmp_path):
    marks = add_segmentation(blobs(), GRID, NAMES)
    other = np.zeros_like(blobs())
    other[3:12, 3:12, 5:13] = 1
    add_segmentation(other, GRID, {1: "over"}, node=marks)
    placed = place_result(computed(scan, marks, tmp_path), scan)
    node = segmentation_of(placed)
    assert np.array_equal(segment_array(node, placed.segment_ids["over"], scan), other > 0)
    assert np.array_equal(segment_array(node, placed.segment_ids["Liver"], scan), blobs() == 1)


@pytest.mark.parametrize("bent", [False, True])
def test_the_result_is_under_the_transform_of_its_scan(scan, tmp_path, bent):
    parent = add_bent() if bent else add_linear(np.diag([-1.0, 1.0, 1.0, 1.0]))
    marks = add_segmentation(blobs(), GRID, NAMES)
    for node in (scan, marks):
        node.SetAndObserveTransformNodeID(parent.GetID())
    result = computed(scan, marks, tmp_path)
    placed = place_result(result, scan)
    for node_id in (placed.segmentation_id, placed.confidence_id):
        assert slicer.mrmlScene.GetNodeByID(node_id).GetTransformNodeID() == parent.GetID()
    found = segment_array(segmentation_of(placed), placed.segment_ids["Liver"], scan)
    assert np.array_equal(found, blobs() == 1)


def test_a_transform_that_was_changed_meanwhile_carries_the_result_along(scan, tmp_path):
    marks = add_segmentation(blobs(), GRID, NAMES)
    source = take_volume(scan)
    result = computed(scan, marks, tmp_path)
    scan.SetAndObserveTransformNodeID(add_linear(np.diag([2.0, 1.0, -1.0, 1.0])).GetID())
    placed = place_result(result, source)
    found = segment_array(segmentation_of(placed), placed.segment_ids["Liver"], scan)
    assert np.array_equal(found, blobs() == 1)


def test_the_confidence_lies_over_the_scan_and_marks_what_is_unsure(scan, result):
    for number in range(3):
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode", f"view {number}")
    placed = place_result(result, scan)
    node = slicer.mrmlScene.GetNodeByID(placed.confidence_id)
    assert np.array_equal(slicer.util.arrayFromVolume(node), result.confidence)
    here, there = vtk_matrix(np.eye(4)), vtk_matrix(np.eye(4))
    node.GetIJKToRASMatrix(here)
    scan.GetIJKToRASMatrix(there)
    assert [here.GetElement(r, c) for r in range(4) for c in range(4)] == [
        there.GetElement(r, c) for r in range(4) for c in range(4)
    ]
    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1)
    assert display.GetApplyThreshold()
    assert display.GetUpperThreshold() < 1
    show_confidence(placed.confidence_id, 0.4)
    view = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert (view.GetForegroundVolumeID(), view.GetForegroundOpacity()) == (placed.confidence_id, 0.4)
    assert segmentation_of(placed).GetNodeReferenceID("SSLFewShot.confidence") == placed.confidence_id


def test_how_it_was_made_is_kept_with_the_node(scan, result):
    report = {
        "made_by": {"versions": {"sslfewshot": "1.2", "torch": "2.9"}, "date": "2026-01-02T03:04:05Z"},
        "segmenter": {"method": "knn", "descriptor": {"name": "gvdiff", "seed": 0}, "settings": {"k": 21}},
        "device": "cpu",
        "support": [{"image": "DOE^JOHN.nrrd", "labels": "x.seg.nrrd"}],
        "segments": [{"name": "Liver"}],
    }
    node = segmentation_of(place_result(result, scan, provenance=provenance_of(report)))
    kept = {key: node.GetAttribute(f"SSLFewShot.{key}") for key in ("Version", "Method", "Date", "Supports")}
    assert kept == {"Version": "1.2", "Method": "knn", "Date": "2026-01-02T03:04:05Z", "Supports": "1"}
    assert node.GetAttribute("SSLFewShot.Model") == "gvdiff"
    assert node.GetAttribute("SSLFewShot.Settings") == '{"k": 21}'
    assert not any("DOE" in text for text in provenance_of(report).values())
