"""Finding an object without marks: runs in profiles, boxes by certainty and by clustering, and finding nothing."""

import numpy as np
import pytest
import torch
from command_line import sslfewshot
from scipy import ndimage
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.files import read_labels, read_volume
from SSLFewShotLib.imaging.phantom_tomogram import TomogramPhantom
from SSLFewShotLib.localisation import certainty
from SSLFewShotLib.localisation.certainty import CertaintyLocaliser
from SSLFewShotLib.localisation.clustering import ClusteringLocaliser
from SSLFewShotLib.localisation.embeddings import back_to_slice
from SSLFewShotLib.localisation.profile_plot import draw_profiles
from SSLFewShotLib.localisation.runs import longest_run
from SSLFewShotLib.localisation.slice_model import SliceModel, load_slice_model
from SSLFewShotLib.models import ModelStore, load_model
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.slices import SlicePreparation, turned
from torch import nn
from torch.nn import functional as F

ANGLES = (-90.0, -30.0, 0.0, 30.0, 90.0)
SIDE = 48


class KnowsRotation(nn.Module):
    """Tries every angle: no network, but what a network that has learned the task would say."""

    def forward(self, pairs):
        tried = [turned(pairs[:, 0], torch.full((len(pairs),), a), pairs.shape[-1], 0.0) for a in ANGLES]
        return torch.stack([-((t - pairs[:, 1]) ** 2).mean(dim=(1, 2)) for t in tried], dim=1) * 60


class SeesTexture(nn.Module):
    """Mean, contrast and slopes of each superpixel of 4 × 4 pixels."""

    stride = 4

    def features(self, slices):
        mean = F.avg_pool2d(slices, 4)
        spread = (F.avg_pool2d(slices**2, 4) - mean**2).clamp(min=0).sqrt()
        right = F.avg_pool2d((slices[..., 1:] - slices[..., :-1]).abs(), (4, 4), ceil_mode=True)
        return torch.cat([mean, spread, right[..., : mean.shape[2], : mean.shape[3]]], dim=1)


def model(network: nn.Module, angles=ANGLES, axes=(0, 1, 2)) -> SliceModel:
    preparation = SlicePreparation(intensity=Intensity("zscore"), side=SIDE)
    return SliceModel("made", "slice-rotation", network, preparation, axes, angles, torch.device("cpu"))


def tomogram(seed: int, second: bool = False) -> tuple[Volume, Box]:
    phantom = TomogramPhantom(seed, (SIDE, SIDE, SIDE), clutter=False, second=second)
    return Volume(phantom.slab(0, SIDE), phantom.ijkToLps, phantom.name), phantom.box


def table() -> np.ndarray:
    """A board with a rim in a noisy medium, the same in each slice along S."""
    values = np.random.default_rng(3).normal(9_000, 300, (SIDE, SIDE, SIDE))
    values[:, -6:-3, 4:-4] = 11_500
    values[:, -9:-3, 4:6] = 12_500
    return np.clip(values, 0, 65_535).astype(np.uint16)


def on_a_table(seed: int) -> tuple[Volume, Box]:
    phantom = TomogramPhantom(seed, (SIDE, SIDE, SIDE), clutter=False)
    values = table()
    mask = phantom.object_mask()
    values[mask] = phantom.slab(0, SIDE)[mask]
    return Volume(values, phantom.ijkToLps, "on a table"), phantom.box


def overlap(one: Box, other: Box) -> float:
    low = np.maximum(one.centre - one.size / 2, other.centre - other.size / 2)
    high = np.minimum(one.centre + one.size / 2, other.centre + other.size / 2)
    common = np.prod(np.maximum(high - low, 0))
    return common / (one.volume + other.volume - common)


def profile(length: int, *spans: tuple[int, int], high: float = 0.9, low: float = 0.15, noise: float = 0.03):
    values = np.full(length, low)
    for start, stop in spans:
        values[start:stop] = high
    return np.clip(values + np.random.default_rng(0).normal(0, noise, length), 0, 1)


