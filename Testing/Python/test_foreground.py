"""What a scan shows alike from end to end of an axis is taken out; what differs stays as it is."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.phantom_tomogram import TomogramPhantom
from SSLFewShotLib.sampling.foreground import without_background
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.slices import SlicePreparation


@pytest.fixture
def medium(rng) -> torch.Tensor:
    """A tube in a noisy medium, along the first axis."""
    y, x = np.mgrid[:30, :30] - 14.5
    wall = (np.abs(np.hypot(y, x) - 12) < 1) * 2.0
    return torch.as_tensor(wall + rng.normal(0, 0.02, (40, 30, 30)), dtype=torch.float32)


def organs(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 2.5)
    return (smooth / smooth.std() + rng.normal(0, 0.05, shape)).astype(np.float32)


def test_a_tube_goes_and_the_object_in_it_stays(medium):
    medium[15:25, 10:20, 10:20] = 1.0
    found, level = without_background(medium)
    inside = torch.zeros(medium.shape, dtype=bool)
    inside[15:25, 10:20, 10:20] = True
    assert (found[inside] == 1).all() and (found[~inside] == level).float().mean() > 0.995
    assert level == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_tube_may_lie_along_any_axis_and_end_in_a_holder(medium, axis):
    medium[15:25, 10:20, 10:20] = 1.0
    medium[:8, 10:20, 10:20] = 3.0
    turned = medium.movedim(0, axis)
    found, level = without_background(turned)
    left = (found != level).movedim(axis, 0)
    assert left[15:25, 10:20, 10:20].all() and left.float().mean() < 1.1 * 1000 / left.numel() + 0.005


def test_at_an_end_that_the_object_reaches_nothing_is_known_of_the_background(rng):
    # As smooth as organs: each slice differs a little from the next one, and more from the one after.
    object_all_over = torch.as_tensor(organs(rng, (40, 30, 30)))
    found, level = without_background(object_all_over)
    assert found is object_all_over and level is None


def test_an_end_where_an_object_goes_back_and_forth_is_not_taken_for_noise(rng):
    organ = torch.as_tensor(organs(rng, (40, 30, 30)))
    # The third slice is like the first one, so that changes do not add up.
    organ[2] = organ[0]
    organ[1] += torch.as_tensor(3 * organs(rng, (1, 30, 30))[0])
    found, level = without_background(organ)
    assert found is organ and level is None


def test_one_end_without_the_object_is_enough(medium):
    medium[15:, 10:20, 10:20] = torch.linspace(1, 9, 25)[:, None, None]
    found, level = without_background(medium)
    assert (found[16:, 10:20, 10:20] != level).all() and (found != level).float().mean() < 0.075


def test_a_few_slices_say_nothing():
    few = torch.zeros(5, 4, 4)
    few[2, 2, 2] = 1
    found, level = without_background(few)
    assert found is few and level is None


def test_a_prepared_scan_says_what_is_beyond_it():
    phantom = TomogramPhantom(1, (48, 48, 48))
    preparation = SlicePreparation(intensity=Intensity("zscore"), side=48)
    scan = preparation(Volume(phantom.slab(0, 48), phantom.ijkToLps, "t"))
    left = scan.values != scan.fill
    share = phantom.object_mask().mean()
    # Lumens are as dark as the medium around.
    assert 0.6 * share < float(left.float().mean()) < 1.5 * share
    # Micrometres for millimetres, as files of tomograms say: the same voxels.
    large = preparation(Volume(phantom.slab(0, 48), np.diag([1e5, 1e5, 1e5, 1]) @ phantom.ijkToLps, "t"))
    assert large.fill == pytest.approx(scan.fill, abs=1e-5) and large.values.shape == scan.values.shape


def test_a_scan_whose_ends_differ_is_filled_up_with_its_least_value(rng):
    volume = Volume(organs(rng, (24, 24, 24)), np.eye(4), "t")
    scan = SlicePreparation(intensity=Intensity("zscore"), side=24)(volume)
    assert scan.fill == float(scan.values.min())
