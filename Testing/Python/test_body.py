"""The body mask and the coordinates relative to the body."""

import numpy as np
import pytest
from scipy import ndimage
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging import Volume, body
from SSLFewShotLib.imaging.body import body_box, body_coordinates, body_mask

SPACING = (3.0, 2.0, 4.0)


def torso_parts(shape=(30, 90, 80), spacing=SPACING):
    """Masks of a cylinder-like torso (semi-axes 80 and 60 mm) with a lung, and of a table below it."""
    _, j, i = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    x, y = i * spacing[0] - 120.0, j * spacing[1] - 80.0
    torso = (x / 80) ** 2 + (y / 60) ** 2 <= 1
    lung = ((x - 30) / 25) ** 2 + (y / 35) ** 2 <= 1
    table = (y >= 70) & (y <= 76)
    return torso, lung, table


def ct(**kwargs) -> tuple[Volume, np.ndarray]:
    torso, lung, table = torso_parts(**kwargs)
    array = np.full(torso.shape, -1000, np.int16)
    array[torso], array[lung], array[table] = 40, -850, 200
    return Volume.from_spacing(array, kwargs.get("spacing", SPACING)), torso


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_table_and_air_are_left_out_and_lungs_belong_to_the_body():
    volume, torso = ct()
    mask = body_mask(volume)
    _, lung, table = torso_parts()
    assert mask.dtype == bool and mask.shape == volume.array.shape
    assert not mask[table].any()
    assert mask[lung].all()
    assert overlap(mask, torso) > 0.99


def test_a_head_holder_that_touches_the_patient_is_removed_by_the_opening():
    volume, torso = ct()
    array = volume.array.copy()
    array[:, 69:72, 8:72] = 150  # a plate of 6 mm, in contact with the back at y = 60
    mask = body_mask(volume.with_array(array))
    assert mask[:, 69:72, 8:24].mean() < 0.1
    assert overlap(mask, torso) > 0.97


def test_lungs_that_the_scan_cuts_are_filled_in_the_first_and_last_slice():
    volume, torso = ct()
    mask = body_mask(volume)
    assert overlap(mask[0], torso[0]) > 0.99 and overlap(mask[-1], torso[-1]) > 0.99


def test_the_axial_axis_is_found_when_the_array_is_stored_in_another_order():
    volume, torso = ct()
    order = (2, 0, 1)
    matrix = volume.ijkToLps.copy()
    matrix[:3, :3] = volume.ijkToLps[:3, :3][:, [2 - order[2 - n] for n in range(3)]]
    turned = Volume(volume.array.transpose(order), matrix)
    assert np.array_equal(body_mask(turned), body_mask(volume).transpose(order))
    assert overlap(body_mask(turned), torso.transpose(order)) > 0.99


def test_a_noisy_mr_keeps_its_patient_and_loses_the_noise_of_the_air(rng):
    torso, _, _ = torso_parts()
    clean = np.where(torso, 400.0, 0.0)
    noisy = np.hypot(clean + rng.normal(0, 40, torso.shape), rng.normal(0, 40, torso.shape))
    mask = body_mask(Volume.from_spacing(noisy.astype(np.float32), SPACING, modality="MR"))
    assert overlap(mask, torso) > 0.97
    assert mask[~torso].mean() < 0.02


def test_an_mr_without_any_air_is_patient_everywhere(rng):
    tissue = 300 + 100 * rng.random((20, 30, 25))
    assert body_mask(Volume.from_spacing(tissue, modality="MR")).all()


def test_a_ct_crop_without_any_air_is_patient_everywhere(rng):
    assert body_mask(Volume.from_spacing(rng.normal(40, 20, (20, 30, 25)), modality="CT")).all()


@pytest.mark.parametrize("value", [0, 17.5, -1024])
def test_a_constant_image_is_patient_everywhere(value):
    assert body_mask(Volume.from_spacing(np.full((6, 7, 8), value))).all()


def test_a_field_of_vectors_is_refused():
    with pytest.raises(InputError, match="scalar image"):
        body_mask(Volume.from_spacing(np.zeros((4, 4, 4, 3))))


