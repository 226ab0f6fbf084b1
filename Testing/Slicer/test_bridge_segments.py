"""Segmentation nodes become label files that the library reads: every name, colour, terminology and overlap."""

from bridge_scene import (
    COLOURS,
    GRID,
    NAMES,
    add_bent,
    add_linear,
    add_segmentation,
    add_volume,
    blobs,
    empty_scene,
    oriented,
    scan,
    segment_array,
    terminology,
)

# isort: split
import numpy as np
import pytest
import slicer
import vtk
from SSLFewShotLib.imaging.files import read_labels
from SSLFewShotSlicer.bridge import SegmentsError, list_segments, take_segments

__all__ = ["empty_scene", "scan"]


@pytest.fixture
def marks():
    return add_segmentation(blobs(), GRID, NAMES)


def written(source, tmp_path):
    source.write(tmp_path / "labels.seg.nrrd")
    return read_labels(tmp_path / "labels.seg.nrrd")


def test_names_colours_terminology_and_ids_arrive_exactly(scan, marks, tmp_path):
    labels = written(take_segments(marks, scan), tmp_path)
    assert [s.name for s in labels.segments] == list(COLOURS)
    assert [s.colour for s in labels.segments] == list(COLOURS.values())
    assert [s.terminology for s in labels.segments] == [terminology(name) for name in COLOURS]
    assert [s.tags["ID"] for s in labels.segments] == [f"Id_{name}" for name in COLOURS]
    assert np.array_equal(labels.array, blobs())


def test_segments_are_listed_as_they_are_shown(marks):
    marks.GetDisplayNode().SetSegmentVisibility("Id_脾", False)
    listed = list_segments(marks)
    assert [(s.segment_id, s.name, s.visible) for s in listed] == [
        ("Id_Liver", "Liver", True), ("Id_Leber links", "Leber links", True), ("Id_脾", "脾", False),
    ]  # fmt: skip
    assert listed[0].colour == COLOURS["Liver"]
    assert listed[0].terminology == terminology("Liver")


def test_hidden_segments_are_taken_unless_only_visible_ones_are_wanted(scan, marks, tmp_path):
    marks.GetDisplayNode().SetSegmentVisibility("Id_Liver", False)
    assert len(take_segments(marks, scan).segments) == 3
    labels = written(take_segments(marks, scan, visible_only=True), tmp_path)
    assert [s.name for s in labels.segments] == ["Leber links", "脾"]


def test_chosen_segments_alone_are_written_in_the_order_they_were_chosen(scan, marks, tmp_path):
    labels = written(take_segments(marks, scan, ["Id_脾", "Id_Liver"]), tmp_path)
    assert [s.name for s in labels.segments] == ["脾", "Liver"]
    assert np.array_equal(labels.mask("Liver"), blobs() == 1)
    assert (labels.array > 0).sum() == np.isin(blobs(), [1, 3]).sum()


def test_overlapping_segments_keep_all_of_their_voxels(scan, marks, tmp_path):
    other = np.zeros_like(blobs())
    other[3:12, 3:12, 5:13] = 1
    add_segmentation(other, GRID, {1: "over"}, node=marks)
    labels = written(take_segments(marks, scan), tmp_path)
    assert labels.overlapping
    assert np.array_equal(labels.mask("over"), other > 0)
    assert all(np.array_equal(labels.mask(name), blobs() == value) for value, name in NAMES.items())


def test_labelmaps_that_do_not_overlap_share_a_layer(scan, marks, tmp_path):
    other = np.zeros_like(blobs())
    other[14:, 14:, 14:] = 1
    add_segmentation(other, GRID, {1: "apart"}, node=marks)
    labels = written(take_segments(marks, scan), tmp_path)
    assert not labels.overlapping
    assert np.array_equal(labels.mask("apart"), other > 0)