def test_the_run_is_where_the_values_are_high():
    run = longest_run(profile(100, (30, 60)), 1 / 7)
    assert run.start == pytest.approx(29.5, abs=0.6) and run.stop == pytest.approx(59.5, abs=0.6)
    assert not run.whole and not run.others and run.inside > 0.8 > 0.3 > run.outside


def test_a_single_outlier_is_neither_object_nor_gap():
    values = profile(100, (30, 60))
    values[10], values[45] = 0.95, 0.1
    run = longest_run(values, 1 / 7)
    assert run.start == pytest.approx(29.5, abs=0.6) and run.stop == pytest.approx(59.5, abs=0.6)


def test_an_object_that_begins_or_ends_with_the_scan_reaches_its_face():
    assert longest_run(profile(50, (0, 20)), 1 / 7).start == -0.5
    assert longest_run(profile(50, (30, 50)), 1 / 7).stop == 49.5


def test_where_nothing_is_told_apart_there_is_no_run():
    assert longest_run(profile(80), 1 / 7) is None


def test_an_object_in_all_slices_spans_the_axis():
    run = longest_run(profile(80, (0, 80)), 1 / 7)
    assert run.whole and (run.start, run.stop) == (-0.5, 79.5)


def test_of_two_objects_the_longer_is_taken_and_the_other_told():
    run = longest_run(profile(120, (10, 30), (60, 100)), 1 / 7)
    assert run.start == pytest.approx(59.5, abs=0.6) and len(run.others) == 1
    assert run.others[0] == pytest.approx((9.5, 29.5), abs=1.1)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_scan_of_few_slices_is_no_error(length):
    assert longest_run(np.full(length, 0.9), 1 / 7).whole
    assert longest_run(np.full(length, 0.15), 1 / 7) is None


@pytest.mark.parametrize("seed", [1, 2])
def test_certainty_finds_the_object_and_says_so_slice_by_slice(seed):
    volume, truth = tomogram(seed)
    found = CertaintyLocaliser(model(KnowsRotation())).fit().locate(volume)
    assert overlap(found.box, truth) > 0.6 and 0.2 < found.certainty <= 1
    assert [profile.axis for profile in found.profiles] == ["L", "P", "S"]
    for profile, low, high in zip(
        found.profiles, found.box.centre - found.box.size / 2, found.box.centre + found.box.size / 2, strict=True
    ):
        assert profile.edges == pytest.approx((low, high), abs=1e-6) and len(profile.values) == SIDE


def test_clustering_finds_the_object_and_states_its_control_metric():
    scans = [tomogram(seed) for seed in (1, 2, 3)]
    localiser = ClusteringLocaliser(model(SeesTexture(), angles=())).fit([volume for volume, _ in scans])
    assert localiser.auroc_ > 0.9 and localiser.background_ > 0.5
    assert localiser.provenance()["fitted"]["auroc"] == round(localiser.auroc_, 4)
    for volume, truth in scans:
        found = localiser.locate(volume)
        assert overlap(found.box, truth) > 0.5 and found.certainty > 0.3


def test_clustering_tells_of_a_second_object():
    volume, truth = tomogram(5, second=True)
    found = ClusteringLocaliser(model(SeesTexture(), angles=())).fit([volume]).locate(volume)
    alone = ClusteringLocaliser(model(SeesTexture(), angles=())).fit([volume]).locate(tomogram(5)[0])
    assert overlap(found.box, truth) > 0.4
    if "another object" in found.reason:
        assert found.certainty < alone.certainty


