"""Every voxel comes back to where it was in the world, whatever the grid and the transforms above it."""

from bridge_scene import empty_scene  # noqa: F401 - a fixture that every test uses

# isort: split
from dataclasses import replace

import numpy as np
import pytest
from SSLFewShotSlicer.bridge import read_result

import round_trip as measured
from round_trip import nested_transforms, oblique_and_sheared, permutations_and_flips, round_trip


def _exact(outcome):
    assert (outcome.dice, outcome.seen) == (1.0, 1.0)
    assert outcome.apart < 1e-9


@pytest.mark.parametrize(("name", "matrix"), list(permutations_and_flips()))
def test_axes_in_any_order_and_direction_come_back_exactly(name, matrix, tmp_path):
    _exact(round_trip(tmp_path, matrix))


@pytest.mark.parametrize(("name", "matrix"), list(oblique_and_sheared()))
def test_oblique_and_sheared_grids_come_back_exactly(name, matrix, tmp_path):
    _exact(round_trip(tmp_path, matrix))


@pytest.mark.parametrize(("name", "above_scan", "above_marks"), list(nested_transforms()))
@pytest.mark.parametrize("grid", ["axial", "sheared"])
def test_nested_linear_transforms_come_back_exactly(name, above_scan, above_marks, grid, tmp_path):
    matrix = np.eye(4) if grid == "axial" else list(oblique_and_sheared(2))[1][1]
    _exact(round_trip(tmp_path, matrix, above_scan, above_marks))


def test_the_measure_sees_a_segment_that_is_one_voxel_off(tmp_path, monkeypatch):
    # Otherwise the tests above could pass whatever came back.
    def read_and_shift(*paths):
        result = read_result(*paths)
        layer = result.layers[0]
        k, j, i = layer.corner
        return replace(result, layers=(replace(layer, corner=(k, j, i + 1)),))

    monkeypatch.setattr(measured, "read_result", read_and_shift)
    assert round_trip(tmp_path, np.eye(4)).dice < 0.95
