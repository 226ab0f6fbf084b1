"""DENSE: its network, its loss on cases worked out by hand, and the descriptor that comes of it."""

import math

import numpy as np
import pytest
import torch
from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.phantoms import phantom, write_cohort
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.pretext.dense import Dense, contrastive_loss, dense_preparation
from SSLFewShotLib.pretext.pretrain import pretrain
from SSLFewShotLib.pretext.trainer import TrainerSettings
from SSLFewShotLib.progress import ignore_progress
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import PreparedScan

CT = Intensity("window", -500.0, 1000.0)


@pytest.fixture(scope="module")
def scan():
    volume, _ = phantom(0, "CT", (40, 32, 36))
    return dense_preparation(Extent("mm", 240.0), CT)(volume)


def a_descriptor(scale: float = 240.0) -> DenseDescriptor:
    torch.manual_seed(0)
    return DenseDescriptor(UNet3d(1, 4, 8, 3), Extent("mm", scale), CT, "small")


def test_the_published_unet_has_its_4_1_million_parameters():
    assert sum(p.numel() for p in UNet3d(1, 32, 32, 4).parameters()) == 4_081_904


@pytest.mark.parametrize("size", [(8, 8, 8), (9, 10, 11), (1, 5, 17)])
def test_the_unet_keeps_any_size(size):
    assert UNet3d(1, 4, 6, 3)(torch.zeros(2, 1, *size)).shape == (2, 6, *size)


def test_the_contrastive_loss_of_two_places_is_the_formulas():
    first, second = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [3.0, 3.0]])
    far = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    loss, accuracy = contrastive_loss(first, second, far, temperature=0.5)
    # Cosines: [[1, r], [0, r]], r = 1/√2; over τ: twice that.
    r = 1 / math.sqrt(2)
    rows = [math.log(math.exp(2) + math.exp(2 * r)) - 2, math.log(1 + math.exp(2 * r)) - 2 * r]
    columns = [math.log(math.exp(2) + 1) - 2, math.log(2 * math.exp(2 * r)) - 2 * r]
    assert float(loss) == pytest.approx((sum(rows) / 2 + sum(columns) / 2) / 2, rel=1e-6)
    assert float(accuracy) == 1.0


def test_a_place_next_to_the_right_one_is_no_negative():
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    apart, close = torch.tensor([[0.0, 0, 0], [9.0, 0, 0]]), torch.tensor([[0.0, 0, 0], [1.0, 0, 0]])
    assert float(contrastive_loss(vectors, vectors, apart)[0]) == pytest.approx(math.log(2))
    assert float(contrastive_loss(vectors, vectors, close)[0]) == pytest.approx(0.0)


def test_both_views_of_a_pair_show_the_same_places(scan):
    task = Dense(Extent("mm", 240.0), CT, 2)
    batch = task.sample(ScanBatch([scan]), np.random.default_rng(0))
    assert batch["views"].shape == (4, 1, 40, 40, 40)
    assert batch["points"].shape[:2] == (2, 2) and batch["points"].shape[2] == batch["places"].shape[1] > 100
    assert (batch["points"] >= 0).all() and (batch["points"] <= 39).all()
    again = task.sample(ScanBatch([scan]), np.random.default_rng(0))
    assert all(torch.equal(batch[key], again[key]) for key in batch)


def test_a_scan_without_a_body_does_not_end_a_training(scan):
    empty = type(scan)(scan.values * 0, scan.body & False, scan.origin, scan.spacing, scan.unit)
    task = Dense(Extent("mm", 240.0), CT, 1)
    loss, _ = task.loss(task.sample(ScanBatch([empty]), np.random.default_rng(0)))
    assert torch.isfinite(loss)