@pytest.mark.parametrize("kind", ["certainty", "clustering"])
def test_an_empty_scan_is_not_found(kind):
    volume, _ = tomogram(1)
    empty = volume.with_array(np.full_like(volume.array, 7))
    if kind == "certainty":
        found = CertaintyLocaliser(model(KnowsRotation())).locate(empty)
    else:
        found = ClusteringLocaliser(model(SeesTexture(), angles=())).fit([volume]).locate(empty)
        with pytest.raises(InputError, match="none of the scans shows anything"):
            ClusteringLocaliser(model(SeesTexture(), angles=())).fit([empty])
    assert found.box is None and found.certainty == 0 and found.reason.startswith("not found: the scan is empty")


def test_noise_alone_has_no_box(rng):
    volume, _ = tomogram(1)
    noise = volume.with_array(rng.normal(9000, 500, volume.array.shape).astype(np.float32))
    found = CertaintyLocaliser(model(KnowsRotation())).locate(noise)
    assert found.box is None and "not found" in found.reason and len(found.profiles) == 3


def test_an_object_that_fills_the_field_of_view_is_said_to():
    phantom = TomogramPhantom(3, (SIDE, SIDE, SIDE), clutter=False)
    array = phantom.slab(0, SIDE).astype(np.float32)
    low = np.floor((phantom.box.centre - 0.3 * phantom.box.size) / phantom.ijkToLps[0, 0]).astype(int)
    high = np.ceil((phantom.box.centre + 0.3 * phantom.box.size) / phantom.ijkToLps[0, 0]).astype(int)
    inner = Volume(array[low[2] : high[2], low[1] : high[1], low[0] : high[0]].copy(), phantom.ijkToLps, "inner")
    found = CertaintyLocaliser(model(KnowsRotation())).locate(inner)
    assert found.box is not None and "fills the field of view" in found.reason
    assert np.allclose(found.box.size, Box.of_grid(inner).size, rtol=0.2)


def test_a_flat_scan_is_no_error(rng):
    flat = Volume.from_spacing(rng.normal(0, 300, (2, 30, 40)).astype(np.float32))
    found = CertaintyLocaliser(model(KnowsRotation())).locate(flat)
    assert found.box is None or found.box.size[2] <= 2.5


def test_both_can_be_cancelled():
    def cancel(fraction, message):
        if fraction > 0.3:
            raise Cancelled

    volume, _ = tomogram(1)
    with pytest.raises(Cancelled):
        CertaintyLocaliser(model(KnowsRotation())).locate(volume, cancel)
    with pytest.raises(Cancelled):
        ClusteringLocaliser(model(SeesTexture(), angles=())).fit([volume], cancel)


@pytest.mark.parametrize("localiser", ["certainty", "clustering"])
def test_a_table_alone_is_not_found(localiser):
    empty = Volume(table(), np.eye(4), "table")
    if localiser == "certainty":
        found = CertaintyLocaliser(model(KnowsRotation())).locate(empty)
    else:
        found = ClusteringLocaliser(model(SeesTexture())).fit([on_a_table(1)[0], empty]).locate(empty)
    assert found.box is None and found.reason.startswith("not found")


@pytest.mark.parametrize("seed", range(3))
def test_a_table_that_runs_through_the_scan_is_no_part_of_the_object(seed):
    volume, truth = on_a_table(seed)
    found = CertaintyLocaliser(model(KnowsRotation())).locate(volume)
    assert overlap(found.box, truth) > 0.5
    clustered = ClusteringLocaliser(model(SeesTexture())).fit([volume]).locate(volume)
    assert overlap(clustered.box, truth) > 0.4


def test_a_round_more_looks_at_what_the_first_has_found(monkeypatch):
    windows = []
    kept = certainty.rotation_certainty

    def watched(model, scan, axis, progress, window):
        windows.append((axis, window))
        return kept(model, scan, axis, progress, window)

    monkeypatch.setattr(certainty, "rotation_certainty", watched)
    volume, _ = on_a_table(1)
    CertaintyLocaliser(model(KnowsRotation()), rounds=1).locate(volume)
    assert windows == [(axis, (slice(0, SIDE),) * 3) for axis in range(3)]
    CertaintyLocaliser(model(KnowsRotation()), rounds=2).locate(volume)
    (last,) = [window for axis, window in windows[6:] if axis == 2]
    # Along S all slices are looked at; along P and L what the object takes up, and a tenth more.
    assert last[0] == slice(0, SIDE) and max(part.stop - part.start for part in last[1:]) < 0.8 * SIDE
    with pytest.raises(InputError, match="at least one round"):
        CertaintyLocaliser(model(KnowsRotation()), rounds=0)