def test_a_cropped_labelmap_lands_in_its_place(scan, tmp_path):
    node = add_segmentation(blobs()[5:, 1:17, 3:], GRID, NAMES, corner=(3, 1, 5))
    labels = written(take_segments(node, scan), tmp_path)
    expected = np.zeros_like(blobs())
    expected[5:, 1:17, 3:] = blobs()[5:, 1:17, 3:]
    assert np.array_equal(labels.array, expected)


def test_a_labelmap_that_reaches_beyond_the_scan_is_cut_off(tmp_path):
    small = add_volume(np.zeros((8, 9, 10), np.int16), GRID)
    node = add_segmentation(blobs(), GRID, NAMES)
    labels = written(take_segments(node, small), tmp_path)
    assert np.array_equal(labels.array, blobs()[:8, :9, :10])


def test_a_mirrored_and_transposed_labelmap_is_copied_voxel_by_voxel(scan, tmp_path):
    # As from a DICOM SEG whose slices are stored the other way round.
    turned = np.ascontiguousarray(blobs().transpose(1, 0, 2)[::-1])
    size = blobs().shape
    to_scan = np.array([[1, 0, 0, 0], [0, 0, -1, size[1] - 1], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    source = take_segments(add_segmentation(turned, GRID @ to_scan, NAMES), scan)
    assert source.notes == []
    assert np.array_equal(written(source, tmp_path).array, blobs())


def test_a_labelmap_on_another_grid_is_resampled_as_slicer_does_and_the_user_is_told(scan, tmp_path):
    fine = GRID @ np.diag([0.5, 0.5, 0.5, 1.0])
    fine[:3, 3] += 0.3
    node = add_segmentation(blobs().repeat(2, 0).repeat(2, 1).repeat(2, 2), fine, NAMES)
    source = take_segments(node, scan)
    assert "were resampled" in source.notes[0]
    labels = written(source, tmp_path)
    for name in COLOURS:
        assert np.array_equal(labels.mask(name), segment_array(node, f"Id_{name}", scan))
        assert labels.mask(name).any()


def test_a_bent_transform_between_scan_and_segmentation_is_followed_as_slicer_does(scan, marks, tmp_path):
    marks.SetAndObserveTransformNodeID(add_bent().GetID())
    labels = written(take_segments(marks, scan), tmp_path)
    moved = 0
    for name in COLOURS:
        assert np.array_equal(labels.mask(name), segment_array(marks, f"Id_{name}", scan))
        moved += int((labels.mask(name) != (blobs() == labels.segment(name).value)).sum())
    assert moved > 50


def test_the_same_bent_transform_above_both_moves_nothing(scan, marks, tmp_path):
    bent = add_bent().GetID()
    for node in (scan, marks):
        node.SetAndObserveTransformNodeID(bent)
    assert np.array_equal(written(take_segments(marks, scan), tmp_path).array, blobs())


@pytest.mark.parametrize("low_high", [(-108, 108), (0, 216)])
def test_a_fractional_labelmap_is_cut_at_half(scan, tmp_path, low_high):
    low, high = low_high
    half = (low + high) / 2
    values = np.full(blobs().shape, low, np.int16)
    values[blobs() == 1] = high
    values[9:14, 2:5, 10:18] = np.int16(half)
    values[8:12, 8:16, 1:4] = np.int16(half - 1)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "fractions")
    image = oriented(values, GRID)
    limits = vtk.vtkDoubleArray()
    limits.SetName(slicer.vtkSegmentationConverter.GetScalarRangeFieldName())
    limits.InsertNextValue(low)
    limits.InsertNextValue(high)
    image.GetFieldData().AddArray(limits)
    node.GetSegmentation().SetSourceRepresentationName("Fractional labelmap")
    segment = slicer.vtkSegment()
    segment.SetName("soft")
    segment.AddRepresentation("Fractional labelmap", image)
    node.GetSegmentation().AddSegment(segment, "soft")
    labels = written(take_segments(node, scan), tmp_path)
    assert np.array_equal(labels.mask("soft"), values >= half)
    assert labels.mask("soft")[10, 3, 12]
    assert not labels.mask("soft")[9, 9, 2]


def _ball(node, centre, radius, name="ball"):
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(centre)
    sphere.SetRadius(radius)
    sphere.SetThetaResolution(40)
    sphere.SetPhiResolution(40)
    sphere.Update()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), name)


