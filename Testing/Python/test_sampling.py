"""From a scan in physical space to patches: preparation, extents, intensities, and reading patches."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity, modality_of
from SSLFewShotLib.sampling.patches import PLANE_AXES, cubic_patches, planar_patches
from SSLFewShotLib.sampling.preparation import Preparation, PreparedScan
from stored_waves import storages, stored, waves

AS_STORED = Intensity("window", -1.0, 1.0)  # [-1, 1] to [-1, 1]


def prepared(values: np.ndarray, body: np.ndarray | None = None, spacing: float = 1.0) -> PreparedScan:
    body = np.ones(values.shape, bool) if body is None else body
    return PreparedScan(
        torch.from_numpy(values.astype(np.float32)),
        torch.from_numpy(body),
        np.zeros(3),
        np.full(3, spacing),
        np.full(3, 60.0),
    )


def expected_samples(values: np.ndarray, position: np.ndarray, axes: dict[int, np.ndarray]) -> np.ndarray:
    """scipy's linear interpolation at `position` (i, j, k) plus offsets along its axes, borders repeated.

    axes: offsets along i (0), j (1) and k (2), in the order of the result's dimensions.
    """
    shifts = np.meshgrid(*axes.values(), indexing="ij")
    at = [position[axis] + (shifts[list(axes).index(axis)]) for axis in (2, 1, 0)]
    return ndimage.map_coordinates(values, at, order=1, mode="nearest")


def run(size: int) -> np.ndarray:
    return np.arange(size) - (size - 1) / 2


@pytest.fixture
def three_scans(rng) -> list[np.ndarray]:
    return [rng.normal(size=shape).astype(np.float32) for shape in ((14, 9, 11), (6, 17, 8), (3, 4, 5))]


def random_places(rng, scans) -> tuple[np.ndarray, np.ndarray]:
    """Scan numbers and positions in, at and beyond the borders, on whole voxels too."""
    which = rng.integers(len(scans), size=60)
    sizes = np.array([scans[n].shape[::-1] for n in which])
    positions = rng.uniform(-4, sizes + 4)
    positions[:10] = np.round(positions[:10])
    positions[10:12] = [[-50, 60, -70], [500, -400, 300]]
    return which, positions


@pytest.mark.parametrize("normal", [0, 1, 2])
@pytest.mark.parametrize("size", [6, 7])
def test_planar_patches_are_scipys_linear_interpolation_also_beyond_the_borders(rng, three_scans, normal, size):
    which, positions = random_places(rng, three_scans)
    slices = (-1.3, 0.0, 1.3)
    batch = ScanBatch([prepared(scan) for scan in three_scans])
    patches = planar_patches(
        batch, torch.tensor(which), torch.tensor(positions, dtype=torch.float32), normal, size, slices
    )
    assert patches.shape == (60, 3, size, size) and patches.dtype == torch.float32
    rows, columns = PLANE_AXES[normal]
    assert {normal, rows, columns} == {0, 1, 2}
    for patch, scan, position in zip(patches, which, positions.astype(np.float32), strict=True):
        offsets = {normal: np.array(slices), rows: run(size), columns: run(size)}
        expected = expected_samples(three_scans[scan], position, offsets)
        np.testing.assert_allclose(patch, expected, atol=2e-5)


def test_slice_offsets_can_differ_from_patch_to_patch(three_scans):
    batch = ScanBatch([prepared(scan) for scan in three_scans])
    positions = torch.tensor([[4.0, 5.0, 6.0], [4.0, 5.0, 6.0]])
    which = torch.zeros(2, dtype=torch.int64)
    both = planar_patches(batch, which, positions, 2, 4, torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    for row, offsets in enumerate(((0.0, 1.0), (2.0, 3.0))):
        alone = planar_patches(batch, which[:1], positions[:1], 2, 4, offsets)
        assert torch.equal(both[row], alone[0])


@pytest.mark.parametrize("size", [4, 5])
def test_cubes_are_scipys_linear_interpolation_also_beyond_the_borders(rng, three_scans, size):
    which, positions = random_places(rng, three_scans)
    batch = ScanBatch([prepared(scan) for scan in three_scans])
    cubes = cubic_patches(batch, torch.tensor(which), torch.tensor(positions, dtype=torch.float32), size)
    assert cubes.shape == (60, 1, size, size, size)
    for cube, scan, position in zip(cubes, which, positions.astype(np.float32), strict=True):
        expected = expected_samples(three_scans[scan], position, {2: run(size), 1: run(size), 0: run(size)})
        np.testing.assert_allclose(cube[0], expected, atol=2e-5)


@pytest.mark.parametrize("storage", storages())
def test_a_patch_shows_the_same_part_of_the_world_however_the_scan_is_stored(storage):
    scan = Preparation(Extent("mm", 40.0), AS_STORED, 0.05)(stored(storage))
    batch = ScanBatch([scan])
    centre = np.array([[17.3, -36.1, 66.6]])
    position = torch.tensor(scan.indices(centre), dtype=torch.float32)
    which = torch.zeros(1, dtype=torch.int64)
    for normal, (rows, columns) in PLANE_AXES.items():
        patch = planar_patches(batch, which, position, normal, 20, (-1.5, 0.0, 1.5))[0]
        s, r, c = np.meshgrid([-1.5, 0.0, 1.5], run(20), run(20), indexing="ij")
        points = np.broadcast_to(centre[0], (*s.shape, 3)).copy()
        points[..., normal] += 2.0 * s
        points[..., rows] += 2.0 * r
        points[..., columns] += 2.0 * c
        assert np.abs(patch.numpy() - waves(points)).max() < 0.02
    cube = cubic_patches(batch, which, position, 15)[0, 0]
    k, j, i = np.meshgrid(run(15), run(15), run(15), indexing="ij")
    assert np.abs(cube.numpy() - waves(centre[0] + 2.0 * np.stack([i, j, k], axis=-1))).max() < 0.02


@pytest.mark.parametrize("storage", storages())
def test_a_bright_dot_is_found_at_its_place_in_lps_mm(storage):
    dot = np.array([31.0, -52.0, 60.0])
    volume = stored(storage, lambda points: np.exp(-((points - dot) ** 2).sum(axis=-1) / (2 * 6.0**2)))
    scan = Preparation(Extent("mm", 50.0), AS_STORED, 0.04)(volume)
    weights = scan.values.numpy() - scan.values.numpy().min()
    weights[weights < 0.2] = 0
    where = np.array(ndimage.center_of_mass(weights))[::-1]
    np.testing.assert_allclose(where, scan.indices(dot[None])[0], atol=0.1)
    np.testing.assert_allclose(scan.origin + where * scan.spacing, dot, atol=0.2)


@pytest.mark.parametrize("storage", storages())
def test_the_prepared_grid_covers_the_scan_and_no_more(storage):
    volume = stored(storage)
    scan = Preparation(Extent("mm", 50.0), AS_STORED, 0.04)(volume)
    low = scan.origin - scan.spacing / 2
    high = low + scan.spacing * scan.values.shape[::-1]
    corners = volume.corners()
    np.testing.assert_allclose(scan.spacing, 2.0)
    np.testing.assert_allclose(low, corners.min(axis=0), atol=0.5 * 2.0)
    np.testing.assert_allclose(high, corners.max(axis=0), atol=0.5 * 2.0)


def test_a_normalised_extent_gives_scans_of_any_size_the_same_number_of_samples():
    preparation = Preparation(Extent("normalised"), AS_STORED, 0.05)
    for side in ((80.0, 120.0, 60.0), (300.0, 40.0, 90.0)):
        volume = Volume.from_spacing(np.zeros((30, 40, 50), np.float32), tuple(np.array(side) / (50, 40, 30)))
        scan = preparation(volume)
        assert scan.values.shape == (40, 40, 40)
        np.testing.assert_allclose(scan.unit, np.array(side) / 2)
        np.testing.assert_allclose(scan.spacing, np.array(side) / 40)


def test_a_step_of_the_prepared_grid_is_one_step_of_a_patch_in_units():
    scan = Preparation(Extent("mm", 80.0), AS_STORED, 0.025)(stored("axial"))
    np.testing.assert_allclose(scan.spacing, 0.025 * 80.0)
    np.testing.assert_allclose(scan.unit, 80.0)


def test_fine_noise_is_smoothed_away_before_a_coarser_grid_is_read(rng):
    noise = rng.choice([-1.0, 1.0], size=(60, 60, 60)).astype(np.float32)
    scan = Preparation(Extent("mm", 60.0), AS_STORED, 0.1)(Volume.from_spacing(noise))
    assert scan.values.std() < 0.2


def test_an_extent_far_too_small_for_the_scan_is_refused_before_memory_runs_out():
    volume = Volume.from_spacing(np.zeros((40, 40, 40), np.int16), (10.0, 10.0, 10.0), name="trunk")
    with pytest.raises(InputError, match=r"trunk: .* extent"):
        Preparation(Extent("mm", 1.0), AS_STORED, 0.02)(volume)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("intensity", [AS_STORED, Intensity("zscore")])
def test_a_scan_with_voxels_that_are_no_numbers_is_refused_by_name(rng, wrong, intensity):
    array = rng.normal(size=(12, 12, 12)).astype(np.float32)
    array[5, 6, 7] = wrong
    with pytest.raises(InputError, match="holed: holds NaN or infinite voxels"):
        Preparation(Extent("mm", 20.0), intensity, 0.05)(Volume.from_spacing(array, name="holed"))


def test_central_positions_fill_the_central_half_of_each_scan_evenly(rng):
    scans = [prepared(np.zeros((40, 20, 10))), prepared(np.zeros((5, 50, 100)))]
    which = rng.integers(2, size=4000)
    positions = ScanBatch(scans).draw_central_positions(which, rng)
    for number, scan in enumerate(scans):
        size = np.array(scan.values.shape[::-1])
        normalised = (positions[which == number] - (size - 1) / 2) / (size / 2)
        assert np.abs(normalised).max() <= 0.5
        np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=0.03)
        np.testing.assert_allclose(normalised.std(axis=0), 1 / np.sqrt(12), atol=0.02)


def test_body_positions_lie_in_the_body_of_their_own_scan_and_fill_it_evenly(rng):
    bodies = [np.zeros((12, 10, 8), bool), np.zeros((6, 9, 15), bool)]
    bodies[0][3:9, 2:4, 5:7] = True
    bodies[1][1, 4:8, 0:12] = True
    batch = ScanBatch([prepared(np.zeros(body.shape), body) for body in bodies])
    which = rng.integers(2, size=3000)
    positions = batch.draw_body_positions(which, rng)
    voxels = np.round(positions).astype(int)[:, ::-1]
    for number, body in enumerate(bodies):
        found = voxels[which == number]
        assert body[tuple(found.T)].all()
        counts = np.unique(found, axis=0, return_counts=True)[1]
        assert len(counts) == body.sum() and counts.min() > 0.3 * counts.mean()


def test_a_scan_without_a_body_is_drawn_from_all_over(rng):
    batch = ScanBatch([prepared(np.zeros((4, 4, 4)), np.zeros((4, 4, 4), bool))])
    positions = batch.draw_body_positions(np.zeros(500, int), rng)
    assert positions.min() < 0 and positions.max() > 3
    assert positions.min() >= -0.5 and positions.max() <= 3.5


def test_the_unit_suited_to_a_trunk_is_120_mm_and_to_a_cropped_organ_three_quarters_of_its_side():
    trunk = Volume.from_spacing(np.zeros((40, 40, 40), np.int16), (10.0, 10.0, 10.0))
    organ = Volume.from_spacing(np.zeros((40, 40, 40), np.int16))
    assert Extent.suited_to(trunk) == Extent("mm", 120.0)
    assert Extent.suited_to(organ) == Extent("mm", 30.0)


@pytest.mark.parametrize("unit, scale", [("cm", 1.0), ("mm", 0.0), ("mm", -3.0), ("mm", float("nan"))])
def test_an_extent_that_means_nothing_is_refused(unit, scale):
    with pytest.raises(InputError, match="extent"):
        Extent(unit, scale)


def test_a_ct_window_maps_its_ends_to_minus_one_and_one_and_clips_beyond():
    array = np.array([[[-2000, -500, 250, 1000, 3000]]], np.int16)
    values = Intensity.for_modality("CT").apply(array, np.ones(array.shape, bool))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values.ravel(), [-1, -1, 0, 1, 1])


def test_a_z_score_is_taken_inside_the_body_and_does_not_see_scanner_units(rng):
    body = np.zeros((20, 20, 20), bool)
    body[4:16, 4:16, 4:16] = True
    image = np.where(body, rng.normal(300, 40, body.shape), 0)
    intensity = Intensity.for_modality("MR")
    values = intensity.apply(image, body)
    assert abs(values[body].mean()) < 1e-4 and abs(values[body].std() - 1) < 1e-3
    np.testing.assert_allclose(intensity.apply(7.5 * image + 11, body), values, atol=1e-4)
    more_air = np.pad(image, 10), np.pad(body, 10)
    np.testing.assert_allclose(intensity.apply(*more_air)[10:-10, 10:-10, 10:-10], values, atol=1e-5)


def test_a_single_hot_voxel_does_not_squeeze_the_rest(rng):
    image = rng.normal(100, 10, (20, 20, 20))
    body = np.ones(image.shape, bool)
    hot = image.copy()
    hot[3, 3, 3] = 1e6
    plain, with_hot = (Intensity("zscore").apply(a, body) for a in (image, hot))
    plain[3, 3, 3] = with_hot[3, 3, 3]
    np.testing.assert_allclose(plain, with_hot, atol=0.02)


@pytest.mark.parametrize("value", [0.0, 100.1, -3e4])
def test_a_constant_image_stays_constant_and_is_not_blown_up_to_noise(value):
    volume = Volume.from_spacing(np.full((20, 22, 24), value, np.float32), (1.3, 1.7, 2.1))
    scan = Preparation(Extent("mm", 17.0), Intensity("zscore"), 0.13)(volume)
    assert float(scan.values.abs().max()) < 0.05


def test_intensities_are_read_back_from_a_card_as_they_were_written():
    for intensity in (Intensity("window", -160.0, 240.0), Intensity("zscore")):
        assert Intensity.from_dict(intensity.to_dict()) == intensity


@pytest.mark.parametrize("arguments", [("percentile",), ("window", 5.0, 5.0), ("window", 5.0, -5.0)])
def test_an_intensity_that_means_nothing_is_refused(arguments):
    with pytest.raises(InputError, match="intensity"):
        Intensity(*arguments)


def test_the_modality_is_what_the_file_says_else_found_out_from_the_values():
    hounsfield = np.full((4, 4, 4), -1000, np.int16)
    assert modality_of(Volume.from_spacing(hounsfield)) == "CT"
    assert modality_of(Volume.from_spacing(hounsfield, modality="PT")) == "PT"
    assert modality_of(Volume.from_spacing(hounsfield * 0 + 3)) == "MR"
