"""Boxes in physical space, Slicer's ROI files, and what a crop keeps of a scan."""

import json

import numpy as np
import pytest
from command_line import patient
from hypothesis import given, settings
from hypothesis import strategies as st
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.box import Box, grid_axes
from SSLFewShotLib.imaging.crop import crop, crop_range
from SSLFewShotLib.imaging.roi_files import read_roi, write_roi

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def scan(axes=None, spacing=(2.0, 3.0, 4.0), origin=(10.0, -20.0, 30.0), size=(20, 16, 12)) -> Volume:
    array = np.arange(np.prod(size), dtype=np.int32).reshape(size[::-1])
    return Volume.from_spacing(array, spacing, origin, axes, name="made")


def test_a_box_around_points_along_turned_axes_touches_them():
    points = np.array([[0.0, 0, 0], [4, 3, 0], [4, 3, 5]])
    box = Box.around(points, TURN)
    assert box.size == pytest.approx([5, 1e-6, 5], abs=1e-9) or np.allclose(box.size, [5, 0, 5], atol=1e-5)
    assert box.holds(points).all() and not box.holds(points + np.array([0, 0, 1])).all()


def test_a_left_handed_set_of_axes_becomes_right_handed_and_the_box_stays():
    left = np.diag([1.0, 1.0, -1.0])
    box = Box([1, 2, 3], [4, 5, 6], left)
    assert np.linalg.det(box.axes) == pytest.approx(1)
    assert sorted(map(tuple, box.corners())) == sorted(map(tuple, Box([1, 2, 3], [4, 5, 6]).corners()))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"centre": [0, 0, np.nan], "size": [1, 1, 1]}, "finite"),
        ({"centre": [0, 0, 0], "size": [1, 0, 1]}, "above 0 mm"),
        ({"centre": [0, 0], "size": [1, 1, 1]}, "three numbers"),
        ({"centre": [0, 0, 0], "size": [1, 1, 1], "axes": np.ones((3, 3))}, "right angles"),
    ],
)
def test_what_is_no_box_is_refused_in_words(values, said):
    with pytest.raises(InputError, match=said):
        Box(**values)


def test_a_box_is_the_same_after_a_trip_through_json():
    box = Box([1.5, -2, 3], [4, 5, 6], TURN, "liver", 0.25)
    again = Box.from_dict(json.loads(json.dumps(box.to_dict())))
    assert np.allclose(again.corners(), box.corners(), atol=1e-6)
    assert (again.name, again.certainty) == ("liver", 0.25)


def test_what_is_no_box_in_json_is_refused():
    for values in (None, {}, {"centre": [0, 0, 0]}, {"centre": "abc", "size": [1, 1, 1]}):
        with pytest.raises(InputError):
            Box.from_dict(values)


def test_the_part_of_a_box_within_a_scan_ends_at_its_outer_faces():
    volume = scan()
    whole = Box.of_grid(volume)
    assert np.allclose(whole.size, [40, 48, 48])
    assert np.allclose(whole.grown(100).clipped(volume).corners(), whole.corners())
    assert Box(whole.centre + 500, [10, 10, 10]).clipped(volume) is None


def test_axes_of_a_sheared_grid_are_the_nearest_ones_at_right_angles():
    shear = np.eye(3)
    shear[0, 2] = 0.3
    axes = grid_axes(scan(shear / np.linalg.norm(shear, axis=0)))
    assert np.allclose(axes.T @ axes, np.eye(3)) and axes[2, 2] > 0.95


def test_a_roi_file_holds_what_slicer_reads_and_comes_back(tmp_path):
    box = Box([1, 2, 3], [4, 5, 6], TURN, "Brainstem", 0.9)
    write_roi(box, tmp_path / "a.mrk.json")
    (markup,) = json.loads((tmp_path / "a.mrk.json").read_text())["markups"]
    assert markup["type"] == "ROI" and markup["roiType"] == "Box" and markup["coordinateSystem"] == "LPS"
    assert markup["center"] == [1, 2, 3] and markup["size"] == [4, 5, 6] and markup["insideOut"] is False
    # Axes are the columns: the first one is (0.8, 0.6, 0).
    assert markup["orientation"][0::3] == [0.8, 0.6, 0]
    again = read_roi(tmp_path / "a.mrk.json")
    assert np.allclose(again.corners(), box.corners()) and again.name == "Brainstem"
    with pytest.raises(InputError, match="exists already"):
        write_roi(box, tmp_path / "a.mrk.json")


