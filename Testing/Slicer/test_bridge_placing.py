"""Results become nodes in the right place, under the right names, and nothing of the user's is lost."""

from bridge_scene import empty_scene  # noqa: F401 - a fixture that every test uses

# isort: split
from dataclasses import replace

import numpy as np
import pytest
import slicer
from SSLFewShotLib.imaging.files import read_labels, read_volume, write_labels, write_volume
from SSLFewShotSlicer.bridge import (
    NodeGoneError,
    ResultError,
    SegmentExistsError,
    SegmentsError,
    conflicting_segments,
    list_segments,
    place_result,
    provenance_of,
    read_result,
    show_confidence,
    take_segments,
    take_volume,
)

from bridge_scene import (
    COLOURS,
    add_bent,
    add_linear,
    add_segmentation,
    add_volume,
    blobs,
    segment_array,
    terminology,
    vtk_matrix,
)

NAMES = dict(enumerate(COLOURS, start=1))
GRID = np.array([[0.9, 0.1, 0, -20], [-0.1, 1.1, 0.2, 5], [0, 0, 2.2, -14], [0, 0, 0, 1.0]])


@pytest.fixture
def scan():
    return add_volume(np.zeros(blobs().shape, np.int16), GRID, "scan")


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


# Into a segmentation that has something already


@pytest.fixture
def own():
    """The user's own segmentation: another Liver (7 voxels), and two neighbours in the same labelmap."""
    labels = np.zeros_like(blobs())
    labels[0, 0, :7] = 1
    labels[1, 1:4, :] = 2
    labels[15, 10:, 10:] = 3
    return add_segmentation(labels, GRID, {1: "Liver", 2: "Vessel", 3: "Nerve"}, "own"), labels


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


# What can happen while the worker computes


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
    from SSLFewShotSlicer.bridge import placing

    def fails(*_):
        raise MemoryError

    monkeypatch.setattr(placing, "add_confidence", fails)
    before = there()
    with pytest.raises(MemoryError):
        place_result(result, scan)
    assert there() == before