@pytest.mark.slow
def test_places_are_told_apart_better_with_every_iteration(scan):
    torch.manual_seed(0)
    task = Dense(Extent("mm", 240.0), CT, 1)
    optimiser = torch.optim.Adam(task.modules().parameters(), 2e-3)
    accuracies = []
    for number in range(30):
        loss, metrics = task.loss(task.sample(ScanBatch([scan]), np.random.default_rng(number)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        accuracies.append(float(metrics["accuracy"]))
    assert np.mean(accuracies[-5:]) > 3 * np.mean(accuracies[:5]) > 3 * task.chance


def test_vectors_have_unit_length_and_their_place_decides(scan):
    descriptor = a_descriptor()
    volume, _ = phantom(0, "CT", (40, 32, 36))
    points = volume.points_from_indices(np.array([[20, 16, 18], [20, 16, 18], [10, 10, 10]]))
    vectors = descriptor.describe(volume, points)
    assert vectors.shape == (3, 8) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[0], vectors[1]) and not np.allclose(vectors[0], vectors[2])


def test_a_scan_larger_than_a_tile_and_one_smaller_are_described():
    for scale in (150.0, 600.0):
        volume, _ = phantom(1, "CT", (40, 32, 36))
        field = a_descriptor(scale).dense(volume, 60.0)
        assert np.isfinite(field.array).all() and field.array.shape[-1] == 8


def test_the_same_scan_stored_the_other_way_round_gets_the_same_vectors():
    volume, _ = phantom(0, "CT", (40, 32, 36))
    flipped = volume.ijkToLps @ np.array([[-1, 0, 0, 39], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    mirrored = Volume(volume.array[:, :, ::-1], flipped, "flipped", "CT")
    points = volume.points_from_indices(np.array([[20, 16, 18], [12, 9, 20]]))
    one, other = (a_descriptor().describe(v, points) for v in (volume, mirrored))
    assert np.allclose(one, other, atol=1e-4)


def test_a_scan_is_passed_through_the_network_once(monkeypatch):
    descriptor, calls = a_descriptor(), []
    volume, _ = phantom(0, "CT", (40, 32, 36))
    computed = descriptor._computed
    monkeypatch.setattr(descriptor, "_computed", lambda *scan: calls.append(1) or computed(*scan))
    centre = volume.points_from_indices(np.array([[20, 16, 18]]))
    descriptor.describe(volume, centre)
    descriptor.describe(volume, centre + 5)
    assert len(calls) == 1


def test_describing_can_be_cancelled():
    def stop(fraction, message):
        raise Cancelled

    volume, _ = phantom(0, "CT", (40, 32, 36))
    with pytest.raises(Cancelled):
        a_descriptor().describe(volume, volume.points_from_indices(np.array([[20, 16, 18]])), stop)


@pytest.mark.slow
def test_a_pretrained_model_is_loaded_as_it_was_written(tmp_path):
    write_cohort(tmp_path / "scans", 2, labelled=0, size=(20, 16, 18))
    settings = TrainerSettings(iterations=1)
    card = pretrain(tmp_path / "scans", "dense", tmp_path / "tiny", settings, batch_size=1, device="cpu")
    assert (card.architecture["name"], card.architecture["branches"]) == ("UNet3d", ["unet"])
    assert card.architecture["settings"] == {"inputs": 1, "features": 12, "outputs": 32, "levels": 4}
    volume, _ = phantom(0, "CT", (20, 16, 18))
    descriptor = load_descriptor(tmp_path / "tiny", volume)
    assert descriptor.describe(volume, volume.points_from_indices(np.array([[9, 8, 9]]))).shape == (1, 32)


def test_a_scan_that_is_far_too_large_for_a_model_is_refused_before_memory_runs_out():
    descriptor = DenseDescriptor(UNet3d(1, 4, 32, 2), Extent("mm", 31.0), CT, "for-small-scans")
    values = torch.zeros(1, 1, 1).expand(400, 400, 400)
    scan = PreparedScan(values, values > 0, np.zeros(3), np.ones(3), np.full(3, 31.0), "large.nrrd")
    with pytest.raises(InputError, match=r"large.nrrd: for-small-scans looks at every 1 mm of it, .* 8 GB"):
        descriptor.field(scan, ignore_progress)