def test_a_roi_in_ras_is_the_same_box(tmp_path):
    box = Box([1, 2, 3], [4, 5, 6], TURN)
    turn = np.diag([-1.0, -1, 1])
    markup = {
        "type": "ROI",
        "coordinateSystem": "RAS",
        "orientation": (turn @ TURN).ravel().tolist(),
        "size": [4, 5, 6],
        "controlPoints": [{"position": [-1, -2, 3]}],
    }
    (tmp_path / "r.mrk.json").write_text(json.dumps({"markups": [{"type": "Line"}, markup]}))
    again = read_roi(tmp_path / "r.mrk.json")
    assert np.allclose(sorted(map(tuple, again.corners())), sorted(map(tuple, box.corners())))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a readable"),
        ("[]", "not a readable"),
        ('{"markups": [{"type": "Line"}]}', "holds no ROI"),
        ('{"markups": [{"type": "ROI", "center": [1, 2]}]}', "no place or size"),
        ('{"markups": [{"type": "ROI", "center": [1, 2, 3], "size": [1, 2, -3]}]}', "above 0"),
    ],
)
def test_a_damaged_roi_file_is_refused(tmp_path, content, said):
    (tmp_path / "x.mrk.json").write_text(content)
    with pytest.raises(InputError, match=said):
        read_roi(tmp_path / "x.mrk.json")


def test_a_crop_keeps_every_voxel_whose_centre_lies_in_the_box():
    volume = scan()
    # From the centre of voxel (3, 4, 5) to that of (7, 6, 9).
    low, high = volume.points_from_indices([[3, 4, 5], [7, 6, 9]])
    part = crop_range(volume, Box((low + high) / 2, high - low))
    assert part.first == (3, 4, 5) and part.size == (5, 3, 5)
    smaller = crop_range(volume, Box((low + high) / 2, high - low - 0.01))
    assert smaller.first == (4, 5, 6) and smaller.size == (3, 1, 3)
    assert part.to_dict(4)["saved"] == pytest.approx(1 - 75 / 3840, abs=1e-4)


def test_a_crop_is_the_same_voxels_at_the_same_places():
    for geometry in ("axial", "oblique", "sheared"):
        volume, _ = patient(0, geometry=geometry)
        middle = volume.points_from_indices([np.array(volume.size) / 2])[0]
        part = crop_range(volume, Box(middle, [90, 70, 80]))
        small = crop(volume, Box(middle, [90, 70, 80]))
        assert small.size == part.size and small.array.dtype == volume.array.dtype
        assert np.array_equal(small.array, volume.array[part.slices])
        here = np.array([[0, 0, 0], [2, 1, 3]])
        assert np.allclose(
            small.points_from_indices(here), volume.points_from_indices(here + np.array(part.first)), atol=1e-9
        )


@settings(max_examples=60, deadline=None)
@given(
    centre=st.tuples(*[st.floats(-10, 60)] * 3), size=st.tuples(*[st.floats(0.1, 60)] * 3), turned=st.booleans()
)
def test_no_voxel_of_the_box_is_ever_lost(centre, size, turned):
    volume = scan(TURN if turned else None)
    box = Box(volume.origin + np.array(centre), size)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in volume.size), indexing="ij"), axis=-1).reshape(-1, 3)
    inside = grid[box.holds(volume.points_from_indices(grid))]
    if not len(inside):
        return
    part = crop_range(volume, box)
    assert (inside >= part.first).all() and (inside < np.array(part.first) + part.size).all()


def test_a_box_beside_the_scan_is_refused_by_name():
    with pytest.raises(InputError, match="box elsewhere lies outside of this scan"):
        crop(scan(), Box([1e4, 0, 0], [10, 10, 10], name="elsewhere"))


def test_a_box_thinner_than_a_voxel_keeps_the_voxel_it_lies_in():
    volume = scan()
    point = volume.points_from_indices([[3.3, 4.4, 5.2]])[0]
    assert crop_range(volume, Box(point, [0.01, 0.01, 0.01])).size == (1, 1, 1)
