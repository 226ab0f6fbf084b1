"""The part of a grid that a mask lies in."""

import numpy as np
from SSLFewShotLib.imaging.mask_box import box_with_margin, mask_box


def mask(*voxels: tuple[int, int, int]) -> np.ndarray:
    array = np.zeros((6, 7, 8), bool)
    for voxel in voxels:
        array[voxel] = True
    return array


def test_the_box_holds_every_voxel_and_no_more():
    assert mask_box(mask((1, 2, 3), (4, 2, 5))) == (slice(1, 5), slice(2, 3), slice(3, 6))


def test_an_empty_mask_has_no_box():
    assert mask_box(mask()) is None


def test_a_mask_that_is_a_view_of_another_is_looked_at_as_it_is():
    whole = mask((1, 2, 3))
    assert mask_box(whole[::-1, :, ::2]) is None
    assert mask_box(whole.transpose(2, 1, 0)[::-1]) == (slice(4, 5), slice(2, 3), slice(1, 2))


def test_a_margin_ends_where_the_grid_ends():
    assert box_with_margin(mask((1, 2, 3)), [2, 1, 9]) == (slice(0, 4, 1), slice(1, 4, 1), slice(0, 8, 1))


def test_steps_leave_voxels_out():
    array = mask((1, 2, 3))
    assert array[box_with_margin(array, [1, 1, 1], np.array([1, 2, 3]))].shape == (3, 2, 1)
