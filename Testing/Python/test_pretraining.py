"""Pretraining from a folder of scans to a model with its card."""

import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.imaging.files import read_volume
from SSLFewShotLib.imaging.phantoms import write_cohort
from SSLFewShotLib.models import load_model
from SSLFewShotLib.pretext.methods import METHODS
from SSLFewShotLib.pretext.pretrain import pretrain
from SSLFewShotLib.pretext.trainer import TrainerSettings
from SSLFewShotLib.pretext.training_scans import PretrainingSource, split_held_out
from SSLFewShotLib.sampling.extent import Extent

# Coarse, so that a phantom is prepared in no time.
COARSE = Extent("mm", 400.0)
SIZE = (20, 16, 18)


@pytest.fixture(scope="module")
def ten_scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ten")
    write_cohort(folder, 10, labelled=2, modality="MR", size=SIZE)
    return folder


@pytest.fixture(scope="module")
def three_scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    write_cohort(folder, 3, labelled=0, size=SIZE)
    return folder


@pytest.fixture(scope="module")
def model(three_scans, tmp_path_factory) -> Path:
    """A model of three scans; not to be changed."""
    output = tmp_path_factory.mktemp("models") / "model"
    train(three_scans, output)
    return output


def settings(iterations: int = 4, seed: int = 0) -> TrainerSettings:
    return TrainerSettings(iterations=iterations, seed=seed, scans_at_once=2, refresh_every=3)


def train(folder: Path, output: Path, method: str = "reg2d", seed: int = 0, iterations: int = 4, **keywords):
    keywords = {"extent": COARSE, "batch_size": 2, "device": "cpu", **keywords}
    return pretrain(folder, method, output, settings(iterations, seed), **keywords)


def tensors(model: Path) -> dict[str, np.ndarray]:
    return load_model(model)[1]


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


# What is written

# Control metric, its value by guessing, and between what it can lie.
CONTROL = {
    "heatmap": ("offset_error", 0.5357, 1e-3, 2.5),
    "reg2d": ("offset_error", 0.5357, 1e-3, 2.5),
    "doersch": ("accuracy", 1 / 6, 0.0, 1.0),
}


@pytest.mark.parametrize(
    "method, architecture, branches",
    [("heatmap", "D2D", 3), ("reg2d", "D2D", 3), pytest.param("doersch", "D3D", 1, marks=pytest.mark.slow)],
)
def test_a_model_is_written_with_a_complete_card_and_its_loss_curve(
    ten_scans, tmp_path, method, architecture, branches
):
    output = tmp_path / f"{method}-phantoms"
    source = PretrainingSource("phantoms", "made here", "CC0-1.0")
    card = train(ten_scans, output, method, source=source)
    assert sorted(path.name for path in output.iterdir()) == [
        "card.json",
        "loss.csv",
        "loss.png",
        "weights.safetensors",
    ]
    assert not output.with_name(output.name + ".training").exists()
    read, weights = load_model(output)  # validates card and checksum
    assert read == card
    assert (card.name, card.method) == (output.name, method)
    assert card.architecture["name"] == architecture and len(card.architecture["branches"]) == branches
    assert card.architecture["parameters"] == sum(tensor.size for tensor in weights.values())
    assert card.preprocessing["modality"] == "MR" and card.preprocessing["intensity"] == {"kind": "zscore"}
    assert card.extent["unit"] == "mm" and card.extent["scale"] == 400.0
    metrics = card.metrics
    metric, chance, least, most = CONTROL[method]
    assert metrics["control_metric"] == metric and metrics["held_out_scans"] == 1
    assert metrics["chance"] == pytest.approx(chance, abs=1e-3)
    assert least <= metrics["held_out"] <= most
    assert card.training["data"] == [{"name": "phantoms", "source": "made here", "licence": "CC0-1.0", "scans": 9}]
    assert card.training["iterations"] == 4 and card.training["seed"] == 0
    assert card.training["settings"]["batch_size"] == 2
    assert card.training["settings"]["learning_rate"] == 1e-3
    with open(output / "loss.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4]
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    assert (output / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_one_scan_in_twenty_is_held_out_once_there_are_ten():
    paths = [Path(f"{n:03d}") for n in range(50)]
    trained, held_out = split_held_out(paths)
    assert held_out == [paths[9], paths[29], paths[49]]
    assert sorted(trained + held_out) == paths
    assert split_held_out(paths[:9]) == (paths[:9], [])
    assert split_held_out(paths[:10])[1] == [paths[9]]


def test_the_model_describes_scans(three_scans, model):
    volume = read_volume(three_scans / "phantom_000_ct.nrrd")
    descriptor = load_descriptor(model, volume)
    assert descriptor.modality == "CT"
    assert descriptor.preparation.extent == COARSE
    vectors = descriptor.describe(volume, volume.points_from_indices([[9, 8, 7], [3, 3, 3]]))
    assert vectors.shape == (2, 192) and np.isfinite(vectors).all() and not np.allclose(*vectors)


def test_no_machine_path_gets_into_the_card(three_scans, model):
    text = (model / "card.json").read_text()
    assert str(model.parent) not in text and str(three_scans.parent) not in text
    assert json.loads(text)["training"]["data"][0]["name"] == three_scans.name


# Same seed, same weights


def test_the_same_seed_gives_the_same_model_and_another_seed_another(three_scans, model, tmp_path):
    for name, seed in (("again", 0), ("other", 1)):
        train(three_scans, tmp_path / name, seed=seed)
    one, again, other = tensors(model), tensors(tmp_path / "again"), tensors(tmp_path / "other")
    assert same(one, again) and not same(one, other)


@pytest.mark.parametrize("method", ["heatmap", pytest.param("doersch", marks=pytest.mark.slow)])
def test_a_cancelled_pretraining_that_is_resumed_gives_the_same_model(three_scans, tmp_path, method, monkeypatch):
    train(three_scans, tmp_path / "whole", method, iterations=5)
    with monkeypatch.context() as patched:
        cancel_in_iteration(patched, method, 4)
        with pytest.raises(Cancelled):
            train(three_scans, tmp_path / "parts", method, iterations=5)
    assert not (tmp_path / "parts").exists()
    train(three_scans, tmp_path / "parts", method, iterations=5, resume=True)
    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))


