"""The commands that make, keep and measure models."""

import csv
import itertools
import json

import numpy as np
import pytest
from command_line import COARSE, files_in, patient, sslfewshot, write_patient
from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.imaging import LabelMap, Volume
from SSLFewShotLib.imaging.files import write_labels, write_volume
from SSLFewShotLib.pretext.heatmap import Heatmap

pytestmark = pytest.mark.usefixtures("own_store")


# Models


def test_a_model_goes_through_the_store_and_back(model, own_store, tmp_path):
    archive = tmp_path / "tiny.zip"
    assert "tiny-ct" not in sslfewshot("models", "list").out
    assert sslfewshot("models", "import", model).out == "imported tiny-ct\n"
    assert "tiny-ct" in sslfewshot("models", "list").out and files_in(own_store)
    shown = sslfewshot("models", "show", "tiny-ct", "--json").result
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    assert shown == {**card, "bundled": False}
    assert json.loads(sslfewshot("models", "show", "tiny-ct").out) == card
    assert sslfewshot("models", "export", "tiny-ct", archive).code == 0
    assert sslfewshot("models", "export", "tiny-ct", archive).error.startswith(str(archive))
    assert sslfewshot("models", "import", archive).error.startswith(str(archive))
    assert sslfewshot("models", "import", archive, "--overwrite").code == 0
    assert sslfewshot("models", "remove", "tiny-ct").out == "removed tiny-ct\n"
    assert "no model of this name" in sslfewshot("models", "remove", "tiny-ct").error
    assert sslfewshot("models", "import", archive, "--json").result == card


def test_models_are_listed_for_machines(model):
    sslfewshot("models", "import", model)
    listed = {entry["name"]: entry["bundled"] for entry in sslfewshot("models", "list", "--json").result}
    assert listed["tiny-ct"] is False and listed["heatmap-head-neck-ct"] is True


@pytest.mark.parametrize("action", ["show", "remove", "export", "import"])
def test_a_model_that_is_not_there_is_refused(action, tmp_path):
    outcome = sslfewshot(
        "models", action, *(["nothing", tmp_path / "x.zip"] if action == "export" else ["nothing"])
    )
    assert outcome.error.startswith("nothing")
    assert files_in(tmp_path) == []


def test_a_bundled_model_stays():
    assert "cannot be removed" in sslfewshot("models", "remove", "heatmap-head-neck-ct").error


# Pretraining


def test_a_pretrained_model_segments(model, tmp_path):
    volume, labels = patient(0)
    around = tuple(slice(int(c) - 5, int(c) + 5) for c in np.argwhere(labels.mask("Liver")).mean(axis=0))
    image, marks = tmp_path / "image.nrrd", tmp_path / "marks.nrrd"
    write_volume(Volume(volume.array[around], volume.ijkToLps, "part", "CT"), image)
    write_labels(LabelMap(labels.array[around], volume.ijkToLps, segments=labels.segments), marks)
    outcome = sslfewshot(
        "segment", image, "--support", image, marks, "--output", tmp_path / "out", "--model", model,
        "--spacing", "20", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    descriptor = outcome.result["segmenter"]["descriptor"]
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    assert (descriptor["name"], descriptor["sha256"]) == ("tiny-ct", card["weights"]["sha256"])


def test_what_pretraining_tells(three_small_scans, tmp_path):
    arguments = ("pretrain", three_small_scans, "--output", tmp_path / "model", "--iterations", "1", *COARSE)
    outcome = sslfewshot(
        *arguments, "--method", "reg2d", "--modality", "ct", "--data-source", "phantoms",
        "--data-licence", "CC0-1.0", "--seed", "3", "--json",
    )  # fmt: skip
    assert outcome.code == 0
    card = outcome.result
    assert card == json.loads((tmp_path / "model" / "card.json").read_text(encoding="utf-8"))
    assert (card["method"], card["licence"]) == ("reg2d", "CC0-1.0")
    assert card["preprocessing"]["modality"] == "CT" and card["preprocessing"]["intensity"]["kind"] == "window"
    assert (card["training"]["iterations"], card["training"]["seed"]) == (1, 3)
    files = ("card.json", "loss.csv", "loss.png", "weights.safetensors")
    assert files_in(tmp_path) == ["model", *(f"model/{name}" for name in files)]
    assert "there is a model already" in sslfewshot(*arguments).error
    told = sslfewshot(*arguments, "--overwrite").out
    assert told == f"{tmp_path / 'model'}: 1 iterations\n"


def test_an_interrupted_pretraining_goes_on_to_the_same_weights(three_small_scans, model, tmp_path, monkeypatch):
    arguments = ("pretrain", three_small_scans, "--output", tmp_path / "tiny-ct", "--iterations", 4, *COARSE)
    plain, calls = Heatmap.sample, itertools.count(1)

    def cancelled_in_the_third(*rest):
        if next(calls) == 3:
            raise Cancelled
        return plain(*rest)

    with monkeypatch.context() as patched:
        patched.setattr(Heatmap, "sample", cancelled_in_the_third)
        assert sslfewshot(*arguments).code == 130
    assert not (tmp_path / "tiny-ct").exists()
    assert "resume it" in sslfewshot(*arguments).error
    assert sslfewshot(*arguments, "--resume").code == 0
    weights = (tmp_path / "tiny-ct" / "weights.safetensors", model / "weights.safetensors")
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not any("training" in name for name in files_in(tmp_path))


# Evaluation


@pytest.mark.parametrize(
    "method",
    [("--methods", "box"), pytest.param(("--models", "gvdiff", "--spacing", "24"), marks=pytest.mark.slow)],
)
def test_an_evaluation_scores_and_reports(method, scans, tmp_path):
    arguments = (
        "evaluate", scans, "--supports", "pt_0,pt_1", "--shots", "1,2", *method, "--output", tmp_path / "out",
    )  # fmt: skip
    outcome = sslfewshot(*arguments)
    assert outcome.code == 0, outcome.err
    assert outcome.out.rstrip() == (tmp_path / "out" / "report.md").read_text(encoding="utf-8").rstrip()
    with open(tmp_path / "out" / "results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["query"] for row in rows} == {"pt_2"} and len(rows) == 3 * 7
    assert np.mean([float(row["dice"]) for row in rows if row["segment"] == "Liver"]) > 0.3
    again = sslfewshot(*arguments, "--json")
    assert again.code == 0 and again.result == {"report": str(tmp_path / "out" / "report.md")}


def test_an_evaluation_pairs_scans_and_labels_as_it_is_told(tmp_path):
    folder = tmp_path / "cases"
    folder.mkdir()
    for seed in (0, 1):
        write_patient(folder, seed, labelled=False)
        write_labels(patient(seed)[1], folder / f"pt_{seed}_truth.nrrd")
    arguments = (
        "evaluate", folder, "--supports", "pt_0", "--methods", "box", "--output", tmp_path / "out", "--json",
        "--image-suffix", "_ct", "--label-suffix", "_truth",
    )  # fmt: skip
    outcome = sslfewshot(*arguments)
    assert outcome.code == 0, outcome.err
