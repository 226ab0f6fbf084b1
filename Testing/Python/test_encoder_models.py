"""Models of the encoders' tasks, from the training to what takes them up and what refuses them."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from command_line import sslfewshot
from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.files import read_labels, read_volume, write_labels
from SSLFewShotLib.imaging.phantoms import write_cohort
from SSLFewShotLib.models import ModelStore, load_model
from SSLFewShotLib.networks.encoders import pretrained_encoder
from SSLFewShotLib.pretext.methods import METHODS
from SSLFewShotLib.pretext.pretrain import pretrain
from SSLFewShotLib.pretext.trainer import TrainerSettings
from SSLFewShotLib.pretext.training_scans import split_held_out
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.segmentation.choice import fitting_models

SIZE = (28, 24, 26)
EXTENT = Extent("mm", 300.0)
SMALL = {"rpl": {"features": 2}, "sides": {"features": 2, "network": "dense"}}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 4, labelled=3, size=SIZE)
    return folder


def train(cohort, output, method, iterations=2, **settings):
    options = {**SMALL[method], **settings.pop("options", {})}
    return pretrain(
        cohort,
        method,
        output,
        TrainerSettings(iterations=iterations),
        batch_size=2,
        extent=EXTENT,
        device="cpu",
        options=options,
        **settings,
    )


@pytest.fixture(scope="module")
def store(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    for method in SMALL:
        train(cohort, folder / f"{method}-tiny", method)
    return ModelStore(folder, folder / "bundled")


@pytest.mark.parametrize("method", SMALL)
def test_a_models_card_rebuilds_the_encoder_that_was_trained(store, method):
    card, tensors = load_model(store.find(f"{method}-tiny").folder)
    encoder = pretrained_encoder(card, tensors)
    assert card.architecture["branches"] == ["encoder"]
    assert card.architecture["name"] == type(encoder).__name__
    assert card.architecture["parameters"] == sum(p.numel() for p in encoder.parameters())
    assert card.title.startswith(f"{method.upper()} encoder, ")
    assert card.preprocessing["spacing_mm"] == pytest.approx(10.0)
    with torch.inference_mode():
        maps = encoder.encode(torch.zeros(1, 1, 16, 16, 16))
    assert [part.shape[1] for part in maps] == encoder.widths
    said = card.training["settings"]
    assert (
        said["learning_rate"] == {"rpl": 1e-3, "sides": 1e-4}[method]
        and said["features"] == 2
        and said["batch_size"] == 2
    )


def test_the_card_of_sides_says_of_which_organs_and_whose(store):
    card, _ = load_model(store.find("sides-tiny").folder)
    said = card.training["settings"]
    assert said["pair"] == ["left kidney", "right kidney"] or len(said["pair"]) == 2
    assert said["labelled"] == ["phantom_000", "phantom_001", "phantom_002"]
    assert "phantom_001" in card.training["data"][0]["name"]
    assert card.description.startswith("Self-supervised sides pretraining on 3 labelled scans")


def test_encoders_are_listed_and_shown_and_never_suggested_for_segmentation(store, cohort, monkeypatch):
    monkeypatch.setenv("SSLFEWSHOT_MODELS", str(store.user_folder))
    listed = sslfewshot("models", "list", "--json").result
    assert {"rpl-tiny", "sides-tiny"} <= {card["name"] for card in listed}
    assert '"method": "sides"' in sslfewshot("models", "show", "sides-tiny").out
    scan = read_volume(next(cohort.glob("*_ct.nrrd")))
    assert fitting_models(scan, store) == []


def test_what_compares_places_refuses_an_encoder_and_says_what_it_is_for(store, cohort):
    scan = read_volume(next(cohort.glob("*_ct.nrrd")))
    with pytest.raises(InputError, match="rpl-tiny: is an encoder that rpl pretrained, to be fine-tuned"):
        load_descriptor("rpl-tiny", scan, store=store)


def test_a_training_goes_on_from_another_tasks_encoder(store, cohort, tmp_path):
    tuned = train(cohort, tmp_path / "on", "rpl", start=str(store.find("rpl-tiny").folder), options={"jitter": 1})
    assert tuned.training["settings"]["network"] == "analysis"
    card = train(
        cohort, tmp_path / "crossed", "sides", start=str(tmp_path / "on"), options={"network": "analysis"}
    )
    assert card.training["settings"]["network"] == "analysis"
    with pytest.raises(InputError, match="its networks are not those of this training"):
        train(
            cohort,
            tmp_path / "other",
            "rpl",
            start=str(store.find("sides-tiny").folder),
            options={"network": "analysis"},
        )


def test_sides_learns_from_the_cases_that_are_named(cohort, tmp_path):
    card = train(cohort, tmp_path / "two", "sides", labelled=["phantom_000", "phantom_002"])
    assert card.training["settings"]["labelled"] == ["phantom_000", "phantom_002"]


def test_sides_leaves_out_what_it_cannot_learn_from_before_it_begins(cohort, tmp_path):
    folder = tmp_path / "scans"
    shutil.copytree(cohort, folder)
    marks = folder / "phantom_001.seg.nrrd"
    labels = read_labels(marks)
    left = next(segment for segment in labels.segments if "left" in segment.name.lower())
    few = np.where(labels.mask(left), 0, labels.array).astype(labels.array.dtype)
    kept = [segment for segment in labels.segments if segment is not left]
    write_labels(dataclasses.replace(labels, array=few, segments=kept), marks, overwrite=True)
    with pytest.warns(UserWarning, match="phantom_001: left out, no "):
        card = train(folder, tmp_path / "model", "sides")
    assert card.training["settings"]["labelled"] == ["phantom_000", "phantom_002"]
    assert card.training["data"][0]["scans"] == 2


def test_sides_in_a_folder_without_labels_is_refused(cohort, tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    for image in cohort.glob("*_ct.nrrd"):
        shutil.copy(image, folder)
    with pytest.raises(InputError, match="no labelled scan"):
        train(folder, tmp_path / "model", "sides")


def test_one_scan_in_twenty_is_held_out_and_one_in_four_where_a_task_needs_more(tmp_path):
    paths = [tmp_path / f"{number:02d}" for number in range(40)]
    assert [path.name for path in split_held_out(paths)[1]] == ["09", "29"]
    learned, held_out = split_held_out(paths[:12], METHODS["sides"].held_out_every)
    assert [path.name for path in held_out] == ["01", "05", "09"] and len(learned) == 9
    assert split_held_out(paths[:9], 4) == (paths[:9], [])


def test_the_other_tasks_need_no_labels(cohort, tmp_path):
    with pytest.raises(InputError, match="method 'rpl' learns from scans without labels only"):
        train(cohort, tmp_path / "model", "rpl", labelled=["phantom_000"])


def test_the_command_takes_the_pair_and_the_settings_of_a_task(cohort, tmp_path):
    quick = ("--iterations", "1", "--batch-size", "2", "--extent-mm", "300", "--device", "cpu", "--features", "2")
    done = sslfewshot(
        "pretrain", cohort, "--method", "sides", "--pair", "RightKidney,LeftKidney", "--network", "dense",
        "--spacing", "9", "--output", tmp_path / "sides", *quick, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    said = done.result["training"]["settings"]
    assert said["pair"] == ["LeftKidney", "RightKidney"] and said["network"] == "dense"
    assert done.result["preprocessing"]["spacing_mm"] == 9.0
    done = sslfewshot(
        "pretrain", cohort, "--method", "jigsaw", "--puzzles", "3", "--permutations", "30", "--jitter", "2",
        "--output", tmp_path / "jigsaw", *quick, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    said = done.result["training"]["settings"]
    assert (said["puzzles"], said["permutations"], said["jitter"]) == (3, 30, 2)
    refused = sslfewshot(
        "pretrain", cohort, "--method", "sides", "--pair", "Liver,Lung", "--output", tmp_path / "no", *quick
    )
    assert refused.code == 2 and "no scan has a segment 'Lung'; there are " in refused.err
    refused = sslfewshot(
        "pretrain", cohort, "--method", "rpl", "--pair", "A,B", "--output", tmp_path / "no", *quick
    )
    assert refused.code == 2 and "pair: no option of rpl" in refused.err
