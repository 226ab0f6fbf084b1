"""Resampling in physical space, against scipy's interpolation at the same world points."""

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.imaging import LabelMap, Segment, Volume
from SSLFewShotLib.imaging.files import read_labels, read_volume
from SSLFewShotLib.imaging.resampling import grid_like, labels_on_grid, resample, resample_labels

PERMUTATIONS = [
    np.diag(signs)[:, list(order)]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
SHEAR = np.array([[1.0, 0.2, 0.1], [0.0, 1.0, 0.3], [0.0, 0.0, 1.0]])
SHEAR /= np.linalg.norm(SHEAR, axis=0)


def rotation(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    )


def affine(axes: np.ndarray, spacing=(1.0, 1.0, 1.0), origin=(3.0, -20.0, 7.0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = axes @ np.diag(spacing)
    matrix[:3, 3] = origin
    return matrix


def world_ramp(matrix: np.ndarray, shape=(9, 10, 11)) -> Volume:
    """A scan whose value is a linear function of the world position, so that any correct sampling is known."""
    grid = Volume(np.zeros(shape), matrix)
    return grid.with_array(ramp_at(grid))


def ramp_at(grid: Volume) -> np.ndarray:
    k, j, i = np.indices(grid.array.shape[:3])
    points = grid.points_from_indices(np.stack([i, j, k], -1).reshape(-1, 3))
    return (points @ [1.0, 0.5, -0.25] + 100).reshape(grid.array.shape[:3])


def reference(volume: Volume, grid: Volume, order: int, fill: float) -> np.ndarray:
    k, j, i = np.indices(grid.array.shape[:3])
    ijk = volume.indices_from_points(grid.points_from_indices(np.stack([i, j, k], -1).reshape(-1, 3)))
    values = ndimage.map_coordinates(volume.array.astype(float), ijk[:, ::-1].T, order=order, mode="nearest")
    outside = ((ijk < -0.5) | (ijk > np.array(volume.size) - 0.5)).any(axis=1)
    return np.where(outside, fill, values).reshape(grid.array.shape[:3])


@pytest.mark.parametrize("axes", PERMUTATIONS)
def test_a_scan_resampled_to_permuted_and_flipped_axes_keeps_its_values_in_the_world(axes, rng):
    volume = Volume(rng.integers(-1000, 2000, (6, 7, 8)).astype(np.int16), affine(rotation(20), (1.0, 0.8, 2.0)))
    grid = Volume(np.zeros((9, 8, 10)), affine(rotation(20) @ axes, (0.7, 0.9, 1.1), volume.points_from_indices(
        [[3.51, 3.02, 2.53]])[0] - rotation(20) @ axes @ [3.0, 3.5, 4.0]))  # fmt: skip
    assert np.allclose(resample(volume, grid, fill=-7).array, reference(volume, grid, 1, -7), atol=1e-3)
    assert np.array_equal(resample(volume, grid, order=0, fill=-7).array, reference(volume, grid, 0, -7))


@pytest.mark.parametrize("axes", [rotation(33), SHEAR, rotation(-70) @ SHEAR, SHEAR @ np.diag([-1, 1, -1])])
@pytest.mark.parametrize("order", [0, 1])
def test_oblique_and_sheared_scans_are_sampled_where_they_are(axes, order, rng):
    volume = Volume(rng.normal(size=(8, 9, 10)), affine(axes, (1.0, 1.2, 0.9)))
    middle = volume.points_from_indices([[4.5, 4.0, 3.5]])[0]
    grid = Volume(np.zeros((7, 6, 8)), affine(rotation(11), (1.1, 0.9, 1.0), middle - 3.0))
    sampled = resample(volume, grid, order, fill=-7)
    assert np.allclose(sampled.array, reference(volume, grid, order, -7), atol=1e-6)
    assert np.array_equal(sampled.ijkToLps, grid.ijkToLps)


@pytest.mark.parametrize("axes", [np.eye(3), rotation(25), rotation(25) @ SHEAR])
@pytest.mark.parametrize("spacing", [0.6, (0.5, 1.5, 0.9)])
def test_a_linear_ramp_survives_another_spacing(axes, spacing):
    volume = world_ramp(affine(axes, (1.0, 0.9, 1.3)))
    grid = grid_like(volume, spacing)
    sampled = resample(volume, grid)
    assert np.allclose(sampled.array[2:-2, 2:-2, 2:-2], ramp_at(grid)[2:-2, 2:-2, 2:-2], atol=1e-4)


def test_a_cubic_spline_follows_a_smooth_function_closer_than_linear():
    volume = Volume(np.sin(np.indices((16, 16, 16)).sum(0) / 3.0), affine(rotation(5)))
    fine = grid_like(volume, 0.5)
    k, j, i = np.indices(fine.array.shape)
    ijk = volume.indices_from_points(fine.points_from_indices(np.stack([i, j, k], -1).reshape(-1, 3)))
    truth = np.sin(ijk.sum(1) / 3.0).reshape(fine.array.shape)
    inner = (slice(8, -8),) * 3
    error = {o: np.abs(resample(volume, fine, order=o).array - truth)[inner].max() for o in (1, 3)}
    assert error[3] < 0.2 * error[1]


@pytest.mark.parametrize("axes", [np.eye(3), rotation(25) @ SHEAR])
def test_a_grid_like_a_volume_has_the_spacing_asked_for_and_the_same_corner_and_extent(axes):
    volume = Volume(np.zeros((20, 30, 40), np.int16), affine(axes, (1.0, 2.0, 3.0)))
    grid = grid_like(volume, (2.0, 2.5, 1.5))
    assert np.allclose(grid.spacing, [2.0, 2.5, 1.5])
    assert np.allclose(grid.direction, volume.direction)
    assert grid.size == (20, 24, 40)
    assert np.allclose(grid.corners(), volume.corners())


def test_a_grid_of_a_large_scan_takes_no_memory():
    volume = Volume(np.broadcast_to(np.int16(0), (800, 512, 512)), np.eye(4))
    tracemalloc.start()
    grid = grid_like(volume, 0.5)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert grid.size == (1024, 1024, 1600)


def test_a_grid_never_has_fewer_than_one_voxel():
    assert grid_like(Volume(np.zeros((3, 3, 3)), np.eye(4)), 50).size == (1, 1, 1)


@pytest.mark.parametrize("spacing", [0, -1.0, np.nan])
def test_a_spacing_that_is_no_length_is_refused(spacing):
    with pytest.raises(InputError, match="spacing above 0 mm"):
        grid_like(Volume(np.zeros((3, 3, 3)), np.eye(4), "scan"), spacing)


@pytest.mark.parametrize("axes", [np.eye(3), rotation(0.5)], ids=["aligned", "oblique"])
def test_downsampling_smooths_a_pattern_that_the_coarse_grid_cannot_hold(axes):
    stripes = np.indices((32, 32, 32)).sum(0) % 2 * 100.0
    volume = Volume(stripes, affine(np.eye(3)))
    grid = grid_like(Volume(stripes, affine(axes)), 4.0)
    inner = (slice(1, -1),) * 3
    assert np.abs(resample(volume, grid).array[inner] - 50).max() < 1
    assert set(np.unique(resample(volume, grid, order=0, fill=0).array)) <= {0.0, 100.0}


def test_aligned_and_oblique_ways_agree_when_downsampling(rng):
    volume = Volume(ndimage.gaussian_filter(rng.normal(size=(24, 25, 26)), 2) * 100, affine(np.eye(3)))
    grid = grid_like(volume, (3.0, 2.0, 1.0))
    tilted = Volume(grid.array, grid.ijkToLps @ affine(rotation(0.05), origin=(0, 0, 0)))
    difference = resample(volume, grid).array - resample(volume, tilted).array
    assert np.abs(difference).max() < 0.3


def test_a_constant_scan_stays_constant_to_its_outer_faces():
    volume = Volume(np.full((10, 10, 10), 42, np.int16), np.eye(4))
    for spacing in (0.3, 1.0, 2.0, 5.0):
        assert np.allclose(resample(volume, grid_like(volume, spacing), fill=-1000).array, 42)


def test_outside_the_volume_lies_its_minimum_unless_a_value_is_given():
    volume = Volume(np.arange(27, dtype=np.int16).reshape(3, 3, 3) - 5, np.eye(4))
    for axes in (np.eye(3), rotation(10)):
        grid = Volume(np.zeros((2, 2, 2)), affine(axes, origin=(100, 100, 100)))
        assert (resample(volume, grid).array == -5).all()
        assert (resample(volume, grid, fill=3).array == 3).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64, bool, ">i2"])
def test_nearest_keeps_the_type_and_linear_gives_floats(kind):
    volume = Volume(np.ones((3, 3, 3), kind), np.eye(4))
    for grid in (grid_like(volume, 0.5), Volume(np.zeros((2, 2, 2)), affine(rotation(10), origin=(1, 1, 1)))):
        linear = resample(volume, grid).array
        assert linear.dtype == (np.float64 if kind is np.float64 else np.float32)
        assert (resample(volume, grid, order=0).array == 1).all()
        assert (
            resample(volume, grid, order=0).array.dtype.kind == ("u" if kind is bool else np.dtype(kind).kind)
            or kind is np.int64
        )


@pytest.mark.parametrize("axes", [np.eye(3), PERMUTATIONS[13], rotation(15) @ SHEAR])
@pytest.mark.parametrize("order", [0, 1])
def test_every_component_of_a_vector_field_is_resampled_like_a_scalar(axes, order, rng):
    field = rng.normal(size=(6, 7, 8, 5)).astype(np.float32)
    volume = Volume(field, affine(np.eye(3)))
    grid = Volume(np.zeros((5, 6, 7)), affine(axes, (0.9, 0.9, 0.9), volume.points_from_indices([[3, 3, 2]])[0]))
    sampled = resample(volume, grid, order, fill=0).array
    assert sampled.shape == (5, 6, 7, 5)
    for c in range(5):
        assert np.allclose(
            sampled[..., c], reference(Volume(field[..., c], volume.ijkToLps), grid, order, 0), atol=1e-4
        )


@pytest.mark.parametrize("axes", [np.eye(3), rotation(20)])
def test_slabs_give_the_same_as_one_piece(axes, rng, monkeypatch):
    volume = Volume(rng.normal(size=(20, 21, 22)), affine(np.eye(3)))
    grid = Volume(np.zeros((13, 12, 11)), affine(axes, (2.0, 1.5, 1.2)))
    whole = resample(volume, grid).array
    monkeypatch.setattr("SSLFewShotLib.imaging.resampling._SLAB", 100)
    assert np.allclose(resample(volume, grid).array, whole)


@pytest.mark.parametrize("axes", [np.eye(3), rotation(20)])
@pytest.mark.parametrize("order", [0, 1])
def test_resampling_can_be_cancelled(axes, order):
    volume = Volume(np.zeros((5, 5, 5)), np.eye(4))

    def cancel(fraction, message):
        raise Cancelled

    with pytest.raises(Cancelled):
        resample(volume, Volume(volume.array, affine(axes)), order, progress=cancel)


def test_a_flat_scan_of_one_slice_can_be_resampled():
    volume = Volume(np.arange(12.0).reshape(1, 3, 4), affine(np.eye(3), (1, 1, 5)))
    sampled = resample(volume, grid_like(volume, 1.0))
    assert sampled.size == (4, 3, 5)
    assert np.allclose(sampled.array, volume.array)


def test_an_order_that_does_not_exist_is_refused():
    volume = Volume(np.zeros((3, 3, 3)), np.eye(4))
    with pytest.raises(ValueError, match="order"):
        resample(volume, volume, order=2)


def layered() -> LabelMap:
    array = np.zeros((8, 8, 8, 2), np.uint8)
    array[2:6, 2:6, 2:6, 0] = 1
    array[3:7, 3:7, 3:7, 1] = 2
    segments = [Segment(1, "a", (1.0, 0.0, 0.0), "term"), Segment(2, "b")]
    return LabelMap(array, affine(np.eye(3)), "labels.seg.nrrd", segments=segments, layers={1: 0, 2: 1})


def test_resampled_labels_keep_layers_segments_and_volume():
    labels = layered()
    fine = resample_labels(labels, grid_like(labels, 0.5))
    assert fine.segments == labels.segments and fine.layers == labels.layers
    for name in ("a", "b"):
        assert fine.mask(name).sum() == 8 * labels.mask(name).sum()
        centre = fine.points_from_indices(np.argwhere(fine.mask(name))[:, ::-1]).mean(0)
        assert np.allclose(centre, labels.points_from_indices(np.argwhere(labels.mask(name))[:, ::-1]).mean(0))


def test_labels_on_the_grid_of_their_image_are_returned_as_they_are():
    labels = layered()
    assert labels_on_grid(labels, Volume(np.zeros((8, 8, 8)), labels.ijkToLps)) is labels


def test_labels_cropped_to_their_structure_are_brought_to_the_image_with_a_warning():
    image = Volume(np.zeros((20, 20, 20)), affine(rotation(30) @ SHEAR, (1, 2, 3)), "ct.nrrd")
    cropped = LabelMap(np.ones((4, 5, 6), np.uint8), image.ijkToLps.copy(), "x.seg.nrrd")
    cropped.ijkToLps[:3, 3] = image.points_from_indices([[7, 8, 9]])[0]
    with pytest.warns(InputWarning, match=r"x\.seg\.nrrd: not on the grid of ct\.nrrd"):
        labels = labels_on_grid(cropped, image)
    expected = np.zeros((20, 20, 20), bool)
    expected[9:13, 8:13, 7:13] = True
    assert labels.same_grid(image)
    assert np.array_equal(labels.mask("Segment_1"), expected)


def test_a_segment_that_is_lost_by_resampling_is_named():
    labels = LabelMap(np.zeros((8, 8, 8), np.uint8), np.eye(4), segments=[Segment(1, "big"), Segment(2, "tiny")])
    labels.array[:6] = 1
    labels.array[7, 7, 7] = 2
    image = Volume(np.zeros((6, 8, 8)), np.eye(4), "ct.nrrd")
    with pytest.warns(InputWarning, match=r"\(tiny: nothing left\)"):
        labels_on_grid(labels, image)


@pytest.mark.parametrize("shift", [(50.0, 0, 0), (0, 0, -9.0), (6.0, 0, 0)])
def test_labels_elsewhere_in_space_are_refused_by_name(shift):
    labels = layered()
    image = Volume(np.zeros((8, 8, 8)), affine(np.eye(3), origin=np.add((3.0, -20.0, 7.0), shift)), "ct.nrrd")
    with pytest.raises(InputError, match=r"labels\.seg\.nrrd.*ct\.nrrd do not overlap in space") as error:
        labels_on_grid(labels if shift[0] != 6.0 else only_the_corner(labels), image)
    assert "\n" not in str(error.value)


def only_the_corner(labels: LabelMap) -> LabelMap:
    """The grids overlap, what is marked does not."""
    array = np.zeros((8, 8, 8), np.uint8)
    array[0, 0, 0] = 1
    return LabelMap(array, labels.ijkToLps, labels.name)


@pytest.mark.realdata
def test_a_real_scan_resampled_and_back_is_nearly_the_same(real_data):
    folder = real_data / "head-neck-ct" / "labelled"
    volume = read_volume(folder / "pt_013_ct.nii.gz")
    labels = read_labels(folder / "pt_013_seg.nii.gz")
    there = resample(volume, grid_like(volume, 2.0))
    back = resample(there, volume, fill=-1024)
    assert np.abs(back.array - volume.array)[2:-2, 2:-2, 2:-2].mean() < 25
    fine = resample_labels(labels, there)
    for segment in labels.segments:
        ratio = fine.mask(segment).sum() * fine.voxel_volume / (labels.mask(segment).sum() * labels.voxel_volume)
        assert 0.8 < ratio < 1.25
