"""From probabilities on a lattice to labels and confidence on a scan's own grid."""

import numpy as np
import pytest
from scipy import ndimage
from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.imaging import Segment, Volume
from SSLFewShotLib.segmentation import decision
from SSLFewShotLib.segmentation.decision import labels_from_probabilities, large_pieces
from stored_waves import storages

A, B = Segment(1, "A", (1, 0, 0), "term A"), Segment(2, "B", (0, 1, 0))
ORIGIN, SPACING = np.array([-30.0, 5.0, 100.0]), 4.0
SHAPE = (11, 12, 13)


def lattice_points() -> np.ndarray:
    """(K, J, I, 3) LPS mm of the lattice's nodes."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    return ORIGIN + SPACING * np.stack([i, j, k], axis=-1)


def ball(centre: np.ndarray, radius: float, points: np.ndarray) -> np.ndarray:
    """A probability that falls from 1 in the middle through 0.5 at `radius` to 0."""
    return np.clip(1 - np.linalg.norm(points - centre, axis=-1) / (2 * radius), 0, 1).astype(np.float32)


def grid(storage: str = "axial") -> Volume:
    """A scan around which the lattice lies: its nodes are the middles of cells that fill the axial one."""
    matrix = np.eye(4)
    matrix[:3, :3] = storages()[storage]
    size = np.ceil(SPACING * np.array(SHAPE[::-1]) / np.linalg.norm(matrix[:3, :3], axis=0)).astype(int)
    middle = ORIGIN + SPACING * (np.array(SHAPE[::-1]) - 1) / 2
    matrix[:3, 3] = middle - matrix[:3, :3] @ ((size - 1) / 2)
    return Volume(np.zeros(size[::-1], np.int16), matrix, storage, "CT")


def voxel_points(volume: Volume) -> np.ndarray:
    k, j, i = np.meshgrid(*(np.arange(n) for n in volume.array.shape), indexing="ij")
    return volume.points_from_indices(np.stack([i, j, k], axis=-1).reshape(-1, 3)).reshape(*k.shape, 3)


CENTRE_A, CENTRE_B = np.array([[-14.0, 25.0, 118.0], [2.0, 29.0, 124.0]])


def two_balls() -> np.ndarray:
    points = lattice_points()
    return np.stack([ball(CENTRE_A, 7.0, points), ball(CENTRE_B, 6.0, points)])


def expected(volume: Volume, probabilities: np.ndarray) -> np.ndarray:
    """(S, K, J, I) probabilities at the voxels, straight from scipy in double precision."""
    where = ((voxel_points(volume) - ORIGIN) / SPACING)[..., ::-1]
    where = np.moveaxis(where, -1, 0)
    return np.stack([ndimage.map_coordinates(p, where, order=1, mode="nearest") for p in probabilities])


@pytest.mark.parametrize("storage", storages())
def test_the_likeliest_of_segments_and_background_wins_at_the_right_place_of_any_grid(storage):
    volume, probabilities = grid(storage), two_balls()
    labels, confidence = labels_from_probabilities(volume, probabilities, ORIGIN, SPACING, [A, B])
    p = expected(volume, probabilities)
    scores = np.concatenate([np.maximum(1 - p.sum(axis=0), 0)[None], p])
    winner = scores.argmax(axis=0)
    clear = np.sort(scores, axis=0)[-1] - np.sort(scores, axis=0)[-2] > 1e-4
    assert clear.mean() > 0.99 and set(np.unique(winner)) == {0, 1, 2}
    np.testing.assert_array_equal(labels.array[clear], winner[clear])
    np.testing.assert_allclose(confidence.array, scores.max(axis=0) / scores.sum(axis=0), atol=1e-4)
    assert labels.same_grid(volume) and confidence.same_grid(volume)
    assert confidence.array.dtype == np.float32 and labels.array.dtype == np.uint8
    # And in the world: A is around the centre of A.
    inside = voxel_points(volume)[labels.array == 1]
    np.testing.assert_allclose(inside.mean(axis=0), CENTRE_A, atol=1.5)


def test_names_colours_terminology_and_values_are_carried():
    segments = [Segment(7, "Seven", (0.1, 0.2, 0.3), "term"), Segment(300, "Three hundred", tags={"a": "b"})]
    labels, _ = labels_from_probabilities(grid(), two_balls(), ORIGIN, SPACING, segments)
    assert labels.segments == segments and labels.segments[1].tags == {"a": "b"}
    assert set(np.unique(labels.array)) == {0, 7, 300}
    np.testing.assert_allclose(voxel_points(grid())[labels.mask("Three hundred")].mean(axis=0), CENTRE_B, atol=1.5)


def test_what_is_decided_does_not_depend_on_the_slabs(monkeypatch):
    volume, probabilities = grid("oblique"), two_balls()
    whole = labels_from_probabilities(volume, probabilities, ORIGIN, SPACING, [A, B])
    monkeypatch.setattr(decision, "_SLAB_VOXELS", 700)
    reports = []
    parts = labels_from_probabilities(
        volume, probabilities, ORIGIN, SPACING, [A, B], progress=lambda *report: reports.append(report)
    )
    assert np.array_equal(whole[0].array, parts[0].array) and np.array_equal(whole[1].array, parts[1].array)
    assert len(reports) > 10 and [f for f, _ in reports] == sorted(f for f, _ in reports)


def test_cancelling_is_heard():
    def cancel(fraction: float, message: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        labels_from_probabilities(grid(), two_balls(), ORIGIN, SPACING, [A, B], progress=cancel)


def test_where_nothing_is_likely_all_is_background_and_sure():
    nothing = np.zeros((2, *SHAPE), np.float32)
    labels, confidence = labels_from_probabilities(grid(), nothing, ORIGIN, SPACING, [A, B])
    assert not labels.array.any() and (confidence.array == 1).all()
    assert [segment.name for segment in labels.segments] == ["A", "B"]


def test_a_structure_at_the_very_edge_of_the_scan_is_not_cut():
    probabilities = np.zeros((1, *SHAPE), np.float32)
    probabilities[:, :2] = 1
    volume = grid()
    labels, _ = labels_from_probabilities(volume, probabilities, ORIGIN, SPACING, [A])
    below = voxel_points(volume)[..., 2] < ORIGIN[2] + 1.45 * SPACING
    assert below.any() and labels.array[below].all()
    assert not labels.array[voxel_points(volume)[..., 2] > ORIGIN[2] + 1.55 * SPACING].any()


def test_probabilities_that_add_up_to_more_than_one_still_give_a_confidence_of_at_most_one():
    # Two supports that each know one segment can both be sure.
    both = np.ones((2, *SHAPE), np.float32) * np.array([0.9, 0.95], np.float32)[:, None, None, None]
    labels, confidence = labels_from_probabilities(grid(), both, ORIGIN, SPACING, [A, B])
    assert (labels.array == 2).all()
    np.testing.assert_allclose(confidence.array, 0.95 / 1.85, rtol=1e-4)


# Overlap


def test_overlapping_segments_are_both_kept_where_both_are_likelier_than_not():
    points = lattice_points()
    probabilities = np.stack([ball(CENTRE_A, 9.0, points), ball(CENTRE_A + 3, 4.0, points)])
    volume = grid("oblique")
    labels, confidence = labels_from_probabilities(volume, probabilities, ORIGIN, SPACING, [A, B], True)
    assert labels.overlapping
    p = expected(volume, probabilities)
    for segment, likely in zip((A, B), p, strict=True):
        clear = np.abs(likely - 0.5) > 1e-4
        np.testing.assert_array_equal(labels.mask(segment)[clear], (likely > 0.5)[clear])
    assert (labels.mask(A) & labels.mask(B)).any()
    np.testing.assert_allclose(confidence.array, np.maximum(p, 1 - p).min(axis=0), atol=1e-4)


# The largest piece


def test_only_the_largest_piece_stays():
    mask = np.zeros((10, 11, 12), bool)
    mask[1:3, 1:3, 1:3] = True  # 8
    mask[5:9, 5:8, 5:8] = True  # 36
    mask[4, 4, 4] = True  # touches the large one at a corner
    mask[0, 10, 11] = True
    kept = large_pieces(mask)
    assert kept.sum() == 37 and kept[4, 4, 4] and not kept[1, 1, 1] and not kept[0, 10, 11]
    assert mask.sum() == 46  # untouched


def test_pieces_stay_that_are_large_enough():
    mask = np.zeros((3, 3, 20), bool)
    mask[1, 1, 0:8], mask[1, 1, 10:12], mask[1, 1, 14] = True, True, True
    assert np.flatnonzero(large_pieces(mask, 0.25)[1, 1]).tolist() == [*range(8), 10, 11]
    assert np.array_equal(large_pieces(mask, 0.01), mask)


def test_an_empty_mask_and_a_single_voxel_are_their_own_largest_piece():
    empty = np.zeros((3, 3, 3), bool)
    assert not large_pieces(empty).any()
    empty[1, 2, 0] = True
    assert np.array_equal(large_pieces(empty), empty)


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_dropped_piece_becomes_background_and_is_no_longer_sure_of_its_label(overlapping):
    points = lattice_points()
    large, small = ball(CENTRE_B, 7.0, points), ball(np.array([-22.0, 37.0, 132.0]), 4.5, points)
    probabilities = np.maximum(large, small)[None]
    arguments = (grid(), probabilities, ORIGIN, SPACING, [A], overlapping)
    plain, plain_confidence = labels_from_probabilities(*arguments)
    cleaned, confidence = labels_from_probabilities(*arguments, least_piece=1.0)
    dropped = plain.mask(A) & ~cleaned.mask(A)
    assert dropped.any() and cleaned.mask(A).any() and not (cleaned.mask(A) & ~plain.mask(A)).any()
    np.testing.assert_allclose(confidence.array[dropped], 1 - plain_confidence.array[dropped], atol=1e-6)
    assert np.array_equal(confidence.array[~dropped], plain_confidence.array[~dropped])
