"""Dice and surface distances, against closed forms."""

import math

import numpy as np
import pytest
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.evaluation import metrics
from SSLFewShotLib.evaluation.metrics import dice, score_case, surface_metrics
from SSLFewShotLib.imaging import LabelMap, Volume

SHEARED = np.array([[2.0, 0.3, 0.9], [0.2, 1.5, 0.6], [0.0, -0.4, 3.0]])


def cube(start: int, side: int = 20, n: int = 40) -> np.ndarray:
    mask = np.zeros((n, n, n), bool)
    mask[10 : 10 + side, 10 : 10 + side, start : start + side] = True
    return mask


def ball(radius: float, matrix: np.ndarray, shape=(48, 64, 64), centre=(0.0, 0.0, 0.0)) -> np.ndarray:
    """The voxels within `radius` mm of `centre`, itself relative to the middle of a grid with that matrix."""
    kji = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij"), axis=-1)
    return np.linalg.norm(kji[..., ::-1] @ matrix.T - centre, axis=-1) <= radius


def test_dice_is_one_for_itself_none_for_disjoint_masks_and_exact_between():
    assert dice(cube(5), cube(5)) == 1
    assert dice(cube(0, 10), cube(25, 10)) == 0
    assert dice(cube(5), cube(10)) == pytest.approx(15 / 20)


def test_a_mask_agrees_with_itself_completely():
    found = surface_metrics(cube(5), cube(5), (1, 1, 1))
    assert (found.nsd, found.hd95) == (1, 0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 1.0, 1.0), (3.0, 4.0, 0.5)])
def test_a_cube_that_is_shifted_along_i_is_as_far_away_as_it_was_shifted(spacing):
    shift = 3 * spacing[0]
    found = surface_metrics(cube(5), cube(8), spacing, tolerance=0.9 * shift)
    assert found.hd95 == pytest.approx(shift, rel=1e-6)
    assert surface_metrics(cube(5), cube(8), spacing, tolerance=shift).nsd == 1


def test_the_nsd_of_a_shifted_cube_is_the_share_of_its_faces_that_still_coincide():
    # Side 20, shift 3, tolerance 0.5: the four faces along the shift coincide over 17 of 20, plus 0.5 beyond;
    # the surface element in the rim's middle is the first one outside, so the elements stand 1 mm apart.
    nsd = surface_metrics(cube(5), cube(8), (1, 1, 1), tolerance=0.5).nsd
    assert nsd == pytest.approx(4 * 20 * 17 / (6 * 20 * 20), rel=0.06)


@pytest.mark.parametrize(
    "matrix", [np.eye(3), np.diag([1.0, 1.5, 2.5]), SHEARED], ids=["isotropic", "anisotropic", "sheared"]
)
def test_concentric_balls_are_the_difference_of_their_radii_apart(matrix):
    outer, inner = ball(26, matrix), ball(18, matrix)
    found = surface_metrics(outer, inner, matrix, tolerance=2.0)
    voxel = np.linalg.norm(matrix, axis=0).max()
    assert found.hd95 == pytest.approx(8, abs=0.5 * voxel)
    assert found.nsd == 0
    assert surface_metrics(outer, inner, matrix, tolerance=8 + voxel).nsd == 1


def test_a_sheared_grid_measures_what_an_orthogonal_one_measures():
    found = []
    for matrix, shape in ((np.eye(3), (70, 70, 70)), (SHEARED / 2, (96, 128, 128))):
        one, other = ball(24, matrix, shape), ball(22, matrix, shape, centre=(5, -3, 2))
        found.append(surface_metrics(one, other, matrix))
    assert found[0].hd95 == pytest.approx(found[1].hd95, rel=0.03)
    assert found[0].nsd == pytest.approx(found[1].nsd, abs=0.02)


def test_the_surface_of_a_box_on_a_sheared_grid_has_the_area_of_its_parallelograms():
    _, areas = metrics._surface(np.ones((30, 40, 50), bool), SHEARED)
    i, j, k = (SHEARED * (50, 40, 30)).T
    faces = 2 * sum(np.linalg.norm(np.cross(a, b)) for a, b in ((i, j), (j, k), (k, i)))
    assert areas.sum() == pytest.approx(faces, rel=0.03)  # marching cubes takes the edges off


def test_the_figures_are_those_of_the_authors_code_on_an_anisotropic_grid():
    # surface-distance 0.1 (google-deepmind), same masks, spacing given as (2.5, 1.5, 1).
    matrix = np.diag([1.0, 1.5, 2.5])
    one, other = ball(22, matrix), ball(20, matrix, centre=(4, 3, -5))
    for tolerance, nsd in ((1, 0.24495278706579152), (2, 0.3754254723578277), (4, 0.6607743776485566)):
        assert surface_metrics(one, other, matrix, tolerance).nsd == pytest.approx(nsd, abs=1e-9)
    assert surface_metrics(one, other, matrix).hd95 == pytest.approx(7.681145747868608, abs=1e-9)