def cancel_in_iteration(patched, method: str, number: int) -> None:
    plain, calls = METHODS[method].sample, itertools.count(1)

    def sample(self, *arguments):
        if next(calls) == number:
            raise Cancelled
        return plain(self, *arguments)

    patched.setattr(METHODS[method], "sample", sample)


def test_progress_runs_from_nothing_to_all_and_ends_with_what_was_written(three_scans, tmp_path):
    reports = []
    train(three_scans, tmp_path / "model", progress=lambda *report: reports.append(report))
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert reports[-1][1] == f"wrote {tmp_path / 'model'}"


# What is refused


def test_an_existing_model_is_only_replaced_when_asked_to(three_scans, model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "model")
    with pytest.raises(InputError, match=r"there is a model already; overwrite it"):
        train(three_scans, copy, seed=1, iterations=1)
    assert same(tensors(model), tensors(copy))
    train(three_scans, copy, seed=1, iterations=1, overwrite=True)
    assert not same(tensors(model), tensors(copy))


def test_an_unfinished_pretraining_is_only_thrown_away_when_asked_to(three_scans, tmp_path):
    work = tmp_path / "model.training"
    work.mkdir()
    (work / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(InputError, match="unfinished pretraining is there; resume it"):
        train(three_scans, tmp_path / "model", iterations=1)
    with pytest.raises(InputError, match="is damaged"):
        train(three_scans, tmp_path / "model", iterations=1, resume=True)
    train(three_scans, tmp_path / "model", iterations=1, overwrite=True)
    assert not work.exists()


def test_an_unfinished_pretraining_survives_when_the_new_one_cannot_even_start(tmp_path):
    work = tmp_path / "model.training"
    work.mkdir()
    (work / "checkpoint.pt").write_bytes(b"weeks of work")
    with pytest.raises(InputError):
        train(tmp_path / "not-there", tmp_path / "model", overwrite=True)
    assert (work / "checkpoint.pt").read_bytes() == b"weeks of work"


@pytest.mark.parametrize("name", ["My Model", "modèle", ".hidden", "a" * 90])
def test_a_name_that_no_model_can_have_is_refused_before_anything_is_read(tmp_path, name):
    with pytest.raises(InputError, match="choose another name"):
        train(tmp_path / "not-there", tmp_path / name)


def test_an_unknown_method_and_a_batch_of_nothing_are_refused(three_scans, tmp_path):
    with pytest.raises(InputError, match="'rotate' is not known"):
        train(three_scans, tmp_path / "model", "rotate")
    with pytest.raises(InputError, match="batch size 0"):
        train(three_scans, tmp_path / "model", batch_size=0)


def test_scans_that_cannot_be_read_are_named_and_not_counted(tmp_path):
    write_cohort(tmp_path / "scans", 3, labelled=0, size=SIZE)
    broken = tmp_path / "scans" / "a_broken.nii.gz"
    broken.write_bytes(b"\x1f\x8b damaged")
    with pytest.warns(InputWarning, match=r"skipped: .*a_broken\.nii\.gz"):
        card = train(tmp_path / "scans", tmp_path / "model", iterations=9)
    assert card.training["data"][0]["scans"] == 3


def test_when_no_scan_can_be_read_the_reasons_are_given(tmp_path):
    (tmp_path / "scans").mkdir()
    for name in ("one", "two"):
        (tmp_path / "scans" / f"{name}.nrrd").write_bytes(b"NRRD0004\n")
    with (
        pytest.warns(InputWarning),
        pytest.raises(InputError, match=r"none of the 2 scans can be read: .*one\.nrrd"),
    ):
        train(tmp_path / "scans", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_held_out_scans_that_cannot_be_read_do_not_cost_the_training(tmp_path):
    scans = write_cohort(tmp_path / "scans", 10, labelled=0, size=SIZE)
    scans[9].write_bytes(b"NRRD0004\n")
    with pytest.warns(InputWarning, match=r"phantom_009_ct\.nrrd"):
        card = train(tmp_path / "scans", tmp_path / "model", iterations=1)
    assert card.metrics == {}


# Several processes


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_train_one_model(three_scans, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "torch.set_num_threads(1)\n"
        "from test_pretraining import train\n"
        "train(Path(sys.argv[1]), Path(sys.argv[2]), 'heatmap', overwrite='--overwrite' in sys.argv)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    models = []
    for extra in ([], ["--overwrite"]):
        arguments = [str(script), str(three_scans), str(tmp_path / "model"), *extra]
        done = subprocess.run(command + arguments, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        models.append(tensors(tmp_path / "model"))
        card = load_model(tmp_path / "model")[0]
        assert card.training["iterations"] == 4 and "× 2" in card.training["device"]
        (tmp_path / "model.training").mkdir()  # what --overwrite has to clear away
        (tmp_path / "model.training" / "checkpoint.pt").write_bytes(b"")
    assert same(*models)
    train(three_scans, tmp_path / "alone", "heatmap")
    assert not same(models[0], tensors(tmp_path / "alone"))
    assert all(np.isfinite(tensor).all() for tensor in models[0].values())
