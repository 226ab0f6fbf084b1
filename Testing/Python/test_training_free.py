"""Descriptors that need no training: grey-value differences and MIND."""

import numpy as np
import pytest
import torch
from descriptor_samples import EXTENT, WINDOW, make, some_points, torso
from scipy import ndimage
from SSLFewShotLib.descriptors import mind
from SSLFewShotLib.descriptors.gvdiff import SPREAD, GreyValueDifferences
from SSLFewShotLib.descriptors.mind import MindSsc, mind_ssc
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity

# Grey-value differences


def test_grey_value_differences_are_those_at_the_offsets_of_the_pattern():
    descriptor, volume = make("gvdiff"), torso()
    points = some_points(volume, 3)
    scan = descriptor.prepare(volume)
    ends = [points[:, None] + pattern * EXTENT.scale for pattern in descriptor.pattern]
    values = [
        ndimage.map_coordinates(
            scan.values.numpy(),
            scan.indices(end.reshape(-1, 3)).T[::-1],
            order=1,
            mode="nearest",
        ).reshape(3, 192)
        for end in ends
    ]
    np.testing.assert_allclose(descriptor.describe(volume, points), values[0] - values[1], atol=1e-5)


def test_the_pattern_is_a_gaussian_drawn_from_the_seed():
    one, same, other = (GreyValueDifferences(EXTENT, WINDOW, seed) for seed in (0, 0, 1))
    assert np.array_equal(one.pattern, same.pattern) and not np.array_equal(one.pattern, other.pattern)
    assert one.pattern.shape == (2, 192, 3)
    assert one.pattern.std() == pytest.approx(SPREAD, rel=0.06) and abs(one.pattern.mean()) < 0.05


@pytest.mark.parametrize("intensity", [WINDOW, Intensity("zscore")])
def test_a_constant_image_has_no_grey_value_differences(intensity):
    volume = Volume.from_spacing(np.full((20, 20, 20), 123.4, np.float32), (9.0, 9.0, 9.0))
    vectors = GreyValueDifferences(EXTENT, intensity).describe(volume, some_points(volume))
    np.testing.assert_allclose(vectors, 0, atol=0.02)


# MIND


def test_mind_does_not_see_contrast_inversion_or_a_change_of_units(rng):
    image = torch.from_numpy(ndimage.gaussian_filter(rng.normal(size=(14, 15, 16)), 1.5).astype(np.float32))
    reference = mind_ssc(image)
    assert reference.shape == (12, 14, 15, 16)
    assert float(reference.min()) >= 0 and float(reference.max()) <= 1
    for changed in (-image, 250 * image + 90, -3 * image - 5):
        torch.testing.assert_close(mind_ssc(changed), reference, atol=2e-3, rtol=0)


def test_the_descriptor_mind_is_the_same_on_an_inverted_crop(rng):
    crop = ndimage.gaussian_filter(rng.normal(size=(24, 24, 24)), 2) * 100 + 500
    volume = Volume.from_spacing(crop.astype(np.float32), (2.0, 2.0, 2.0))
    inverted = volume.with_array((4000 - 2 * crop).astype(np.float32))
    points = some_points(volume, 20)
    vectors = [MindSsc(Extent("mm", 48.0), Intensity("zscore")).describe(v, points) for v in (volume, inverted)]
    np.testing.assert_allclose(*vectors, atol=0.01)


def test_patches_are_compared_by_the_mean_over_their_voxels(rng):
    image = torch.from_numpy(rng.normal(size=(5, 6, 7)).astype(np.float32))
    expected = ndimage.uniform_filter(image.numpy(), 3, mode="nearest")
    np.testing.assert_allclose(mind._patch_means(image, 1).numpy(), expected, atol=1e-6)


def test_mind_of_a_constant_image_is_one_everywhere():
    assert torch.equal(mind_ssc(torch.full((6, 6, 6), 3.0)), torch.ones(12, 6, 6, 6))
