"""A model's folder: what is saved comes back, and nothing else is loaded."""

import errno
import hashlib
import os
import pickle
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from model_samples import TENSORS, a_card, change_card, files_below, saved_model, the_error
from SSLFewShotLib.errors import OutputError
from SSLFewShotLib.models import installed_versions, load_model, save_model

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")


@pytest.fixture
def model(tmp_path) -> Path:
    return saved_model(tmp_path / "made")


def test_a_saved_model_comes_back_with_the_same_card_and_weights(model):
    card, tensors = load_model(model)
    assert card.name == "heatmap-head-neck-ct" and card.description == "Größe: 25 × 25"
    assert card.architecture["settings"] == {"widths": [8, 16]} and card.training["settings"] == {"rate": 0.5}
    assert card.weights["bytes"] == (model / "weights.safetensors").stat().st_size
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype and tensors[name].shape == tensor.shape
        np.testing.assert_array_equal(tensors[name], tensor)


def test_the_card_that_saving_returns_is_the_card_that_loading_finds(tmp_path):
    assert save_model(tmp_path / "m", a_card(), TENSORS) == load_model(tmp_path / "m")[0]


def test_arrays_with_other_memory_layouts_come_back_with_their_values(tmp_path):
    straight = np.arange(12, dtype=np.float32).reshape(3, 4)
    save_model(
        tmp_path / "m", a_card(), {"t": straight.T, "step": straight[:, ::2], "big": straight.astype(">f4")}
    )
    _, tensors = load_model(tmp_path / "m")
    np.testing.assert_array_equal(tensors["t"], straight.T)
    np.testing.assert_array_equal(tensors["step"], straight[:, ::2])
    np.testing.assert_array_equal(tensors["big"], straight)


def test_saving_the_same_model_twice_gives_the_same_bytes(tmp_path):
    card = a_card()
    save_model(tmp_path / "a", card, TENSORS)
    save_model(tmp_path / "b", card, dict(reversed(TENSORS.items())))
    assert files_below(tmp_path / "a") == files_below(tmp_path / "b")


def test_a_model_in_a_folder_with_a_non_ascii_name_is_saved_and_loaded(tmp_path):
    folder = tmp_path / "Köpfe und Hälse 模型"
    save_model(folder, a_card(), TENSORS)
    assert load_model(folder)[0].name == "heatmap-head-neck-ct"


def test_the_loss_curve_is_kept_beside_the_weights(tmp_path):
    curve = tmp_path / "curve.csv"
    curve.write_text("iteration,loss\n")
    save_model(tmp_path / "m", a_card(), TENSORS, {"loss.csv": curve})
    assert (tmp_path / "m" / "loss.csv").read_text() == "iteration,loss\n"


def test_other_extras_than_a_loss_curve_are_refused(tmp_path):
    script = tmp_path / "setup.py"
    script.write_text("")
    assert "setup.py" in the_error(save_model, tmp_path / "m", a_card(), TENSORS, {"setup.py": script})
    missing = the_error(save_model, tmp_path / "m", a_card(), TENSORS, {"loss.csv": tmp_path / "none.csv"})
    assert "none.csv" in missing and not (tmp_path / "m").exists()


def test_the_creation_date_of_a_new_card_is_now_in_utc():
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", a_card().created)


def test_the_installed_versions_satisfy_the_card(tmp_path):
    card = save_model(tmp_path / "m", a_card(versions=installed_versions()), TENSORS)
    assert card.versions["numpy"] == np.__version__


# The folder: what is not overwritten, and what stays when writing fails


def test_an_existing_model_is_not_overwritten_unless_asked(model):
    before = files_below(model)
    assert "overwrite it" in the_error(save_model, model, a_card(), {"other": np.ones(3)})
    assert files_below(model) == before
    save_model(model, a_card(), {"other": np.ones(3)}, overwrite=True)
    assert list(load_model(model)[1]) == ["other"]


def test_overwriting_removes_the_old_loss_curve_and_leaves_other_files_alone(tmp_path):
    curve, folder = tmp_path / "curve.csv", tmp_path / "m"
    curve.write_text("old")
    save_model(folder, a_card(), TENSORS, {"loss.csv": curve})
    (folder / "notes.txt").write_text("mine")
    save_model(folder, a_card(), TENSORS, overwrite=True)
    assert sorted(files_below(folder)) == ["card.json", "notes.txt", "weights.safetensors"]


