"""ALPNET: its episodes, its loss, its training with AdamW and one-cycle, and going on with labelled scans."""

import json

import numpy as np
import pytest
import torch
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.cases import find_cases
from SSLFewShotLib.imaging.files import read_volume
from SSLFewShotLib.imaging.phantoms import phantom, write_cohort
from SSLFewShotLib.models import load_model
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.pretext.alpnet import Alpnet
from SSLFewShotLib.pretext.labelled_regions import LabelledRegions
from SSLFewShotLib.pretext.methods import make_task
from SSLFewShotLib.pretext.pretrain import pretrain
from SSLFewShotLib.pretext.trainer import TrainerSettings
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.episodes import self_supervised_pair
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.supervoxels import neighbours_of
from SSLFewShotLib.sampling.views import Deformation, View

CT = Intensity("window", -500.0, 1000.0)
EXTENT = Extent("mm", 300.0)
SMALL = {"features": 4, "crop": (16, 16, 16), "regions": 3, "supervoxel_mm3": 64000.0}
TINY = {"features": 4, "crop": [8, 8, 8], "supervoxel_mm3": 1e6}
TINY_EXTENT = Extent("mm", 1000.0)


@pytest.fixture(autouse=True)
def own_supervoxels(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SSLFEWSHOT_SUPERVOXELS", str(tmp_path_factory.getbasetemp() / "supervoxels"))


@pytest.fixture(scope="module")
def scans():
    prepare = make_task("alpnet", EXTENT, CT).preparation
    return [prepare(phantom(seed, "CT", (40, 32, 36))[0]) for seed in (0, 1)]


def a_task(**options) -> Alpnet:
    torch.manual_seed(0)
    return make_task("alpnet", EXTENT, CT, None, {**SMALL, **options})


def unchanged(values, rng):
    return values


# Episodes


def test_the_paper_s_network_and_sizes_can_be_had():
    task = make_task(
        "alpnet", EXTENT, CT, None, {"features": 32, "crop": (24, 128, 128), "window": (6, 16, 16), "regions": 1}
    )
    assert sum(p.numel() for p in task.modules().parameters()) == 4_081_904
    said = json.loads(json.dumps(task.settings()))
    assert said["crop"] == [24, 128, 128] and said["window"] == [6, 16, 16] and said["threshold"] == 0.95


def test_support_and_query_show_the_same_regions(scans):
    regions = torch.from_numpy(a_task()._regions(scans[0]).numpy())
    centre = np.array(scans[0].body.shape[::-1]) / 2
    still = Deformation(rotation=0, scale=1, shear=0, elastic=0)
    for seed in range(4):
        support, query = self_supervised_pair(
            scans[0], regions, centre, (16, 16, 16), 3, still, unchanged, np.random.default_rng(seed)
        )
        assert len(support.masks) == 3 and torch.equal(support.masks, query.masks)
        assert torch.allclose(support.values, query.values, atol=1e-4) and torch.equal(support.body, query.body)


def test_one_view_is_the_scan_itself_and_the_other_one_deformed(scans):
    regions = a_task()._regions(scans[0])
    centre = np.array([n // 2 for n in scans[0].body.shape[::-1]], dtype=float) - 0.5
    crop = scans[0].values[tuple(slice(n // 2 - 8, n // 2 + 8) for n in scans[0].body.shape)]
    plain = []
    for seed in range(8):
        sides = self_supervised_pair(
            scans[0], regions, centre, (16, 16, 16), 3, Deformation(), unchanged, np.random.default_rng(seed)
        )
        plain.append([torch.allclose(side.values, crop, atol=1e-3) for side in sides])
    assert all(one != other for one, other in plain) and len({tuple(row) for row in plain}) == 2


def test_half_of_the_regions_are_joined_with_one_that_touches_them(scans):
    regions = a_task()._regions(scans[0])
    # A whole number, so that the view shows the scan's own voxels.
    centre = np.array([n // 2 for n in scans[0].body.shape[::-1]], dtype=float) - 0.5
    still, joined, count = Deformation(0, 1, 0, 0), 0, 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        support, _ = self_supervised_pair(scans[0], regions, centre, (16, 16, 16), 3, still, unchanged, rng)
        for mask in support.masks:
            view = _regions_under(regions, centre, mask)
            assert len(view) in (1, 2)
            assert len(view) == 1 or view[1] in neighbours_of(regions.numpy(), view[0])
            joined, count = joined + (len(view) == 2), count + 1
    assert 0.3 < joined / count < 0.7


def _regions_under(regions, centre, mask) -> list[int]:
    shown = View((16, 16, 16), centre, np.eye(3), None).read_array(regions, "nearest").round().int()
    return [int(n) for n in shown[mask].unique()]


def test_the_same_seed_draws_the_same_episode_and_another_one_another(scans):
    batches = [a_task().sample(ScanBatch(scans), np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert all(torch.equal(batches[0][key], batches[1][key]) for key in batches[0])
    assert not torch.equal(batches[0]["views"], batches[2]["views"])


def test_voxels_that_are_drawn_stand_for_all_of_the_body(scans, monkeypatch):
    from SSLFewShotLib.pretext import alpnet

    monkeypatch.setattr(alpnet, "POINTS", 500)
    batch = a_task().sample(ScanBatch(scans), np.random.default_rng(0))
    for drawn, body in zip(batch["drawn"], batch["bodies"], strict=True):
        assert float(drawn.sum()) == pytest.approx(float(body.sum()), rel=0.25)
        assert not drawn[~body].any()


def test_a_crop_without_a_region_does_not_end_a_training(scans):
    empty = type(scans[0])(*(getattr(scans[0], n) for n in ("values", "body", "origin", "spacing", "unit")))
    empty = type(empty)(empty.values * 0, empty.body & False, empty.origin, empty.spacing, empty.unit)
    task = a_task()
    loss, metrics = task.loss(task.sample(ScanBatch([empty]), np.random.default_rng(0)))
    loss.backward()
    assert float(loss.detach()) == 0.0 and float(metrics["dice"]) == 0.0


# The loss


def test_a_perfect_prediction_costs_nearly_nothing_and_has_a_dice_of_one():
    task = a_task(window=(2, 2, 2))
    mask = torch.zeros(8, 8, 8, dtype=torch.bool)
    mask[2:6, 2:6, 2:6] = True
    field = torch.stack([mask.float(), 1 - mask.float()])
    body = torch.ones_like(mask)
    loss, dice = task._episode(
        field, field, body, body, body.float(), body.float(), torch.stack([mask, mask])[:, None]
    )
    # 20 against 0: the logit is 20 in the mask and −20 outside.
    assert float(loss) == pytest.approx(0.0, abs=1e-5) and float(dice) == 1.0


def test_the_alignment_loss_adds_the_way_back_with_its_weight(scans):
    batch = a_task().sample(ScanBatch(scans), np.random.default_rng(0))
    losses = [float(a_task(alignment=weight).loss(batch)[0].detach()) for weight in (0.0, 1.0, 2.0)]
    assert losses[0] < losses[1] and losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-4)


def test_the_loss_from_drawn_voxels_is_close_to_that_from_all(scans, monkeypatch):
    from SSLFewShotLib.pretext import alpnet

    losses = []
    for points in (1000, 10**6):
        monkeypatch.setattr(alpnet, "POINTS", points)
        batch = a_task().sample(ScanBatch(scans), np.random.default_rng(1))
        losses.append(float(a_task(alignment=0.0).loss(batch)[0].detach()))
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.slow
def test_an_episode_can_be_learned_by_heart(scans):
    task = a_task()
    batch = task.sample(ScanBatch(scans), np.random.default_rng(0))
    optimiser = torch.optim.AdamW(task.modules().parameters(), 5e-3)
    losses, dices = [], []
    for _ in range(60):
        loss, metrics = task.loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        dices.append(float(metrics["dice"]))
    assert losses[-1] < 0.7 * losses[0] and dices[-1] > 2 * dices[0]


@pytest.mark.parametrize(
    "options, said",
    [
        ({"crop": (16, 16)}, r"crop \[16, 16\]: three numbers of voxels from 8 up"),
        ({"window": (0, 4, 4)}, r"window \[0, 4, 4\]: three numbers"),
        ({"features": 0}, "features 0"),
        ({"generator": "cubes"}, "supervoxels 'cubes'"),
        ({"colour": 3}, "colour: no option of alpnet, which has features, crop"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        make_task("alpnet", EXTENT, CT, None, options)


def test_other_methods_have_no_options():
    with pytest.raises(InputError, match="features: no option of heatmap"):
        make_task("heatmap", EXTENT, CT, None, {"features": 3})


# Optimiser and schedule


def test_one_cycle_is_torch_s(tmp_path):
    settings = TrainerSettings(iterations=100, learning_rate=1e-3, schedule="one-cycle")
    optimiser = torch.optim.AdamW(UNet3d(1, 1, 1, 1).parameters())
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=101, cycle_momentum=False)
    for step in range(100):
        # torch puts the peak at step 0.3 · 101 − 1 and the end at step 100.
        peak = 0.3 * 101 - 1
        mine = 0.3 * step / peak if step < peak else 0.3 + 0.7 * (step - peak) / (100 - peak)
        assert settings.rate(mine) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-6)
        optimiser.step()
        theirs.step()


def test_a_method_s_usual_optimiser_and_schedule_hold_where_none_are_given():
    usual = TrainerSettings(iterations=1).suited_to(make_task("alpnet", EXTENT, CT))
    assert (usual.optimiser, usual.schedule, usual.weight_decay) == ("adamw", "one-cycle", 0.01)
    assert (usual.learning_rate, TrainerSettings(1).suited_to(make_task("sides", EXTENT, CT)).learning_rate) == (
        1e-3,
        1e-4,
    )
    given = TrainerSettings(1, learning_rate=0.1, optimiser="adam", schedule="constant", weight_decay=0.0)
    assert given.suited_to(make_task("alpnet", EXTENT, CT)) == given
    before = TrainerSettings(iterations=1).suited_to(make_task("dense", EXTENT, CT))
    assert (before.optimiser, before.schedule, before.weight_decay) == ("adam", "cosine", 0.0)


def test_an_unknown_optimiser_or_schedule_is_refused():
    with pytest.raises(InputError, match="optimiser 'sgd': one of adam, adamw was expected"):
        TrainerSettings(iterations=1, optimiser="sgd")
    with pytest.raises(InputError, match="schedule 'steps': one of cosine, constant, one-cycle was expected"):
        TrainerSettings(iterations=1, schedule="steps")


# From files to a model, and on from there


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 3, labelled=2, size=(20, 16, 18))
    return folder


def train(cohort, output, iterations=3, **keywords):
    settings = TrainerSettings(iterations=iterations, seed=0, scans_at_once=2)
    return pretrain(cohort, "alpnet", output, settings, device="cpu", **keywords)


@pytest.fixture(scope="module")
def model(cohort, tmp_path_factory):
    output = tmp_path_factory.mktemp("models") / "tiny"
    train(cohort, output, extent=TINY_EXTENT, options=TINY)
    return output


def test_the_card_says_how_the_model_was_trained(model):
    card, tensors = load_model(model)
    said = card.training["settings"]
    assert card.method == "alpnet" and card.architecture["name"] == "UNet3d"
    assert said["optimiser"] == "adamw" and said["schedule"] == "one-cycle"
    assert (
        said["crop"] == [8, 8, 8] and said["supervoxel_volume"] == 1e6 and said["supervoxel_generator"] == "slic"
    )
    assert card.architecture["parameters"] == sum(t.size for t in tensors.values())


def test_the_same_seed_gives_the_same_model_and_an_interrupted_training_too(cohort, model, tmp_path, monkeypatch):
    from SSLFewShotLib.errors import Cancelled

    plain, calls = Alpnet.sample, []

    def cancelling(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise Cancelled
        return plain(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Alpnet, "sample", cancelling)
        with pytest.raises(Cancelled):
            train(cohort, tmp_path / "parts", extent=TINY_EXTENT, options=TINY)
    train(cohort, tmp_path / "parts", extent=TINY_EXTENT, options=TINY, resume=True)
    one, other = (load_model(folder)[1] for folder in (model, tmp_path / "parts"))
    assert all(np.array_equal(one[key], other[key]) for key in one)


def test_a_model_goes_on_with_labelled_scans_and_says_which(cohort, model, tmp_path):
    card = train(
        cohort, tmp_path / "more", start=str(model), labelled=["phantom_000", "phantom_001"], iterations=2
    )
    assert [part["scans"] for part in card.training["data"]] == [3, 2]
    assert card.training["data"][1]["name"].endswith("labels of phantom_000, phantom_001")
    said = card.training["settings"]
    assert said["start"] == "tiny" and said["labelled"] == ["phantom_000", "phantom_001"]
    assert said["crop"] == [8, 8, 8] and card.extent["scale"] == 1000.0
    before, after = (load_model(folder)[1] for folder in (model, tmp_path / "more"))
    assert before.keys() == after.keys() and not all(np.array_equal(before[key], after[key]) for key in before)


def test_a_model_that_goes_on_starts_from_its_weights(cohort, model, tmp_path):
    settings = TrainerSettings(iterations=1, learning_rate=1e-30, weight_decay=0.0)
    pretrain(cohort, "alpnet", tmp_path / "same", settings, device="cpu", start=str(model))
    before, after = (load_model(folder)[1] for folder in (model, tmp_path / "same"))
    assert all(np.allclose(before[key], after[key], atol=1e-7) for key in before)


def test_labelled_pairs_are_the_same_structure_of_two_patients(cohort):
    task = make_task("alpnet", EXTENT, CT, None, {**SMALL, "regions": 7})
    cases = [case for case in find_cases(cohort) if case.labels is not None]
    task.use_labels(cases)
    scans = [task.preparation(read_volume(case.image)) for case in cases]
    batch = task.sample(ScanBatch(scans), np.random.default_rng(0))
    masks = batch["masks"][0].flatten(2).any(dim=2)
    assert torch.equal(masks[0], masks[1]) and masks.any()
    assert not torch.equal(batch["masks"][0, 0], batch["masks"][0, 1])
    one, other = (LabelledRegions(cases)(scan) for scan in scans)
    assert set(np.unique(one)) & set(np.unique(other)) - {0}


def test_what_cannot_be_gone_on_with_is_refused(cohort, model, tmp_path):
    with pytest.raises(InputError, match="its networks are not those of this training"):
        train(cohort, tmp_path / "other", start=str(model), options={"features": 5})
    with pytest.raises(InputError, match="has no labels in"):
        train(cohort, tmp_path / "other", start=str(model), labelled=["phantom_002"])
    with pytest.raises(InputError, match="no case has this id"):
        train(cohort, tmp_path / "other", labelled=["nobody"])
    with pytest.raises(InputError, match="method 'heatmap' learns from scans without labels only"):
        pretrain(
            cohort,
            "heatmap",
            tmp_path / "other",
            TrainerSettings(iterations=1),
            device="cpu",
            labelled=["phantom_000"],
        )
