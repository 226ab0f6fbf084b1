"""The store of bundled models and the user's."""

import sys
from pathlib import Path

import numpy as np
import pytest
from model_samples import TENSORS, a_card, files_below, saved_model, store_with_one_bundled_model, the_error
from SSLFewShotLib.errors import InputWarning
from SSLFewShotLib.models import ModelStore, load_model, save_model
from SSLFewShotLib.models import store as store_module

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")


@pytest.fixture
def model(tmp_path) -> Path:
    return saved_model(tmp_path / "made")


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return store_with_one_bundled_model(tmp_path)


def test_the_store_lists_bundled_models_first_and_then_the_users(store, model):
    assert [(e.card.name, e.bundled) for e in store.list()] == [("bundled-ct", True)]
    added = store.add(model)
    assert [(e.card.name, e.bundled) for e in store.list()] == [("bundled-ct", True), (added.card.name, False)]
    np.testing.assert_array_equal(added.load()[1]["k/conv.weight"], TENSORS["k/conv.weight"])


def test_a_store_without_folders_is_empty(tmp_path):
    empty = ModelStore(tmp_path / "a", tmp_path / "b")
    assert empty.list() == []
    assert "the store is empty" in the_error(empty.find, "heatmap")


def test_a_broken_model_is_warned_of_and_does_not_hide_the_others(store, model):
    store.add(model)
    (store.user_folder / model.name / "weights.safetensors").write_bytes(b"short")
    with pytest.warns(InputWarning, match="weights.safetensors: has 5 bytes") as warned:
        assert [entry.card.name for entry in store.list()] == ["bundled-ct"]
    assert len(warned) == 1
    assert "has 5 bytes" in the_error(store.find, model.name)


def test_a_model_in_a_folder_of_another_name_is_broken(store, model):
    store.add(model)
    (store.user_folder / model.name).rename(store.user_folder / "renamed")
    with pytest.warns(InputWarning, match="not its folder's name"):
        assert len(store.list()) == 1


def test_a_users_model_with_a_bundled_name_is_left_out_with_a_warning(store):
    save_model(store.user_folder / "bundled-ct", a_card("bundled-ct"), TENSORS)
    with pytest.warns(InputWarning, match="a bundled model has this name too"):
        assert [entry.bundled for entry in store.list()] == [True]
    assert store.find("bundled-ct").bundled
    store.remove("bundled-ct")
    assert len(store.list()) == 1


def test_what_a_broken_off_writing_left_is_not_listed(store, model):
    store.add(model)
    (store.user_folder / model.name).rename(store.user_folder / ".writing-abc")
    assert len(store.list()) == 1


def test_a_model_is_found_by_name_and_by_folder(store, model):
    store.add(model)
    assert store.find(model.name).folder == store.user_folder / model.name
    assert store.find(str(model)).folder == model
    assert not store.find(model).bundled and store.find(store.bundled_folder / "bundled-ct").bundled


def test_an_unknown_name_gets_the_names_there_are_and_the_close_ones(store, model):
    store.add(model)
    message = the_error(store.find, "heatmap-head-nek-ct")
    assert "bundled-ct" in message and "did you mean heatmap-head-neck-ct?" in message
    the_error(store.find, "")
    the_error(store.find, "x" * 5000)


def test_adding_a_model_that_is_there_needs_overwrite(store, model):
    store.add(model)
    assert "overwrite" in the_error(store.add, model)
    save_model(model, a_card(title="newer"), TENSORS, overwrite=True)
    store.add(model, overwrite=True)
    assert store.find(model.name).card.title == "newer"


def test_a_model_of_the_store_cannot_be_added_to_itself(store, model):
    entry = store.add(model)
    assert "lies in the store already" in the_error(store.add, entry.folder, overwrite=True)
    entry.load()


def test_a_bundled_name_cannot_be_taken(store, tmp_path):
    save_model(tmp_path / "own", a_card("bundled-ct"), TENSORS)
    assert "is a bundled model's" in the_error(store.add, tmp_path / "own", overwrite=True)


def test_adding_copies_only_the_models_own_files(store, model):
    (model / "checkpoint.pt").write_bytes(b"x")
    assert sorted(files_below(store.add(model).folder)) == ["card.json", "weights.safetensors"]


@needs_links
def test_adding_does_not_follow_a_loss_curve_that_is_a_link_out_of_the_folder(store, model, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("password")
    (model / "loss.csv").symlink_to(secret)
    assert "leaves the model's folder" in the_error(store.add, model)
    assert not (store.user_folder / model.name).exists()


def test_a_users_model_is_removed_and_a_bundled_one_is_not(store, model):
    store.add(model)
    store.remove(model.name)
    assert not (store.user_folder / model.name).exists()
    assert "cannot be removed" in the_error(store.remove, "bundled-ct")
    assert "no model of this name" in the_error(store.remove, model.name)


@pytest.mark.parametrize("name", ["../bundled/bundled-ct", "..", ".", "", "/"])
def test_removing_cannot_leave_the_store(store, model, name):
    store.add(model)
    before = files_below(store.user_folder.parent)
    the_error(store.remove, name)
    assert files_below(store.user_folder.parent) == before


def test_removing_a_broken_model_leaves_files_that_are_not_the_models(store, model):
    folder = store.add(model).folder
    (folder / "card.json").write_text("{")
    (folder / "notes.txt").write_text("mine")
    store.remove(model.name)
    assert list(files_below(folder)) == ["notes.txt"]


@needs_links
def test_removing_a_model_that_is_a_link_removes_the_link_only(store, model):
    store.user_folder.mkdir()
    (store.user_folder / model.name).symlink_to(model, target_is_directory=True)
    store.remove(model.name)
    assert not store.list()[1:] and load_model(model)


@pytest.mark.parametrize(
    "made_for, scan, warned",
    [("CT", "CT", False), ("CT", "ct", False), ("CT", "MR", True), ("any", "MR", False), ("CT", None, False)],
)
def test_a_scan_of_another_modality_gets_a_warning(made_for, scan, warned):
    preprocessing = {"modality": made_for, "intensity": {"kind": "zscore"}, "spacing_mm": None}
    sentence = ModelStore.suits(a_card(preprocessing=preprocessing), scan)
    assert (sentence is not None) == warned
    if warned:
        assert "was made for CT and the scan is MR" in sentence


def test_the_users_folder_is_the_one_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLFEWSHOT_MODELS", str(tmp_path / "mine"))
    assert ModelStore().user_folder == tmp_path / "mine"


@pytest.mark.parametrize(
    "platform, variable, expected",
    [
        ("linux", "XDG_DATA_HOME", "{base}/sslfewshot/models"),
        ("linux", None, "{home}/.local/share/sslfewshot/models"),
        ("darwin", None, "{home}/Library/Application Support/sslfewshot/models"),
        ("win32", "LOCALAPPDATA", "{base}/sslfewshot/models"),
        ("win32", None, "{home}/AppData/Local/sslfewshot/models"),
    ],
)
def test_the_users_folder_is_the_platforms_own(monkeypatch, tmp_path, platform, variable, expected):
    for name in ("SSLFEWSHOT_MODELS", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "base"))
    monkeypatch.setattr(store_module.sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert ModelStore().user_folder == Path(expected.format(base=tmp_path / "base", home=tmp_path / "home"))


def test_every_bundled_model_of_this_checkout_loads_under_its_own_name():
    bundled = ModelStore().bundled_folder
    assert bundled.is_dir()
    for folder in [folder for folder in bundled.iterdir() if folder.is_dir()]:
        card, tensors = load_model(folder)
        assert card.name == folder.name and tensors
