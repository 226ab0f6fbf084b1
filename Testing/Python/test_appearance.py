"""What intensities say of a voxel: learned around the supports' segments, weighed by how well they tell."""

import numpy as np
import pytest
import torch
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.segmentation.appearance import Appearance, Samples, weighed
from SSLFewShotLib.segmentation.carried_labels import Marking

SIZE = (30, 40, 50)
CT = Intensity("window", -500.0, 1000.0)


def scan_of(volume: Volume, spacing: float = 4.0) -> PreparedScan:
    """As if prepared: of it only spacing and scale are looked at."""
    body = np.ones(volume.array.shape, bool)
    nothing = torch.zeros(1, 1, 1)
    return PreparedScan(
        nothing,
        nothing > 0,
        np.zeros(3),
        np.full(3, spacing),
        np.full(3, 120.0),
        "x",
        CT.scale(volume.array, body),
    )


def scene(rng, inside: float, noise: float = 20.0, spacing=(2.0, 2.0, 2.0)) -> tuple[Volume, np.ndarray]:
    """A slab of 8 voxels in noise about 0, and its mask."""
    mask = np.zeros(SIZE, bool)
    mask[12:20, 5:35, 5:45] = True
    values = np.where(mask, inside, 0.0) + rng.normal(0, noise, SIZE)
    return Volume(values.astype(np.float32), np.diag([*spacing, 1.0]), "x"), mask


def learned(*scenes, strength=0.3) -> Appearance:
    return Appearance([[Samples.of(volume, scan_of(volume), mask) for volume, mask in scenes]], strength)


def test_a_segment_that_looks_like_its_surroundings_is_left_to_the_alignment(rng):
    assert not learned(scene(rng, 0.0))(np.linspace(-1, 1, 50)).any()


def test_a_bright_segment_wins_bright_voxels_and_loses_dark_ones(rng):
    dark, bright = learned(scene(rng, 400.0))(CT.scale(np.zeros(1), np.ones(1, bool))(np.array([0.0, 400.0])))[0]
    assert dark < -0.5 and bright > 0.5


def test_the_ratio_is_that_of_two_normal_distributions_by_the_share_asked_for(rng):
    volume, mask = scene(rng, 60.0, noise=40.0)
    values = np.linspace(0, 60, 7)
    found = learned((volume, mask), strength=1.0)(CT.scale(volume.array, mask)(values))[0]
    area = 0.8556  # of two normal distributions 1.5 standard deviations apart: Φ(1.5 / √2)
    telling = (area - 0.7) / 0.25
    expected = telling * (values**2 - (values - 60) ** 2) / (2 * 40.0**2)
    assert np.abs(found - expected).max() < 0.12


def test_what_counts_is_the_share_of_all_supports_together(rng):
    one, other = scene(rng, 300.0), scene(rng, -300.0)
    both = learned(one, other)(CT.scale(one[0].array, one[1])(np.array([-300.0, 0.0, 300.0])))[0]
    assert both[0] > 0.3 and both[2] > 0.3 and both[1] < 0


def test_the_thickness_of_a_slab_is_found_on_any_grid(rng):
    for spacing in ((2.0, 2.0, 2.0), (2.0, 2.0, 0.5), (0.5, 0.5, 2.0)):
        volume, mask = scene(rng, 100.0, spacing=spacing)
        mask[12:20] = True  # to the scan's edges, where no end of it is seen
        assert Samples.of(volume, scan_of(volume), mask).thickness == pytest.approx(8 * spacing[2], rel=0.15)


def test_a_segment_of_one_voxel_between_the_points_that_are_read_still_counts(rng):
    volume, mask = scene(rng, 0.0, spacing=(0.25, 0.25, 0.25))
    mask[...] = False
    mask[7, 9, 11] = True
    seen = Samples.of(volume, scan_of(volume), mask)
    assert len(seen.inside) == 1 and len(seen.around) > 100


def test_bayes_rule_keeps_shares_that_make_one():
    probabilities = np.array([[0.5], [0.2]], np.float32)
    found = weighed(probabilities, np.log([[2.0], [1.0]]).astype(np.float32), overlapping=False)
    # 0.5 · 2, 0.2 · 1 and the background's 0.3, over their sum
    assert np.allclose(found[:, 0], [1.0 / 1.5, 0.2 / 1.5])
    alone = weighed(probabilities, np.log([[2.0], [1.0]]).astype(np.float32), overlapping=True)
    assert np.allclose(alone[:, 0], [1.0 / 1.5, 0.2])


def test_a_smoothed_marking_holds_as_much_and_lies_where_it_lay(rng):
    volume, mask = scene(rng, 0.0, spacing=(1.0, 2.0, 3.0))
    plain, smooth = (Marking.of(volume, mask, 0, smoothing) for smoothing in (0.0, 2.0))
    assert smooth.mask.sum() == pytest.approx(plain.mask.sum(), rel=0.02)
    middles = []
    for marking in (plain, smooth):
        index = np.argwhere(marking.mask > 0)[:, ::-1]
        weight = marking.mask[marking.mask > 0]
        middle = np.average(index, axis=0, weights=weight)
        middles.append(np.linalg.solve(marking.lpsToIjk[:3, :3], middle - marking.lpsToIjk[:3, 3]))
    assert np.allclose(*middles, atol=0.05)
