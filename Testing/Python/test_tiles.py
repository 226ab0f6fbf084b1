"""Tiles cover a scan, and their weights are Gaussian."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from SSLFewShotLib.networks import tiles
from SSLFewShotLib.networks.device import short_floats
from SSLFewShotLib.networks.tiles import through_network
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.tiles import gaussian_window, tile_starts, tiles_of
from SSLFewShotLib.segmentation.sliding_window import NEGLIGIBLE, segment_probabilities
from torch.nn import functional as F


def test_a_window_is_a_gaussian_of_the_given_width_in_sides():
    window = gaussian_window((5, 1, 9), 1 / 8, least=0.0)
    assert window.shape == (5, 1, 9)
    assert window[2, 0, 4] == 1.0
    # Two voxels off the middle of five, whose eighth is 0.625; three of nine, whose eighth is 1.125.
    assert window[0, 0, 4] == pytest.approx(math.exp(-0.5 * (2 / 0.625) ** 2))
    assert window[2, 0, 1] == pytest.approx(math.exp(-0.5 * (3 / 1.125) ** 2))
    assert window[0, 0, 1] == pytest.approx(float(window[0, 0, 4] * window[2, 0, 1]))
    assert torch.equal(window, window.flip(0, 1, 2))


def test_no_voxel_of_a_window_is_without_weight():
    assert gaussian_window((40, 40, 40), 1 / 8).min() > 0


@pytest.mark.parametrize("length", [1, 39, 40, 41, 79, 100, 203])
def test_tiles_reach_from_end_to_end_and_overlap_as_much_as_wanted(length):
    starts = tile_starts(length, 40, 0.5)
    assert starts[0] == 0 and max(starts) == max(0, length - 40)
    assert all(b - a <= 20 for a, b in itertools.pairwise(starts))


def test_every_voxel_lies_in_a_tile():
    seen = np.zeros((50, 33, 70), int)
    for part in tiles_of(seen.shape, (40, 40, 24), 0.5):
        seen[part] += 1
    assert seen.min() >= 1


class Brightness(torch.nn.Module):
    """Logits that are the values themselves, and notes how much it is given at once."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def forward(self, values):
        self.most = max(self.most, values.numel())
        return torch.cat([values, -values], dim=1)


def prepared(values: np.ndarray, body: np.ndarray | None = None) -> PreparedScan:
    body = np.ones(values.shape, bool) if body is None else body
    ones = np.ones(3)
    return PreparedScan(torch.from_numpy(values.astype(np.float32)), torch.from_numpy(body), 0 * ones, ones, ones)


@pytest.mark.parametrize("shape", [(30, 25, 41), (8, 5, 40), (3, 3, 3)])
def test_what_is_blended_of_tiles_is_what_one_pass_over_the_scan_gives(shape):
    values = np.random.default_rng(0).normal(0, 2, shape)
    network = Brightness()
    found = segment_probabilities(prepared(values), network, (16, 16, 16), "bce-dice", 2)
    plain = 1 / (1 + np.exp(-values))
    expected = np.stack([plain, 1 - plain])
    expected[expected < NEGLIGIBLE] = 0
    assert np.abs(found - expected).max() < 0.03  # what is nearly negligible may be either
    assert np.abs((found - expected)[expected > 0.05]).max() < 1e-5
    assert network.most == 2 * 16**3, "two tiles at once, however large the scan"


def test_nothing_is_looked_for_where_there_is_no_body():
    values, body = np.full((20, 20, 64), 3.0), np.zeros((20, 20, 64), bool)
    body[:, :, :10] = True
    found = segment_probabilities(prepared(values, body), Brightness(), (16, 16, 16), "bce-dice", 2)
    assert found[0, :, :, :10].min() > 0.9 and found[:, :, :, 40:].max() == 0


def test_sixteen_bit_floats_change_vectors_hardly_at_all(monkeypatch):
    if short_floats(torch.device("cpu")) is None:
        pytest.skip("this processor has no bfloat16 instructions, and computes in float32 anyway")
    torch.manual_seed(0)
    network = UNet3d(1, 8, 16, 3).eval()
    tile = torch.randn(16, 16, 16)
    given = (network, functools.partial(F.normalize, dim=1), [tile], (16, 16, 16), torch.device("cpu"))
    short = through_network(*given)
    monkeypatch.setattr(tiles, "short_floats", lambda _device: None)
    exact = through_network(*given)
    alike = (short * exact).sum(dim=1)
    assert short.dtype == torch.float32 and not torch.equal(short, exact)
    assert alike.mean() > 0.999 and alike.min() > 0.98
