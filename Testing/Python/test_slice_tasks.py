"""SLICE-ORDER and SLICE-ROTATION: losses worked out by hand, what is drawn, and that they are learned."""

import numpy as np
import pytest
import torch
from command_line import sslfewshot
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.phantoms import phantom, write_cohort
from SSLFewShotLib.networks.slices import SliceNetwork
from SSLFewShotLib.pretext.methods import make_task
from SSLFewShotLib.pretext.pretrain import pretrain
from SSLFewShotLib.pretext.slice_order import SliceOrder, chance_displacement, mean_displacement, order_loss
from SSLFewShotLib.pretext.slice_rotation import ANGLES, SliceRotation, neighbour
from SSLFewShotLib.pretext.trainer import TrainerSettings
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.slices import axes_in, planes, turned

CT = Intensity("window", -500.0, 1000.0)
ANY = Extent("mm", 120.0)


@pytest.fixture(scope="module")
def batch() -> ScanBatch:
    task = SliceOrder(ANY, CT, side=32)
    return ScanBatch([task.preparation(phantom(seed, "CT", (24, 20, 22))[0]) for seed in range(2)])


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_resnet_50_has_the_parameters_of_its_paper():
    whole = SliceNetwork(3, 1000, "resnet50")
    assert count(whole) == 25_557_032
    assert count(whole.layers) == 23_508_032
    assert whole.features(torch.zeros(1, 3, 64, 64)).shape == (1, 2048, 2, 2)


def test_the_small_network_keeps_an_eighth_of_the_resolution_and_is_a_hundredth_of_the_size():
    small = SliceNetwork(2, 7)
    assert small(torch.zeros(3, 2, 96, 96)).shape == (3, 7)
    assert small.features(torch.zeros(3, 2, 96, 96)).shape == (3, 96, 12, 12)
    assert count(small) < 250_000


def test_an_unknown_network_is_refused():
    with pytest.raises(InputError, match="network 'huge' is not known"):
        SliceNetwork(1, 1, "huge")


def test_the_order_loss_of_three_slices_is_the_formulas():
    # f = (0, 0.3, 0.25) and y = (0, 1, 2), m = 0.1. Pairs (0,1) and (1,0): 0.1 − 0.3 → 0; (0,2) and (2,0): 0;
    # (1,2) and (2,1) are the wrong way round: 0.05 + 0.1 each. Six pairs.
    loss = order_loss(torch.tensor([0.0, 0.3, 0.25]), torch.tensor([0, 1, 2]), 0.1)
    assert float(loss) == pytest.approx(2 * 0.15 / 6)


def test_the_sign_of_a_pair_follows_the_order_both_ways():
    scores, margin = torch.tensor([0.0, 1.0]), 0.1
    assert float(order_loss(scores, torch.tensor([3, 8]), margin)) == 0
    assert float(order_loss(scores, torch.tensor([8, 3]), margin)) == pytest.approx(1.1)
    assert float(order_loss(-scores, torch.tensor([8, 3]), margin)) == 0


def test_equal_scores_cost_the_margin_and_a_slice_beside_itself_nothing():
    assert float(order_loss(torch.zeros(5), torch.arange(5), 0.1)) == pytest.approx(0.1)
    assert float(order_loss(torch.zeros(1), torch.arange(1), 0.1)) == 0


def test_the_gradient_pulls_slices_into_their_order():
    scores = torch.zeros(3, requires_grad=True)
    order_loss(scores, torch.tensor([2, 0, 1]), 0.1).backward()
    assert scores.grad[0] < scores.grad[2] < scores.grad[1]


def test_the_displacement_counts_places_between_ranks():
    order = torch.tensor([10, 40, 20, 30])
    assert float(mean_displacement(torch.tensor([1.0, 4, 2, 3]), order)) == 0
    # Ranks 0 3 2 1 instead of 0 3 1 2: two slices are one place off.
    assert float(mean_displacement(torch.tensor([1.0, 4, 3, 2]), order)) == 0.5
    # Turned round: 3, 1, 1 and 3 places.
    assert float(mean_displacement(-torch.tensor([1.0, 4, 2, 3]), order)) == 2.0


def test_chance_is_the_displacement_of_shuffled_slices(rng):
    shuffled = [mean_displacement(torch.as_tensor(rng.permutation(12)), torch.arange(12)) for _ in range(3000)]
    assert float(np.mean(shuffled)) == pytest.approx(chance_displacement(12), rel=0.02)


