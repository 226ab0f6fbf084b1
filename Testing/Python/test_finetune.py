"""Fine-tuning as a segmenter: it learns what was marked, can be stopped and gone on with, and is kept."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.imaging import LabelMap, SupportSet, Volume
from SSLFewShotLib.imaging.labelmap import Segment
from SSLFewShotLib.models import ModelStore
from SSLFewShotLib.pretext.checkpoint import CHECKPOINT_NAME
from SSLFewShotLib.pretext.continuing import Beginning
from SSLFewShotLib.segmentation.choice import chosen, make_segmenter, tuned_segmenter
from SSLFewShotLib.segmentation.finetune import FineTuneSegmenter
from SSLFewShotLib.segmentation.tuned import TunedSegmenter
from SSLFewShotLib.tuning import task as tuning_task
from SSLFewShotLib.tuning.start import make_start
from tuning_samples import begun, blocks, dice, segmenter, support, write_small_model

# Sums come out the same to the last bit in every process.
pytestmark = pytest.mark.usefixtures("one_torch_thread", "own_store")


def weights(fitted: FineTuneSegmenter) -> dict[str, torch.Tensor]:
    return fitted.tuned_.network.state_dict()


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def stop_at(iteration: int, monkeypatch) -> None:
    """Have the user cancel when the training comes to that iteration."""
    plain = tuning_task.FineTuning.sample
    calls = []

    def sample(self, volumes, rng):
        calls.append(1)
        if len(calls) > iteration:
            raise Cancelled
        return plain(self, volumes, rng)

    monkeypatch.setattr(tuning_task.FineTuning, "sample", sample)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> FineTuneSegmenter:
    """From one scan, until it knows both blocks."""
    made = segmenter(tmp_path_factory.mktemp("trained"), iterations=250, learning_rate=1e-2)
    return made.fit(support(0))


def test_what_was_marked_in_one_scan_is_found_in_others(trained):
    for seed in (1, 2):
        volume, truth = blocks(seed)
        found, confidence = trained.predict(volume)
        assert found.same_grid(volume) and confidence.same_grid(volume)
        assert confidence.array.min() >= 0 and confidence.array.max() <= 1
        assert min(dice(found, truth, name) for name in ("RightBlock", "LeftBlock")) > 0.6
        assert [(s.name, s.colour, s.terminology) for s in found.segments] == [
            (s.name, s.colour, s.terminology) for s in truth.segments
        ]


def test_labels_come_back_on_a_flipped_permuted_finer_grid(trained):
    volume, truth = blocks(1)
    flipped = volume.ijkToLps @ np.array(
        [[-0.5, 0, 0, 19.25], [0, 0, 0.5, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0, 1]]
    )
    fine = np.repeat(np.repeat(np.repeat(volume.array.transpose(1, 0, 2)[:, :, ::-1], 2, 0), 2, 1), 2, 2)
    labels = np.repeat(np.repeat(np.repeat(truth.array.transpose(1, 0, 2)[:, :, ::-1], 2, 0), 2, 1), 2, 2)
    scan = Volume(fine, flipped, "flipped", "CT")
    found, _ = trained.predict(scan)
    wanted = LabelMap(labels, flipped, "wanted", segments=truth.segments)
    assert found.same_grid(scan) and min(dice(found, wanted, s.name) for s in truth.segments) > 0.6


def test_the_same_seed_gives_the_same_network_and_another_seed_another(tmp_path):
    one, again, other = (segmenter(tmp_path, seed=seed).fit(support(0)) for seed in (0, 0, 1))
    assert same(weights(one), weights(again)) and not same(weights(one), weights(other))
    for a, b in zip(one.predict(blocks(1)[0]), again.predict(blocks(1)[0]), strict=True):
        assert np.array_equal(a.array, b.array)


@pytest.mark.parametrize("iteration", [1, 5, 8])
def test_a_cancelled_fine_tuning_that_is_resumed_ends_with_the_same_weights(tmp_path, monkeypatch, iteration):
    monkeypatch.setattr(tuning_task, "ASSESSED_EVERY", 3)
    whole = segmenter(tmp_path, iterations=10).fit(support(0))
    with monkeypatch.context() as patched:
        stop_at(iteration, patched)
        stopped = segmenter(tmp_path, iterations=10)
        stopped.folder = tmp_path / "work"
        with pytest.raises(Cancelled):
            stopped.fit(support(0))
    assert (tmp_path / "work" / CHECKPOINT_NAME).exists()
    resumed = segmenter(tmp_path, iterations=10)
    resumed.folder, resumed.resume = tmp_path / "work", True
    resumed.fit(support(0))
    assert resumed.training_.iteration == 10 and resumed.training_.rows[0]["iteration"] == 1
    assert same(weights(resumed), weights(whole)) and resumed.scores_ == whole.scores_


@pytest.mark.parametrize("changed", [{"seed": 1}, {"loss": "dice-ce"}, {"scratch": True}, "support"])
def test_a_checkpoint_of_other_settings_or_another_support_is_refused(tmp_path, changed):
    first = segmenter(tmp_path)
    first.folder = tmp_path / "work"
    first.fit(support(0))
    second = segmenter(tmp_path, **({} if changed == "support" else changed))
    second.folder, second.resume = tmp_path / "work", True
    with pytest.raises(InputError, match=r"the checkpoint was made with"):
        second.fit(support(1) if changed == "support" else support(0))


def test_cancelling_through_progress_ends_it_within_an_iteration(tmp_path):
    told = []

    def progress(fraction, message):
        told.append(message)
        if "iteration" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        segmenter(tmp_path, iterations=None, minutes=5.0).fit(support(0), progress)
    assert sum("iteration" in message for message in told) == 1


def test_a_budget_of_minutes_is_kept(tmp_path):
    fitted = segmenter(tmp_path, iterations=None, minutes=2 / 60).fit(support(0))
    assert 2 <= fitted.training_.seconds < 10


def test_the_encoder_stays_as_it_is_for_the_first_part(tmp_path, monkeypatch):
    fresh = make_start(begun(tmp_path / "small-ct"), 2, blocks()[0]).network.state_dict()
    with monkeypatch.context() as patched:
        stop_at(5, patched)
        first = segmenter(tmp_path, iterations=10, frozen=0.5)
        first.folder = tmp_path / "work"
        with pytest.raises(Cancelled):
            first.fit(support(0))
    parts = torch.load(tmp_path / "work" / CHECKPOINT_NAME, weights_only=True)["parts"]
    changed = {
        key.removeprefix("parts.network."): not torch.equal(value, fresh[key.removeprefix("parts.network.")])
        for key, value in parts.items()
    }
    assert not any(moved for key, moved in changed.items() if key.startswith("encoder."))
    assert all(moved for key, moved in changed.items() if key.startswith("decoder.") and "weight" in key)
    whole = segmenter(tmp_path, iterations=10, frozen=0.5).fit(support(0))
    end = weights(whole)
    assert any(not torch.equal(end[key], fresh[key]) for key in end if key.startswith("encoder."))


def test_a_new_network_sees_nothing_anywhere_at_first(tmp_path):
    for given in (begun(tmp_path / "small-ct"), None):
        network = make_start(given, 2, blocks()[0]).network
        found = torch.sigmoid(network(torch.randn(1, 1, 16, 16, 16)))
        assert found.mean() < 0.1


def test_random_weights_are_never_frozen_and_are_others_than_the_models(tmp_path):
    start = make_start(begun(tmp_path / "small-ct"), 2, blocks()[0], scratch=True)
    pretrained = make_start(begun(tmp_path / "small-ct"), 2, blocks()[0])
    assert not start.pretrained and pretrained.pretrained
    name = "encoder.0.0.weight"
    assert start.network.state_dict()[name].shape == pretrained.network.state_dict()[name].shape
    assert not torch.equal(start.network.state_dict()[name], pretrained.network.state_dict()[name])
    assert start.preparation == pretrained.preparation and start.patch == pretrained.patch


def test_a_loss_that_becomes_no_number_is_survived_and_told(tmp_path, monkeypatch):
    plain = tuning_task.FineTuning.loss
    calls = []

    def loss(self, batch):
        calls.append(1)
        value, metrics = plain(self, batch)
        return value * (float("nan") if len(calls) == 4 else 1.0), metrics

    monkeypatch.setattr(tuning_task.FineTuning, "loss", loss)
    with pytest.warns(InputWarning, match="became nan at iteration 3: .* goes on with 0.5 of the learning rate"):
        fitted = segmenter(tmp_path, iterations=8).fit(support(0))
    assert all(torch.isfinite(tensor).all() for tensor in weights(fitted).values())
    fitted.predict(blocks(1)[0])


def test_it_stops_when_what_is_held_out_gets_no_better(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning_task, "ASSESSED_EVERY", 2)
    monkeypatch.setattr(tuning_task, "PATIENCE", 3)
    scores = iter([0.5, 0.6, 0.55, 0.5, 0.4, 0.9, 0.9])
    monkeypatch.setattr(tuning_task.FineTuning, "_measured", lambda self: torch.tensor([next(scores)] * 2))
    fitted = segmenter(tmp_path, iterations=40, held_out=0.2).fit(support(0))
    found = [score for _, score in fitted.scores_]
    assert fitted.training_.iteration == 10 and found == pytest.approx([0.5, 0.6, 0.55, 0.5, 0.4])
    assert fitted.taken_from_ == 4, "the weights that measured best were clearly better than the last"


def test_with_nothing_held_out_it_goes_on_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning_task, "ASSESSED_EVERY", 1)
    fitted = segmenter(tmp_path, iterations=15, held_out=0.0).fit(support(0))
    assert fitted.training_.iteration == 15 and fitted.scores_ == []


@pytest.mark.parametrize("loss", ["bce-dice", "dice-ce"])
def test_a_structure_that_one_support_has_not_marked_is_learned_from_the_other(tmp_path, loss):
    (first, marked), (second, other) = blocks(0), blocks(1)
    marked.array[marked.array == 2] = 0
    other.array[other.array == 1] = 0
    both = SupportSet([(first, marked), (second, other)])
    fitted = segmenter(tmp_path, iterations=220, learning_rate=1e-2, loss=loss, held_out=0).fit(both)
    volume, truth = blocks(2)
    found, _ = fitted.predict(volume)
    assert min(dice(found, truth, name) for name in ("RightBlock", "LeftBlock")) > 0.5


def test_labels_that_count_for_nothing_teach_nothing(tmp_path):
    """A second scan with wrong labels of weight 0 leaves the network as if its labels were any others."""
    volume, labels = blocks(0)
    other, wrong = blocks(1)
    networks = []
    for seed in (3, 4):
        noise = wrong.array.copy()
        noise[10:] = np.random.default_rng(seed).integers(0, 3, noise[10:].shape)
        weights_of = np.ones(noise.shape, np.float32)
        weights_of[9:] = 0
        guessed = LabelMap(noise, other.ijkToLps, "guessed", segments=wrong.segments)
        made = segmenter(tmp_path, held_out=0, iterations=6)
        made._fit([(volume, labels, None), (other, guessed, weights_of)], support(0).segments, "two")
        networks.append(weights(made))
    assert same(*networks)


def test_overlapping_segments_stay_overlapping_and_cross_entropy_refuses_them(tmp_path):
    volume, labels = blocks(0)
    inner = np.zeros(labels.array.shape, bool)
    inner[tuple(slice(int(a.min()) + 1, int(a.max())) for a in np.nonzero(labels.mask("RightBlock")))] = True
    masks = {"Outer": labels.mask("RightBlock"), "Inner": inner}
    both = SupportSet([(volume, LabelMap.from_masks(volume, masks))])
    fitted = segmenter(tmp_path, iterations=150, learning_rate=1e-2, held_out=0).fit(both)
    found, _ = fitted.predict(volume)
    assert found.overlapping and (found.mask("Outer") & found.mask("Inner")).any()
    with pytest.raises(InputError, match="overlap, which cross-entropy cannot learn; choose the loss bce-dice"):
        segmenter(tmp_path, loss="dice-ce").fit(both)


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"minutes": 1.0, "iterations": 5}, "either a number of iterations or a number of minutes"),
        ({"iterations": 0}, "must be above 0"),
        ({"iterations": None, "minutes": -1.0}, "must be above 0"),
        ({"learning_rate": 0.0}, "learning rate 0.0"),
        ({"loss": "hinge"}, "loss 'hinge': one of bce-dice, dice-ce"),
        ({"frozen": 1.5}, "frozen 1.5"),
        ({"held_out": 0.7}, "held out 0.7"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, settings, said):
    with pytest.raises(InputError, match=said):
        segmenter(tmp_path, **settings)


def test_a_model_without_a_3d_encoder_is_refused(tmp_path):
    made = make_segmenter("finetune", "heatmap-head-neck-ct", blocks()[0], iterations=2)
    with pytest.raises(InputError, match="heatmap-head-neck-ct: its architecture 'D2D' has no 3D encoder"):
        made.fit(support(0))


@pytest.mark.parametrize("network", ["unet", "dense", "analysis"])
def test_all_networks_learn_from_random_weights(network):
    made = FineTuneSegmenter(None, "cpu", iterations=1, network=network)
    fitted = made.fit(support(0))
    assert np.isfinite(fitted.training_.rows[0]["loss"])
    assert fitted.tuned_.patch == ((40,) * 3 if network == "unet" else (48,) * 3)
    assert fitted.predict(blocks(1)[0])[0].same_grid(blocks(1)[0])


def test_an_unknown_network_is_refused():
    with pytest.raises(InputError, match="network 'resnet': one of unet, dense, analysis was expected"):
        FineTuneSegmenter(None, iterations=1, network="resnet").fit(support(0))


def test_without_a_model_that_fits_it_begins_with_random_weights_and_says_so(tmp_path):
    store = ModelStore(tmp_path / "none", tmp_path / "nothing")
    assert chosen("finetune", None, blocks()[0], store) == ("finetune", None)
    with pytest.warns(InputWarning, match="no dense model fits it, so fine-tuning begins with random weights"):
        made = make_segmenter("finetune", None, blocks()[0], store=store, iterations=1)
    assert made.begun is None


def test_a_number_of_minutes_makes_automatic_mean_fine_tuning(tmp_path, own_store):
    folder = write_small_model(tmp_path / "small-ct")
    assert isinstance(make_segmenter("auto", str(folder), blocks()[0], minutes=1.0), FineTuneSegmenter) is True


def kept(tmp_path, name: str = "my-blocks", **settings) -> FineTuneSegmenter:
    return segmenter(tmp_path, keep=name, **settings).fit(support(0, 1))


def test_a_kept_model_segments_like_the_one_that_was_trained_without_any_support(tmp_path):
    fitted = kept(tmp_path, iterations=60, learning_rate=1e-2)
    again = tuned_segmenter("my-blocks")
    assert isinstance(again, TunedSegmenter)
    volume, _ = blocks(2)
    (labels, confidence), (same_labels, same_confidence) = fitted.predict(volume), again.predict(volume)
    assert np.array_equal(labels.array, same_labels.array) and labels.array.any()
    assert np.allclose(confidence.array, same_confidence.array, atol=1e-4)
    assert [(s.name, s.colour, s.terminology) for s in again.segments_] == [
        (s.name, s.colour, s.terminology) for s in fitted.segments_
    ]


def test_the_card_of_a_kept_model_names_its_support_and_what_it_began_with(tmp_path):
    kept(tmp_path)
    card = ModelStore().find("my-blocks").card
    assert card.method == "finetune" and card.preprocessing["modality"] == "CT"
    assert card.training["settings"]["support"]["scans"] == ["blocks_0", "blocks_1"]
    assert len(card.training["settings"]["support"]["sha256"]) == 64
    assert [s["name"] for s in card.training["settings"]["segments"]] == ["RightBlock", "LeftBlock"]
    assert card.training["data"][0]["name"] == "noise" and "blocks_0, blocks_1" in card.training["data"][1]["name"]
    assert "from small-ct on blocks_0, blocks_1" in card.description and card.training["iterations"] == 4


def test_a_name_that_is_taken_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    kept(tmp_path)
    monkeypatch.setattr(tuning_task.FineTuning, "sample", None)
    for name in ("my-blocks", "dense-head-neck-ct"):
        with pytest.raises(InputError, match=f"{name}: there is a model of this name already"):
            kept(tmp_path, name)
    with pytest.raises(InputError, match="is not a model name"):
        kept(tmp_path, "My Blocks!")


def test_a_kept_model_segments_only_what_is_wanted_and_refuses_what_it_does_not_know(tmp_path):
    kept(tmp_path, iterations=120, learning_rate=1e-2)
    volume, truth = blocks(2)
    everything, _ = tuned_segmenter("my-blocks").predict(volume)
    found, _ = tuned_segmenter("my-blocks", names=["LeftBlock"]).predict(volume)
    assert [s.name for s in found.segments] == ["LeftBlock"]
    assert np.array_equal(found.mask("LeftBlock"), everything.mask("LeftBlock")) and found.array.any()
    with pytest.raises(InputError, match="my-blocks: knows RightBlock, LeftBlock, not Heart"):
        tuned_segmenter("my-blocks", names=["Heart"])
    labels = LabelMap(truth.array, truth.ijkToLps, "x", segments=[Segment(1, "Heart"), Segment(2, "Lung")])
    with pytest.raises(InputError, match="none of what is marked \\(Heart, Lung\\)"):
        tuned_segmenter("my-blocks").fit(SupportSet([(volume, labels)]))


def test_a_model_that_was_not_fine_tuned_segments_nothing_by_itself(tmp_path):
    with pytest.raises(InputError, match="small-ct: was not fine-tuned and segments nothing by itself"):
        tuned_segmenter(str(write_small_model(tmp_path / "small-ct")))
    with pytest.raises(InputError, match="no support was given"):
        tuned_segmenter(None)
    with pytest.raises(InputError, match="method tuned: name the model"):
        make_segmenter("tuned", None, blocks()[0])


def test_automatic_takes_a_kept_model_for_what_it_is(tmp_path):
    kept(tmp_path)
    assert isinstance(make_segmenter("auto", "my-blocks", blocks()[0]), TunedSegmenter)


def test_a_kept_model_can_be_trained_on_and_keeps_its_last_layer(tmp_path):
    fitted = kept(tmp_path, iterations=60, learning_rate=1e-2)
    start = make_start(Beginning.read("my-blocks"), 2, blocks()[0], segments=["RightBlock", "LeftBlock"])
    assert same(start.network.state_dict(), weights(fitted))
    others = make_start(Beginning.read("my-blocks"), 3, blocks()[0], segments=["A", "B", "C"])
    assert others.network.head.weight.shape[0] == 3
    assert torch.equal(others.network.state_dict()["encoder.0.0.weight"], weights(fitted)["encoder.0.0.weight"])


def test_a_damaged_card_of_a_kept_model_is_refused(tmp_path):
    kept(tmp_path)
    entry = ModelStore().find("my-blocks")
    card, tensors = Beginning.read("my-blocks").card, Beginning.read("my-blocks").tensors
    settings = {key: value for key, value in card.training["settings"].items() if key != "patch"}
    broken = dataclasses.replace(card, training={**card.training, "settings": settings})
    with pytest.raises(InputError, match="my-blocks: its card does not say what it segments"):
        TunedSegmenter(broken, tensors).predict(blocks()[0])
    assert entry.card.name == "my-blocks"


def test_what_a_report_says_names_method_model_and_settings(tmp_path):
    said = segmenter(tmp_path, iterations=None, minutes=3.0).provenance()
    assert said["method"] == "finetune" and said["descriptor"]["name"] == "small-ct"
    assert said["settings"]["minutes"] == 3.0 and said["settings"]["loss"] == "bce-dice"
    assert "keep" not in said["settings"]
    alone = FineTuneSegmenter(None, minutes=3.0).provenance()
    assert "descriptor" not in alone and alone["settings"]["network"] == "unet"


def test_nothing_is_warned_of_where_all_is_well(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        segmenter(tmp_path).fit(support(0)).predict(blocks(1)[0])