def test_block_means_are_the_means_also_of_the_smaller_last_blocks(rng):
    array = rng.integers(-1000, 1000, (7, 8, 9)).astype(np.int16)
    means = body._block_means(array, np.array([2, 3, 4]))
    assert means.shape == (4, 3, 3)
    assert means[1, 1, 1] == pytest.approx(array[2:4, 3:6, 4:8].mean(), rel=1e-5)
    assert means[3, 2, 2] == pytest.approx(array[6:, 6:, 8:].mean(), rel=1e-5)


def test_a_fine_scan_gets_the_mask_of_the_coarse_one_with_a_fine_rim():
    volume, torso = ct(shape=(40, 270, 240), spacing=(1.0, 2 / 3, 1.0))
    assert max(body._steps(volume)) >= 3
    mask = body_mask(volume)
    _, lung, table = torso_parts(shape=(40, 270, 240), spacing=(1.0, 2 / 3, 1.0))
    assert mask[lung].all() and not mask[table].any()
    assert overlap(mask, torso) > 0.998


@pytest.mark.parametrize("spacing", [(3.0, 2.5, 2.5), (9.0, 1.2, 0.8)])
def test_a_mask_grows_by_the_voxels_within_a_distance(spacing, rng):
    mask = rng.random((7, 12, 13)) > 0.98
    mask[0, 0, 0] = True
    distance = ndimage.distance_transform_edt(~mask, sampling=spacing)
    for radius in (0.5, 4.0, 6.5, 100.0):
        np.testing.assert_array_equal(body._grown(mask, np.array(spacing), radius), distance <= radius)


def test_air_that_is_all_near_the_patient_stays_air():
    mask = np.ones((12, 12, 12), bool)
    mask[5:7, 5:7, 5:7] = False
    assert np.array_equal(body._closed(mask, np.full(3, 2.0), 6.0), mask)


def test_the_box_is_in_lps_whatever_the_grid():
    volume, _ = ct()
    expected = np.array([[40.0, 20.0, 0.0], [200.0, 140.0, 116.0]])
    assert np.allclose(body_box(volume), expected, atol=12)
    flipped = Volume(volume.array[:, ::-1, ::-1], volume.ijkToLps.copy())
    flipped.ijkToLps[:3, :3] *= [-1, -1, 1]
    flipped.ijkToLps[:3, 3] = volume.points_from_indices([[79, 89, 0]])[0]
    assert np.allclose(body_box(flipped), body_box(volume))


def test_body_coordinates_do_not_change_when_the_patient_is_moved_and_scaled():
    volume, _ = ct()
    point = volume.points_from_indices([[50, 40, 20], [30, 30, 3]])
    moved = Volume(volume.array, volume.ijkToLps.copy())
    moved.ijkToLps[:3] *= 1.25
    moved.ijkToLps[:3, 3] += [30, -80, 500]
    mask = body_mask(volume)
    there = body_coordinates(moved, moved.points_from_indices([[50, 40, 20], [30, 30, 3]]), mask)
    assert np.allclose(body_coordinates(volume, point, mask), there)
    assert np.allclose(body_coordinates(volume, body_box(volume, mask), mask), [[0, 0, 0], [1, 1, 1]])


def test_coordinates_are_finite_for_a_single_slice_and_for_an_empty_mask():
    volume = Volume.from_spacing(np.zeros((1, 5, 5)))
    centre = volume.points_from_indices([[2, 2, 0]])
    assert np.allclose(body_coordinates(volume, centre), 0.5)
    assert np.allclose(body_coordinates(volume, centre, np.zeros((1, 5, 5), bool)), 0.5)


@pytest.mark.realdata
def test_the_labelled_structures_of_a_real_scan_lie_in_its_body(real_data):
    sitk = pytest.importorskip("SimpleITK")
    for case in ("013", "087", "157"):
        folder = real_data / "head-neck-ct" / "labelled"
        image = sitk.ReadImage(str(folder / f"pt_{case}_ct.nii.gz"))
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"pt_{case}_seg.nii.gz")))
        mask = body_mask(Volume.from_spacing(sitk.GetArrayFromImage(image), image.GetSpacing()))
        assert mask[labels > 0].mean() > 0.99
        assert 0.1 < mask.mean() < 0.5