def test_slices_of_a_batch_come_from_one_scan_and_differ(batch, rng):
    task = SliceOrder(ANY, CT, 6, side=32)
    drawn = task.sample(batch, rng)
    assert drawn["slices"].shape == (6, 1, 32, 32) and len(set(drawn["order"].tolist())) == 6
    loss, metrics = task.loss(drawn)
    assert loss.requires_grad and 0 <= float(metrics["mean_displacement"]) <= 3


def test_the_middle_of_the_axis_is_drawn_more_often_than_its_ends():
    task, rng = SliceOrder(ANY, CT, 6), np.random.default_rng(0)
    numbers = np.concatenate([task.draw(60, rng) for _ in range(300)])
    counts = np.histogram(numbers, 6, (-0.5, 59.5))[0]
    assert counts[2] > 3 * counts[0] and counts[3] > 3 * counts[5]
    uniform = SliceOrder(ANY, CT, 6, positions="uniform")
    counts = np.histogram(np.concatenate([uniform.draw(60, rng) for _ in range(300)]), 6, (-0.5, 59.5))[0]
    assert counts.min() > 0.8 * counts.max()


def test_a_scan_with_fewer_slices_than_a_batch_gives_those_it_has(rng):
    task = SliceOrder(ANY, CT, 12, side=32)
    flat = Volume.from_spacing(rng.normal(0, 300, (3, 32, 32)).astype(np.float32))
    drawn = task.sample(ScanBatch([task.preparation(flat)]), rng)
    assert sorted(drawn["order"].tolist()) == [0, 1, 2]
    assert torch.isfinite(task.loss(drawn)[0])
    single = Volume.from_spacing(rng.normal(0, 300, (1, 32, 32)).astype(np.float32))
    one = ScanBatch([task.preparation(single)])
    assert float(task.loss(task.sample(one, rng))[0].detach()) == 0
    rotation = SliceRotation(ANY, CT, 4, axes="S", side=32)
    assert torch.isfinite(rotation.loss(rotation.sample(one, rng))[0])


def test_micrometres_given_for_millimetres_are_prepared_alike(batch):
    volume, _ = phantom(0, "CT", (24, 20, 22))
    huge = Volume(volume.array, np.diag([100.0, 100, 100, 1]) @ volume.ijkToLps, "huge", "CT")
    scan = SliceOrder(ANY, CT, side=32).preparation(huge)
    assert torch.allclose(scan.values, batch.scans[0].values, atol=1e-3)
    assert np.allclose(scan.spacing, 100 * batch.scans[0].spacing)
    assert np.allclose(scan.origin, 100 * batch.scans[0].origin)


def test_planes_across_each_axis_are_the_scans_own(batch):
    scan = batch.scans[0]
    assert torch.equal(planes(scan, 2, np.array([4]))[0], scan.values[4])
    assert torch.equal(planes(scan, 1, np.array([4]))[0], scan.values[:, 4])
    assert torch.equal(planes(scan, 0, np.array([4]))[0], scan.values[:, :, 4])


def test_a_slice_that_is_not_turned_is_padded_to_a_square_and_cut_to_the_circle(rng):
    slices = torch.as_tensor(rng.normal(size=(2, 8, 12)), dtype=torch.float32)
    found = turned(slices, torch.zeros(2), 12, fill=-1.0, circle=False)
    assert torch.allclose(found[:, 2:10], slices, atol=1e-5) and torch.allclose(found[:, :2], torch.tensor(-1.0))
    cut = turned(slices, torch.zeros(2), 12, fill=-1.0)
    assert float(cut[:, 0, 0].abs().max()) == 0 and torch.equal(cut[:, 6, 3], found[:, 6, 3])


def test_a_quarter_turn_is_counter_clockwise(rng):
    square = torch.as_tensor(rng.normal(size=(1, 9, 9)), dtype=torch.float32)
    found = turned(square, torch.tensor([90.0]), 9, 0.0, circle=False)
    assert torch.allclose(found, torch.rot90(square, 1, (1, 2)), atol=1e-4)


def test_a_turn_leaves_no_trace_outside_the_circle():
    bright = torch.ones(1, 40, 40)
    still, round_ = (turned(bright, torch.tensor([angle]), 40, 0.0) for angle in (0.0, 45.0))
    assert torch.allclose(still, round_, atol=1e-3)