def test_turning_and_moving_the_grid_changes_nothing():
    turn = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, -1]]) @ np.diag([2.0, 1.0, 3.0])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn, (-300, 40, 1000)
    one, other = ball(20, np.diag([2.0, 1.0, 3.0])), ball(18, np.diag([2.0, 1.0, 3.0]), centre=(3, 2, 1))
    expected, found = surface_metrics(one, other, (2, 1, 3)), surface_metrics(one, other, affine)
    assert (found.nsd, found.hd95) == pytest.approx((expected.nsd, expected.hd95))


def test_surface_elements_are_weighted_by_their_area_and_not_by_their_number():
    # A slab of 60 x 60 mm on voxels of 1 x 1 x 10 mm: 2 faces of 3600 mm² against 4 edges of 60 x 10 mm. The
    # prediction is one slice (10 mm) thicker: of the total 2 x 7200 + 2400 + 4800 mm² only half the faces are off.
    reference, thicker = np.zeros((2, 8, 70, 70), bool)
    reference[3, 5:65, 5:65] = thicker[3:5, 5:65, 5:65] = True
    near = surface_metrics(reference, thicker, (1, 1, 10), tolerance=1.0).nsd
    assert near == pytest.approx((7200 + 2400 + 2400) / (14400 + 7200), abs=0.07)


def test_a_structure_that_the_reference_lacks_has_no_score():
    nothing = np.zeros((5, 5, 5), bool)
    found = surface_metrics(nothing, ~nothing, (1, 1, 1))
    assert all(math.isnan(v) for v in (dice(nothing, ~nothing), found.nsd, found.hd95))


def test_a_missed_structure_scores_zero_and_the_diagonal_of_the_scan():
    found = surface_metrics(cube(5), np.zeros((40, 40, 40), bool), (3, 4, 12))
    assert dice(cube(5), np.zeros((40, 40, 40), bool)) == 0
    assert (found.nsd, found.hd95) == (0, pytest.approx(40 * 13))


def test_one_voxel_has_a_surface():
    found = surface_metrics(cube(5, 1), cube(6, 1), (2, 2, 2), tolerance=2.0)
    assert found.nsd == 1 and found.hd95 == pytest.approx(2)


def test_masks_of_different_shape_are_refused():
    with pytest.raises(InputError, match="one shape"):
        surface_metrics(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), (1, 1, 1))


def labels(masks: dict[str, np.ndarray], spacing=(2.0, 2.0, 5.0)) -> LabelMap:
    return LabelMap.from_masks(Volume.from_spacing(np.zeros((40, 40, 40)), spacing), masks)


def test_segments_are_matched_by_name_whatever_their_values():
    reference = labels({"Liver": cube(5, 12), "Spleen": cube(20, 10)})
    prediction = labels({"Extra": cube(0, 2), "Spleen": cube(20, 10), "Liver": cube(6, 12)})
    assert reference.segment("Liver").value != prediction.segment("Liver").value
    liver, spleen = score_case(reference, prediction)
    assert (liver["segment"], spleen["segment"]) == ("Liver", "Spleen")
    assert liver["dice"] == pytest.approx(11 / 12) and liver["hd95_mm"] == pytest.approx(2)
    assert spleen["dice"] == 1 and spleen["nsd"] == 1
    assert spleen["reference_ml"] == pytest.approx(1000 * 20 / 1000) == spleen["prediction_ml"]


def test_a_segment_that_the_prediction_lacks_is_scored_as_empty():
    reference = labels({"Liver": cube(5), "Spleen": cube(20, 10)})
    spleen = score_case(reference, labels({"Liver": cube(5)}))[1]
    assert spleen["dice"] == spleen["nsd"] == spleen["prediction_ml"] == 0
    assert math.isfinite(spleen["hd95_mm"])


def test_other_grids_and_other_names_are_refused_by_name():
    reference = labels({"Liver": cube(5)})
    with pytest.raises(InputError, match="grid"):
        score_case(reference, labels({"Liver": cube(5)}, spacing=(2, 2, 4)))
    with pytest.raises(InputError, match="Liver"):
        score_case(reference, labels({"liver": cube(5)}))


@pytest.mark.realdata
def test_a_structure_of_a_real_scan_is_scored_within_fifty_milliseconds(real_data):
    import time

    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(real_data / "head-neck-ct" / "labelled" / "pt_013_seg.nii.gz"))
    array = sitk.GetArrayFromImage(image)
    surface_metrics(array == 1, array == 1, image.GetSpacing())  # the table of triangles is made once
    start = time.perf_counter()
    for value in range(1, 8):
        surface_metrics(array == value, np.roll(array == value, 1, axis=2), image.GetSpacing())
    assert (time.perf_counter() - start) / 7 < 0.05
