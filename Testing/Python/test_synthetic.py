"""Synthetic scans, and models that are pretrained on them alone."""

import numpy as np
import pytest
import torch
from SSLFewShotLib.cli import main
from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.files import write_volume
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.pretext.dense import CROP
from SSLFewShotLib.pretext.pretrain import pretrain
from SSLFewShotLib.pretext.synthetic_pool import SyntheticPool
from SSLFewShotLib.pretext.trainer import TrainerSettings
from SSLFewShotLib.pretext.training_scans import PretrainingSource
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.synthetic import SIDE, SyntheticScan
from SSLFewShotLib.sampling.views import View


def straight_view() -> View:
    return View(CROP, np.full(3, (SIDE - 1) / 2), np.eye(3), None)


@pytest.fixture(scope="module")
def scan() -> SyntheticScan:
    return SyntheticScan.drawn(np.random.default_rng(1))


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return abs(float(np.corrcoef(one.ravel(), other.ravel())[0, 1]))


def test_a_scan_depends_on_the_generator_alone(scan):
    again = SyntheticScan.drawn(np.random.default_rng(1))
    other = SyntheticScan.drawn(np.random.default_rng(2))
    assert torch.equal(scan.values, again.values) and not torch.equal(scan.values, other.values)
    painted = [s.painted(straight_view(), np.random.default_rng(3), False) for s in (scan, again)]
    assert torch.equal(*painted)


def test_a_scan_shows_many_regions_that_all_have_a_brightness(scan):
    regions = scan.values.unique()
    assert len(regions) > 20 and int(regions.max()) < len(scan.brightness) == len(scan.mixture)
    assert scan.values.shape == scan.body.shape == (SIDE,) * 3


def test_air_is_outside_the_body_only():
    scans = [SyntheticScan.drawn(np.random.default_rng(seed)) for seed in range(6)]
    assert {scan.air for scan in scans} == {True, False}
    for scan in scans:
        assert torch.equal(scan.values > 0, scan.body) if scan.air else bool(scan.body.all())


def test_two_views_by_one_scanner_look_alike_and_by_another_modality_much_less_so():
    alike, changed = [], []
    for seed in range(8):
        scan = SyntheticScan.drawn(np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        first = scan.painted(straight_view(), rng, False)
        alike.append(correlation(first, scan.painted(straight_view(), rng, False)))
        changed.append(correlation(first, scan.painted(straight_view(), rng, True)))
    assert np.median(alike) > 0.8 > np.mean(changed)


def test_what_is_painted_is_standardised_and_finite(scan):
    values = scan.painted(straight_view(), np.random.default_rng(0), True)
    assert values.shape == CROP and torch.isfinite(values).all() and float(values.abs().max()) < 50


def test_the_pool_draws_other_scans_with_another_generator_and_the_same_with_the_same():
    pool = SyntheticPool()
    one, same, other = (pool.draw(2, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.values, same.values) and not torch.equal(one.values, other.values)
    assert not torch.equal(one.scans[0].values, one.scans[1].values)


SHORT = TrainerSettings(iterations=3, scans_at_once=1, refresh_every=2)


def test_a_model_for_any_modality_is_pretrained_without_any_scan(tmp_path, monkeypatch):
    monkeypatch.setattr("SSLFewShotLib.pretext.pretrain.HELD_OUT_BATCHES", 1)
    card = pretrain(None, "dense", tmp_path / "any", SHORT)
    assert card.preprocessing["modality"] == "any" and card.extent["unit"] == "suited"
    assert card.training["data"][0]["name"] == "synthetic scans" and card.training["data"][0]["scans"] == 2
    volume, _ = phantom(0, "MR", (20, 18, 16))
    descriptor = load_descriptor(tmp_path / "any", volume)
    assert descriptor.preparation.extent == Extent.suited_to(volume)
    points = volume.points_from_indices(np.array([[10, 9, 8]]))
    assert descriptor.describe(volume, points).shape == (1, 32)


def test_a_folder_can_be_gone_on_with_from_there(tmp_path, monkeypatch):
    monkeypatch.setattr("SSLFewShotLib.pretext.pretrain.HELD_OUT_BATCHES", 1)
    pretrain(None, "dense", tmp_path / "any", SHORT)
    (tmp_path / "scans").mkdir()
    volume, _ = phantom(0, "MR", (20, 18, 16))
    write_volume(volume, tmp_path / "scans" / "one.nrrd")
    card = pretrain(tmp_path / "scans", "dense", tmp_path / "own", SHORT, start=tmp_path / "any")
    assert card.extent["unit"] == "mm" and card.preprocessing["modality"] == "MR"
    assert [data["name"] for data in card.training["data"]] == ["synthetic scans", "scans"]


def test_synthetic_scans_go_on_from_a_model_that_was_made_of_them_and_from_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr("SSLFewShotLib.pretext.pretrain.HELD_OUT_BATCHES", 1)
    pretrain(None, "dense", tmp_path / "any", SHORT)
    card = pretrain(None, "dense", tmp_path / "longer", SHORT, start=tmp_path / "any")
    assert card.extent["unit"] == "suited" and card.training["settings"]["start"] == "any"
    with pytest.raises(InputError, match="dense-head-neck-ct: made for CT"):
        pretrain(None, "dense", tmp_path / "other", SHORT, start="dense-head-neck-ct")
    assert not (tmp_path / "other").exists()


def test_only_dense_learns_from_synthetic_scans(tmp_path):
    with pytest.raises(InputError, match="dense only"):
        pretrain(None, "heatmap", tmp_path / "any", SHORT)
    with pytest.raises(InputError, match="size"):
        pretrain(None, "dense", tmp_path / "any", SHORT, extent=Extent())
    with pytest.raises(InputError, match="source"):
        pretrain(None, "dense", tmp_path / "any", SHORT, PretrainingSource("mine"))
    assert not list(tmp_path.iterdir())


def test_a_folder_or_synthetic_scans_are_given_not_both(tmp_path, capsys):
    output = ["--output", str(tmp_path / "any")]
    for given in ([], [str(tmp_path), "--synthetic"]):
        with pytest.raises(SystemExit, match="2"):
            main(["pretrain", *given, *output])
        assert "--synthetic" in capsys.readouterr().err.splitlines()[-1]