@pytest.mark.parametrize("moved", [False, True])
def test_a_closed_surface_is_filled_on_the_scans_grid_and_its_node_is_left_alone(tmp_path, moved):
    spacing = np.diag([1.0, 1.5, 2.0, 1.0])
    shift = np.eye(4)
    shift[:3, 3] = (7, -3, 5) if moved else 0
    scan = add_volume(np.zeros((24, 30, 40), np.int16), spacing)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surfaces")
    _ball(node, np.array([18.0, 22.0, 21.0]) - shift[:3, 3], 9.0)
    if moved:
        node.SetAndObserveTransformNodeID(add_linear(shift).GetID())
    labels = written(take_segments(node, scan), tmp_path)
    k, j, i = np.indices((24, 30, 40))
    distance = np.sqrt((i - 18) ** 2 + (1.5 * j - 22) ** 2 + (2 * k - 21) ** 2)
    # The polyhedron lies a little within the sphere.
    assert not labels.mask("ball")[distance > 9.0].any()
    assert labels.mask("ball")[distance < 8.8].all()
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")


def test_empty_segments_are_named_and_do_not_stop_the_others(scan, marks, tmp_path):
    node = marks
    node.GetSegmentation().AddEmptySegment("blank", "Blank")
    source = take_segments(node, scan)
    labels = written(source, tmp_path)
    assert source.empty == ["Blank"]
    assert np.array_equal(labels.mask("Liver"), blobs() == 1)


def test_nothing_but_empty_segments_is_refused(scan, marks, tmp_path):
    marks.GetSegmentation().AddEmptySegment("blank", "Blank")
    with pytest.raises(SegmentsError, match="marks: no voxel of scan is marked in Blank"):
        take_segments(marks, scan, ["blank"]).write(tmp_path / "labels.seg.nrrd")
    assert not (tmp_path / "labels.seg.nrrd").exists()


def test_marks_that_lie_elsewhere_than_the_scan_are_refused(marks, tmp_path):
    far = GRID.copy()
    far[:3, 3] += 500
    scan = add_volume(np.zeros((5, 5, 5), np.int16), far, "elsewhere")
    with pytest.raises(SegmentsError, match="check that both lie in the same place"):
        take_segments(marks, scan).write(tmp_path / "labels.seg.nrrd")


def test_a_segmentation_without_segments_is_refused(scan):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "bare")
    with pytest.raises(SegmentsError, match="bare: has no segment"):
        take_segments(node, scan)


def test_choosing_nothing_and_choosing_what_is_gone_are_told_apart(scan, marks):
    with pytest.raises(SegmentsError, match="no segment is chosen"):
        take_segments(marks, scan, [])
    with pytest.raises(SegmentsError, match="has no segment Id_x any more"):
        take_segments(marks, scan, ["Id_x"])


def test_two_segments_of_one_name_are_refused(scan, marks):
    marks.GetSegmentation().GetSegment("Id_脾").SetName("Liver")
    with pytest.raises(SegmentsError, match="several segments are called Liver"):
        take_segments(marks, scan)


def test_more_than_255_segments_are_written(tmp_path):
    scan = add_volume(np.zeros((2, 10, 30), np.int16))
    labels = np.arange(600).reshape(2, 10, 30).astype(np.int16)
    labels[labels > 300] = 0
    node = add_segmentation(labels, names={value: f"s{value}" for value in range(1, 301)})
    assert np.array_equal(written(take_segments(node, scan), tmp_path).array, labels)


def test_what_was_taken_does_not_change_with_the_users_next_stroke(scan, marks, tmp_path):
    source = take_segments(marks, scan)
    image = marks.GetSegmentation().GetSegment("Id_Liver").GetRepresentation("Binary labelmap")
    image.GetPointData().GetScalars().Fill(0)
    assert np.array_equal(written(source, tmp_path).array, blobs())
