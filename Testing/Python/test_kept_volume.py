"""Segments keep the volume that was carried, whatever smoothing and votes wear away."""

import numpy as np
import pytest
from SSLFewShotLib.segmentation.kept_volume import odds_for


def won(probabilities: np.ndarray, odds: np.ndarray) -> list[int]:
    """How many voxels each segment wins against all others and the background."""
    rest = 1 - probabilities.sum(axis=0)
    scores = probabilities * np.exp(odds)[:, None]
    best = np.concatenate([rest[None], scores]).argmax(axis=0)
    return [int((best == number).sum()) for number in range(1, len(scores) + 1)]


def test_a_segment_that_wins_too_little_gets_the_odds_that_make_up_for_it():
    probabilities = np.array([[0.9, 0.45, 0.4, 0.3, 0.1, 0.05]])
    assert won(probabilities, np.zeros(1)) == [1]
    odds = odds_for(np.array([3.0]), probabilities, np.zeros((1, 6)), overlapping=False)
    # The third voxel is the last to be won: log(0.6 / 0.4).
    assert odds == pytest.approx([np.log(1.5)], abs=1e-5)
    assert won(probabilities, odds + 1e-3) == [3]


def test_one_that_wins_too_much_loses_some():
    probabilities = np.array([[0.9, 0.8, 0.7, 0.6, 0.1]])
    odds = odds_for(np.array([2.0]), probabilities, np.zeros((1, 5)), overlapping=False)
    assert odds[0] < 0 and won(probabilities, odds + 1e-3) == [2]


def test_segments_that_touch_come_to_an_agreement(rng):
    raw = rng.uniform(0, 1, (3, 4000)) ** 2
    probabilities = raw / raw.sum(axis=0)
    probabilities = np.delete(probabilities, 2, axis=0)
    volumes = np.array([1500.0, 900.0])
    odds = odds_for(volumes, probabilities, np.zeros((2, 4000)), overlapping=False)
    assert np.abs(np.array(won(probabilities, odds)) - volumes).max() < 40
    assert np.abs(np.array(won(probabilities, np.zeros(2))) - volumes).max() > 200


def test_with_overlap_each_segment_has_a_background_of_its_own():
    probabilities = np.array([[0.9, 0.4, 0.2], [0.9, 0.8, 0.3]])
    odds = odds_for(np.array([2.0, 1.0]), probabilities, np.zeros((2, 3)), overlapping=True)
    assert odds == pytest.approx([np.log(0.6 / 0.4), np.log(0.1 / 0.9)], abs=1e-5)


def test_what_speaks_for_the_intensities_counts_with_the_probability():
    probabilities, ratios = np.array([[0.5, 0.5, 0.5]]), np.array([[1.0, -1.0, 0.0]])
    odds = odds_for(np.array([1.0]), probabilities, ratios, overlapping=False)
    assert odds == pytest.approx([-1.0], abs=1e-5)


def test_odds_are_bounded_and_a_segment_of_no_volume_is_left_alone():
    probabilities = np.array([[0.5] * 8, [1e-6] * 8])
    odds = odds_for(np.array([0.0, 5.0]), probabilities, np.zeros((2, 8)), overlapping=False)
    assert odds.tolist() == [0.0, 3.0]