def test_numbers_of_superpixels_go_back_to_where_they_were_seen():
    values = np.zeros((1, 4, 4), np.float32)
    values[0, 2, 1] = 1
    slice_ = back_to_slice(values, 8, 16)
    assert slice_.shape == (1, 8, 16)
    row, column = np.unravel_index(slice_[0].argmax(), (8, 16))
    # The square has 16 rows, of which 4 above the slice are padding: row 10 of it is row 6 here.
    assert 4 <= row <= 7 and 4 <= column <= 7


def test_the_profile_is_drawn_with_the_boxes_edges(tmp_path):
    found = CertaintyLocaliser(model(KnowsRotation())).locate(tomogram(1)[0])
    draw_profiles(found.profiles, tmp_path / "p.png", "made")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_models_of_other_methods_are_refused_in_words():
    with pytest.raises(InputError, match="certainty needs one of slice-rotation"):
        CertaintyLocaliser(model(SeesTexture(), angles=()))
    dense = ModelStore().find("dense-head-neck-ct")
    with pytest.raises(InputError, match="of dense, but finding an object without marks needs"):
        SliceModel.of(*load_model(dense.folder))
    with pytest.raises(InputError, match="of dense; this needs one of slice-rotation"):
        load_slice_model("dense-head-neck-ct", ("slice-rotation",), tomogram(1)[0])


def test_without_a_model_that_fits_the_way_to_one_is_told(own_store):
    with pytest.raises(InputError, match="pretrain one on such scans"):
        load_slice_model(None, ("slice-rotation",), tomogram(1)[0])


def test_along_an_axis_without_structure_the_box_spans_the_scan_and_is_less_certain(rng):
    # Turned on a lathe: a slice across its axis shows rings, whose turn nobody sees; the others show them edge on.
    steps = np.arange(SIDE) - (SIDE - 1) / 2
    ring = np.hypot(steps[:, None], steps).astype(int)
    smooth = ndimage.gaussian_filter(rng.normal(0, 2_000, (SIDE, ring.max() + 1)), 2)
    turned_object = smooth[:, ring].astype(np.float32)
    volume = Volume.from_spacing(turned_object, name="lathe")
    found = CertaintyLocaliser(model(KnowsRotation())).locate(volume)
    assert "nothing can be told apart foot to head" in found.reason and found.certainty < 0.5
    assert found.box.size == pytest.approx([SIDE] * 3, rel=0.05)


@pytest.mark.realdata
@pytest.mark.slow
def test_structures_of_a_marked_patient_are_found_in_another_one(real_data, tmp_path):
    folder = real_data / "head-neck-ct" / "labelled"
    support = ("--support", folder / "pt_013_ct.nii.gz", folder / "pt_013_seg.nii.gz")
    target = folder / "pt_004_ct.nii.gz"
    outcome = sslfewshot("localise", target, *support, "--output", tmp_path / "o", "--device", "cpu", "--json")
    assert outcome.code == 0, outcome.err
    (entry,) = outcome.result["targets"]
    volume, labels = read_volume(target), read_labels(folder / "pt_004_seg.nii.gz")
    for part in entry["segments"]:
        places = volume.points_from_indices(np.argwhere(labels.mask(part["name"]))[:, ::-1])
        assert Box.from_dict(part["box"]).grown(10).holds(places).mean() > 0.8, part
    assert entry["crop"]["saved"] > 0.5