def test_the_second_slice_is_near_the_first_and_another_one(rng):
    for first in (0, 3, 49):
        seen = {neighbour(first, 50, 0.06, rng) for _ in range(100)}
        assert first not in seen and max(abs(n - first) for n in seen) <= 3 and len(seen) >= 3
    assert neighbour(0, 1, 0.05, rng) == 0


def test_pairs_are_drawn_with_the_angle_they_are_turned_by(batch, rng):
    task = SliceRotation(ANY, CT, 5, side=32)
    drawn = task.sample(batch, rng)
    assert drawn["pairs"].shape == (5, 2, 32, 32) and drawn["angle"].max() < len(ANGLES)
    loss, metrics = task.loss(drawn)
    assert loss.requires_grad and 0 <= float(metrics["accuracy"]) <= 1


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("slice-order", {"axes": "XYZ"}, "letters of LPS"),
        ("slice-order", {"axes": ""}, "letters of LPS"),
        ("slice-order", {"axes": "SS"}, "letters of LPS"),
        ("slice-order", {"positions": "edges"}, "one of normal, uniform"),
        ("slice-order", {"margin": 0.0}, "above 0"),
        ("slice-rotation", {"angles": [90.0]}, "two different"),
        ("slice-rotation", {"reach": 2.0}, "share of an axis"),
        ("slice-rotation", {"network": "vgg"}, "is not known"),
        ("slice-rotation", {"depth": 3}, "no option of slice-rotation"),
    ],
)
def test_settings_that_cannot_be_are_refused(method, options, said):
    with pytest.raises(InputError, match=said):
        make_task(method, ANY, CT, 4, options)


def test_one_slice_cannot_be_put_in_order():
    with pytest.raises(InputError, match="at least 2"):
        make_task("slice-order", ANY, CT, 1)


def test_axes_are_given_by_their_letters():
    assert axes_in("lps") == [0, 1, 2] and axes_in("S") == [2]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 10, labelled=0, size=(32, 28, 30))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "better"), [("slice-order", lambda m: m < 0.6), ("slice-rotation", lambda m: m > 2)]
)
def test_the_one_trainer_learns_the_task_and_the_card_says_how_well(cohort, tmp_path, method, better):
    options = {"side": 32, "axes": "S"}
    settings = TrainerSettings(iterations=150, learning_rate=3e-3)
    card = pretrain(cohort, method, tmp_path / method, settings, device="cpu", options=options)
    assert card.method == method and card.architecture["name"] == "SliceNetwork"
    assert card.extent["unit"] == "normalised" and card.training["settings"]["axes"] == "S"
    assert better(card.metrics["held_out"] / card.metrics["chance"]), card.metrics


def test_the_command_pretrains_on_slices_across_the_axes_that_are_named(three_small_scans, tmp_path):
    given = ("--method", "slice-rotation", "--axes", "PS", "--side", "24", "--iterations", "2", "--device", "cpu")
    outcome = sslfewshot("pretrain", three_small_scans, "--output", tmp_path / "m", *given, "--json")
    assert outcome.code == 0, outcome.err
    settings = outcome.result["training"]["settings"]
    assert settings["axes"] == "PS" and settings["side"] == 24
    wrong = sslfewshot("pretrain", three_small_scans, "--output", tmp_path / "n", *given, "--method", "dense")
    assert "no option of dense" in wrong.error


def test_several_rows_are_each_sorted_among_themselves(batch):
    task = make_task("slice-order", ANY, CT, 6, {"side": 32, "rows": 3})
    drawn = task.sample(batch, np.random.default_rng(0))
    assert drawn["slices"].shape == (18, 1, 32, 32) and drawn["row"].tolist() == [0] * 6 + [1] * 6 + [2] * 6
    # Right within each row, and far off between rows: that is no mistake.
    task.network = Says(drawn["order"].float() + 1000 * (2 - drawn["row"]))
    loss, metrics = task.loss(drawn)
    assert float(loss) == 0 and float(metrics["mean_displacement"]) == 0
    task.network = Says(-drawn["order"].float())
    assert float(task.loss(drawn)[1]["mean_displacement"]) == pytest.approx(3.0)
    assert task.settings()["rows"] == 3
    with pytest.raises(InputError, match="0 rows"):
        make_task("slice-order", ANY, CT, 6, {"rows": 0})


class Says(torch.nn.Module):
    """A network whose answers are known."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def forward(self, slices):
        return self.scores[:, None]
