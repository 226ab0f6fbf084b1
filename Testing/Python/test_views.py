"""Deformed views of a scan: what they show, and where the same place lies in another one."""

import numpy as np
import pytest
import torch
from SSLFewShotLib.sampling import views
from SSLFewShotLib.sampling.contrast import changed_contrast
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.views import Deformation, View, sampled

SIZE = (10, 12, 14)


def ramp_scan() -> PreparedScan:
    """A scan whose value tells the place: i + 100 j + 10000 k."""
    k, j, i = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in (30, 32, 34)), indexing="ij")
    values = i + 100 * j + 10000 * k
    return PreparedScan(values, torch.ones_like(values, dtype=torch.bool), np.zeros(3), np.ones(3), np.ones(3))


def a_view(seed: int = 0, **strength: float) -> View:
    rng = np.random.default_rng(seed)
    return View.drawn(SIZE, np.array([16.0, 15.0, 14.0]), Deformation(**strength), rng)


def test_a_view_without_deformation_is_a_crop():
    scan = ramp_scan()
    shown = View(SIZE, np.array([16.5, 15.5, 14.5]), np.eye(3), None).read(scan)
    assert torch.equal(shown, scan.values[10:20, 10:22, 10:24])


def test_what_a_view_shows_comes_from_where_it_says(rng):
    scan, view = ramp_scan(), a_view(1)
    points = torch.as_tensor(rng.uniform(0, 9, (50, 3)), dtype=torch.float32).round()
    i, j, k = points.long().T
    sources = view.sources(points)
    place = sources[:, 0] + 100 * sources[:, 1] + 10000 * sources[:, 2]
    assert torch.allclose(view.read(scan)[k, j, i], place, rtol=0, atol=0.2)


@pytest.mark.parametrize("seed", range(5))
def test_a_place_of_the_scan_is_found_in_a_view_that_shows_it(seed, rng):
    view = a_view(seed, elastic=0.3)
    points = torch.as_tensor(rng.uniform(1, 8, (200, 3)), dtype=torch.float32)
    assert torch.allclose(view.places(view.sources(points)), points, atol=0.1)


def test_labels_are_read_without_mixing_them():
    labels = torch.zeros(30, 32, 34)
    labels[:, :16] = 7
    assert set(a_view(2).read_array(labels, "nearest").unique().tolist()) == {0.0, 7.0}


def test_no_view_is_mirrored():
    assert all(torch.linalg.det(a_view(seed).linear) > 0 for seed in range(50))


def test_the_same_seed_draws_the_same_view():
    scan = ramp_scan()
    assert torch.equal(a_view(3).read(scan), a_view(3).read(scan))
    assert not torch.equal(a_view(3).read(scan), a_view(4).read(scan))


def test_maps_are_interpolated_between_voxels_and_repeat_outside():
    maps = torch.arange(8.0).reshape(1, 2, 2, 2)
    points = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5], [5.0, 5.0, 5.0]])
    assert sampled(maps, points)[:, 0].tolist() == [0.5, 1.0, 2.0, 7.0]


def test_threads_that_share_the_points_find_what_one_finds(monkeypatch, rng):
    maps = torch.from_numpy(rng.normal(size=(3, 5, 6, 7)).astype(np.float32))
    points = torch.from_numpy(rng.uniform(-1, 7, (100, 3)).astype(np.float32))
    alone = sampled(maps, points)
    monkeypatch.setattr(views, "_ALONE", 10)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    torch.testing.assert_close(sampled(maps, points), alone, atol=0, rtol=0)
    assert sampled(maps, points.requires_grad_()).requires_grad


def test_changed_contrast_keeps_shape_and_order_of_tissues(rng):
    values = torch.zeros(12, 12, 12)
    values[6:], values[:, 6:] = 1.0, values[:, 6:] + 0.5
    before = [values[:6, :6].mean(), values[:6, 6:].mean(), values[6:, :6].mean()]
    for seed in range(10):
        changed = changed_contrast(values, np.random.default_rng(seed))
        assert changed.shape == values.shape and changed.dtype == torch.float32
        dark, middle, bright = changed[:5, :5].mean(), changed[:5, 7:].mean(), changed[7:, :5].mean()
        assert dark < middle < bright
    assert before[0] < before[1] < before[2], "the crop that was given stays as it was"
    inverted = changed_contrast(values, rng, inversion=1.0)
    assert inverted[:5, :5].mean() > inverted[7:, :5].mean()