def test_a_model_is_saved_beside_the_checkpoints_and_the_curve_of_its_own_training(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "checkpoint.safetensors").write_text("x")
    (folder / "loss.csv").write_text("1,2")
    save_model(folder, a_card(), TENSORS, {"loss.csv": folder / "loss.csv"})
    assert (folder / "loss.csv").read_text() == "1,2" and (folder / "checkpoint.safetensors").exists()
    assert load_model(folder)[0].name == "heatmap-head-neck-ct"


def test_a_curve_that_is_not_this_trainings_is_not_overwritten(tmp_path):
    folder, curve = tmp_path / "m", tmp_path / "new.csv"
    folder.mkdir()
    (folder / "loss.csv").write_text("somebody's")
    curve.write_text("mine")
    assert "loss.csv" in the_error(save_model, folder, a_card(), TENSORS, {"loss.csv": curve})
    assert files_below(folder) == {"loss.csv": b"somebody's"}


def test_a_file_where_the_model_folder_should_go_is_refused(tmp_path):
    (tmp_path / "m").write_text("a file")
    assert "a file has this name" in the_error(save_model, tmp_path / "m", a_card(), TENSORS, overwrite=True)


@pytest.mark.parametrize("exists", [False, True], ids=["new folder", "existing model"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, exists):
    folder = tmp_path / "models" / "m"
    if exists:
        save_model(folder, a_card(), {"old": np.ones(2)})
    before = files_below(tmp_path)
    whole = Path.write_bytes

    def write_half(path, content):
        whole(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    assert "no space left" in the_error(save_model, folder, a_card(), TENSORS, overwrite=True, kind=OutputError)
    assert files_below(tmp_path) == before
    assert not [p for p in tmp_path.rglob("*") if ".writing-" in p.name]


def test_a_replacement_that_fails_half_way_puts_the_old_model_back(model, monkeypatch):
    before = files_below(model)
    replace = os.replace

    def locked(source, target):
        if Path(source).name == "weights.safetensors" and Path(target).parent == model:
            raise PermissionError(errno.EACCES, "in use")
        replace(source, target)

    monkeypatch.setattr(os, "replace", locked)
    assert "not allowed" in the_error(save_model, model, a_card(), TENSORS, overwrite=True, kind=OutputError)
    monkeypatch.undo()
    assert files_below(model) == before


@pytest.mark.parametrize(
    "tensors, said",
    [
        ({}, "no weights"),
        ({"w": np.array([1, np.nan])}, "not finite"),
        ({"w": np.array([{}])}, "cannot be kept"),
        ({"w": [1.0, 2.0]}, "expected a numpy array"),
    ],
    ids=["none", "nan", "objects", "list"],
)
def test_weights_that_are_no_use_are_not_saved(tmp_path, tensors, said):
    assert said in the_error(save_model, tmp_path / "m", a_card(), tensors)
    assert not (tmp_path / "m").exists()


# The folder: what is not loaded


def test_changed_weights_are_refused_by_their_checksum(model):
    path = model / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    message = the_error(load_model, model)
    assert "checksum" in message and str(path) in message


def test_truncated_weights_are_refused_by_their_size(model):
    path = model / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "bytes where its card says" in the_error(load_model, model)


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("pickle-was-run",)


@pytest.mark.parametrize(
    "content",
    [pickle.dumps(RunsCode()), struct.pack("<Q", 1 << 60) + b"{}", b"\0" * 8, b"PK\x03\x04" + b"\0" * 40],
    ids=["pickle", "header beyond the end", "no header", "zip as torch writes it"],
)
def test_a_file_with_a_right_checksum_that_is_no_safetensors_is_refused_and_never_run(
    model, content, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (model / "weights.safetensors").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    change_card(model, lambda card: card["weights"].update(sha256=digest, bytes=len(content)))
    assert "not a readable safetensors file" in the_error(load_model, model)
    assert not Path("pickle-was-run").exists()


@pytest.mark.parametrize("missing", ["card.json", "weights.safetensors"])
def test_a_folder_that_lacks_card_or_weights_is_refused(model, missing):
    (model / missing).unlink()
    assert missing in the_error(load_model, model)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    assert "no such model folder" in the_error(load_model, tmp_path / "nowhere")


@needs_links
@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
def test_a_link_that_leaves_the_folder_is_refused(model, tmp_path, name):
    outside = tmp_path / "outside"
    (model / name).rename(outside)
    (model / name).symlink_to(outside)
    assert "leaves the model's folder" in the_error(load_model, model)


@needs_links
def test_a_model_folder_that_is_itself_reached_through_a_link_is_loaded(model, tmp_path):
    (tmp_path / "link").symlink_to(model, target_is_directory=True)
    assert load_model(tmp_path / "link")[0].name == "heatmap-head-neck-ct"
