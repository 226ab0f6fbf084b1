"""Model cards: every missing, unknown and wrong field is named."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from model_samples import (
    TENSORS,
    a_card,
    change_card,
    saved_model,
    set_at,
    the_error,
)
from SSLFewShotLib.models import ModelCard, ModelStore, load_model, save_model


@pytest.fixture
def model(tmp_path) -> Path:
    return saved_model(tmp_path / "made")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../../x",
            "/etc/x",
            "a/b",
            "a\\b",
            "..",
            ".hidden",
            "c:x",
            "UPPER",
            "ünlaut",
            "",
            "a b",
            "ends.",
            "line\n",
        ),
        *("x" * 81, "con", "nul.v2", "com1", "lpt9.model", "a\0b"),
    ],
)
def test_a_card_with_a_name_that_is_no_plain_folder_name_is_refused(model, name, tmp_path):
    change_card(model, lambda card: card.update(name=name))
    message = the_error(load_model, model)
    assert "field name" in message and str(model / "card.json") in message
    the_error(save_model, tmp_path / "other", a_card(name), TENSORS)
    the_error(ModelStore(tmp_path / "user", tmp_path / "bundled").add, model)
    assert not (tmp_path / "user").exists()


@pytest.mark.parametrize("name", ["x", "x" * 80, "console", "a.b-c_d", "0"])
def test_plain_names_are_accepted(tmp_path, name):
    assert save_model(tmp_path / "m", a_card(name), TENSORS).name == name


def test_a_card_of_a_newer_version_asks_for_an_update(model):
    change_card(model, lambda card: card.update(schema_version=2, something_new=1))
    message = the_error(load_model, model)
    assert "schema_version" in message and "update" in message


CARD_FIELDS = sorted({field.name for field in dataclasses.fields(ModelCard)})


@pytest.mark.parametrize("field", CARD_FIELDS)
def test_a_card_without_one_of_its_fields_is_refused(model, field):
    change_card(model, lambda card: card.pop(field))
    assert f"field {field} is missing" in the_error(load_model, model)


@pytest.mark.parametrize(
    "path, value, said",
    [
        ("colour", 1, "field colour is unknown"),
        ("schema_version", "1", "field schema_version: expected 1"),
        ("schema_version", True, "field schema_version: expected 1"),
        ("name", 5, "field name: expected string"),
        ("title", "two\nlines", "field title"),
        ("method", "HEAT MAP", "field method"),
        ("method", "heatmap\n", "field method"),
        ("architecture.parameters", "many", "field architecture.parameters: expected integer"),
        ("architecture.branches", [], "field architecture.branches"),
        ("preprocessing.modality", "x-ray", "field preprocessing.modality"),
        ("preprocessing.intensity.kind", "magic", "expected one of zscore, window, percentile"),
        ("preprocessing.spacing_mm", 0, "field preprocessing.spacing_mm"),
        ("preprocessing.axis", 0, "field preprocessing.axis is unknown"),
        ("extent.unit", "inch", "expected one of mm, normalised"),
        ("extent.patch", KeyError, "field extent.patch is missing"),
        ("extent.scale", "wide", "field extent.scale"),
        ("training.data.0.licence", KeyError, "field training.data[0].licence is missing"),
        ("training.data.0.scans", 1.5, "field training.data[0].scans: expected integer"),
        ("training.minutes", -1, "field training.minutes"),
        ("training.minutes", float("nan"), "not finite"),
        ("metrics", [], "field metrics: expected object"),
        ("versions.torch", 2.4, "field versions.torch: expected string"),
        ("created", "yesterday", "field created"),
        ("created", "2026-13-41T00:00:00Z", "field created"),
        ("created", "2026-01-01T00:00:00+02:00", "field created"),
        ("weights.file", "../weights.safetensors", "field weights.file: expected weights.safetensors"),
        ("weights.file", "weights.pt", "field weights.file: expected weights.safetensors"),
        ("weights.sha256", "abc", "field weights.sha256"),
        ("weights.bytes", -1, "field weights.bytes"),
    ],
)
def test_a_wrong_field_of_a_card_is_named(model, path, value, said):
    change_card(model, set_at(path, value))
    message = the_error(load_model, model)
    assert said in message and str(model / "card.json") in message


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "not a readable JSON card"),
        (b"{", "not a readable JSON card"),
        (b"\xff\xfe{}", "not a readable JSON card"),
        (b"[]", "expected a JSON object"),
        (b'{"name": "a", "name": "b"}', "given twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"seed": 1' + b"0" * 10_000 + b"}", "JSON"),
        (b'{"title": "\\ud800"}', "not valid Unicode"),
        (b'{"minutes": 1e999}', "not finite"),
        (b" " * (1 << 20) + b"{}", "larger than 1 MiB"),
    ],
    ids=[
        "empty",
        "cut",
        "not UTF-8",
        "a list",
        "repeated",
        "deep",
        "huge number",
        "surrogate",
        "infinite",
        "huge",
    ],
)
def test_a_card_file_that_is_no_card_is_refused(model, content, said):
    (model / "card.json").write_bytes(content)
    assert said in the_error(load_model, model)


def test_a_card_that_would_not_load_again_is_not_saved(tmp_path):
    assert "larger than" in the_error(save_model, tmp_path / "m", a_card(metrics={"x": "y" * (1 << 20)}), TENSORS)
    assert "not finite" in the_error(
        save_model, tmp_path / "m", a_card(metrics={"loss": np.float32("nan")}), TENSORS
    )
    assert "object is no JSON value" in the_error(
        save_model, tmp_path / "m", a_card(metrics={"x": object()}), TENSORS
    )
    assert not (tmp_path / "m").exists()
