"""Which model and method are taken, by name or by what fits the scan."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from command_line import patient
from model_samples import TENSORS, a_card
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.models import ModelStore, save_model
from SSLFewShotLib.segmentation.aligned import AlignedSegmenter
from SSLFewShotLib.segmentation.box_alignment import BodyBoxSegmenter
from SSLFewShotLib.segmentation.choice import DEFAULT_MODEL, chosen, fitting_models, make_segmenter
from SSLFewShotLib.segmentation.knn import KnnSegmenter


def scan_of(side: float, modality: str = "CT") -> Volume:
    """A scan whose sides have this length in mm."""
    return Volume.from_spacing(np.zeros((10, 10, 10), np.int16), (side / 10,) * 3, modality=modality)


def store_of(folder: Path, bundled: dict[str, dict] = {}, own: dict[str, dict] = {}) -> ModelStore:  # noqa: B006
    for where, models in (("bundled", bundled), ("user", own)):
        for name, changes in models.items():
            save_model(folder / where / name, a_card(name, **changes), TENSORS)
    return ModelStore(folder / "user", folder / "bundled")


def made_for(modality: str) -> dict:
    return {**a_card().preprocessing, "modality": modality}


def in_mm(scale: float) -> dict:
    return {"unit": "mm", "scale": scale, "patch": 0.8}


def names(volume: Volume, store: ModelStore) -> list[str]:
    return [card.name for card in fitting_models(volume, store)]


def test_a_users_own_model_is_preferred_and_then_the_better_method(tmp_path):
    bundled = {"a-reg2d": {"method": "reg2d"}, "b-heatmap": {"method": "heatmap"}}
    own = {"d-doersch": {"method": "doersch"}, "c-heatmap": {"method": "heatmap"}}
    store = store_of(tmp_path, bundled, own)
    assert names(scan_of(400), store) == ["c-heatmap", "d-doersch", "b-heatmap", "a-reg2d"]


def test_a_model_for_another_modality_does_not_fit_and_one_for_any_does(tmp_path):
    store = store_of(
        tmp_path, {"ct": {}, "mr": {"preprocessing": made_for("MR")}, "both": {"preprocessing": made_for("any")}}
    )
    assert names(scan_of(400, "CT"), store) == ["ct", "both"]
    assert names(scan_of(400, "MR"), store) == ["mr", "both"]
    assert names(scan_of(400, "US"), store) == ["both"]


def test_a_model_for_scans_of_another_size_does_not_fit(tmp_path):
    store = store_of(tmp_path, {"body": {"extent": in_mm(120)}, "organ": {"extent": in_mm(30)}})
    assert names(scan_of(400), store) == ["body"]
    assert names(scan_of(40), store) == ["organ"]
    assert names(scan_of(80), store) == []


def test_a_model_with_extents_relative_to_the_scan_fits_any_size(tmp_path):
    store = store_of(tmp_path, {"relative": {"extent": {"unit": "normalised", "patch": 0.8}}})
    assert names(scan_of(400), store) == names(scan_of(20), store) == ["relative"]


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_without_a_name_the_default_is_taken_whatever_models_there_are(modality, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter = make_segmenter("knn", None, patient(0, modality)[0], store=store_of(tmp_path))
    assert segmenter.descriptor.name == DEFAULT_MODEL


def test_a_broken_model_in_the_store_does_not_keep_another_from_being_found(tmp_path):
    store = store_of(tmp_path, {"broken": {}, "whole": {}})
    (tmp_path / "bundled" / "broken" / "card.json").write_text("{")
    with pytest.warns(InputWarning, match="broken"):
        assert names(scan_of(400), store) == ["whole"]


def test_the_best_bundled_model_for_a_phantom_ct_is_the_dense_one(tmp_path):
    assert names(patient(0)[0], ModelStore(tmp_path))[0] == "dense-head-neck-ct"


def test_labels_are_aligned_where_a_dense_model_fits_and_voted_on_elsewhere(tmp_path):
    ct, mr = patient(0)[0], patient(0, "MR")[0]
    bundled, none = ModelStore(tmp_path), store_of(tmp_path)
    assert chosen("auto", None, ct, bundled) == ("aligned", "dense-head-neck-ct")
    assert chosen("auto", None, mr, bundled) == ("aligned", "any-modality") == chosen("aligned", None, mr, bundled)
    assert chosen("auto", None, ct, none) == ("knn", DEFAULT_MODEL)
    assert chosen("auto", "gvdiff", ct, bundled) == ("knn", "gvdiff")
    assert chosen("auto", "dense-head-neck-ct", mr, bundled) == ("aligned", "dense-head-neck-ct")
    assert chosen("aligned", None, ct, bundled) == ("aligned", "dense-head-neck-ct")
    assert chosen("prototype", None, ct, bundled) == ("prototype", "dense-head-neck-ct")
    assert chosen("auto", "alpnet-head-neck-ct", ct, bundled) == ("prototype", "alpnet-head-neck-ct")
    assert chosen("knn", None, ct, bundled) == ("knn", DEFAULT_MODEL)
    assert chosen("box", None, ct, bundled) == ("box", None)


def test_on_a_part_of_the_body_the_model_for_any_modality_joins_the_one_that_fits(tmp_path):
    bundled, body = ModelStore(tmp_path), {"extent": in_mm(120), "method": "dense"}
    small, other = scan_of(42, "MR"), scan_of(42, "CT")
    joined = "dense-hippocampus-mr+any-modality"
    assert chosen("auto", None, small, bundled) == chosen("aligned", None, small, bundled) == ("aligned", joined)
    assert chosen("auto", joined, small, bundled) == ("aligned", joined)
    assert chosen("auto", "dense-hippocampus-mr+gvdiff", small, bundled)[0] == "knn"
    assert chosen("auto", "dense-hippocampus-mr+alpnet-hippocampus-mr", small, bundled)[0] == "knn"
    assert chosen("auto", None, other, bundled) == ("aligned", "any-modality")
    for single in ("prototype", "finetune"):
        assert chosen(single, None, small, bundled) == (single, "dense-hippocampus-mr")
    alone = store_of(tmp_path, {"large": body, "small": {**body, "extent": in_mm(30)}})
    assert chosen("auto", None, scan_of(400), alone) == ("aligned", "large")
    assert chosen("auto", None, other, alone) == ("aligned", "small")


def test_a_setting_of_the_vote_alone_asks_for_the_vote():
    assert isinstance(make_segmenter("auto", None, patient(0)[0], k=5), KnnSegmenter)
    assert isinstance(make_segmenter("auto", None, patient(0)[0], vote=0.2), AlignedSegmenter)


def test_aligning_without_a_dense_model_that_fits_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="nearest neighbours") as none_fits:
        chosen("aligned", None, patient(0)[0], store_of(tmp_path))
    with pytest.raises(InputError, match="gvdiff: aligning needs a dense model") as other:
        make_segmenter("aligned", "gvdiff", patient(0)[0])
    # Not only a command says so: a panel has no options.
    assert "--" not in f"{none_fits.value}{other.value}"


@pytest.mark.parametrize("name", ["gvdiff", "mind", "xavier", "mind+gvdiff"])
def test_descriptors_without_training_have_names(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter = make_segmenter("knn", name, patient(0)[0], k=5)
    assert isinstance(segmenter, KnnSegmenter) and segmenter.descriptor.name == name and segmenter.k == 5


def test_the_baseline_needs_no_model():
    assert isinstance(make_segmenter("box", None, patient(0)[0]), BodyBoxSegmenter)


@pytest.mark.parametrize("name", ["nothing", "gvdiff+nothing"])
def test_an_unknown_method_or_model_is_refused_with_those_there_are(name, tmp_path):
    with pytest.raises(InputError, match="'magic' is not known; choose one of auto, aligned, prototype, knn, f"):
        make_segmenter("magic", None, patient(0)[0])
    with pytest.raises(
        InputError, match=r"^nothing: no model of this name .*ct-1.*; gvdiff, mind, xavier need no"
    ):
        make_segmenter("knn", name, patient(0)[0], store=store_of(tmp_path, {"ct-1": {}}))


@pytest.mark.parametrize("name", ["heatmap-head-neck-ct", "gvdiff+heatmap-head-neck-ct"])
def test_a_model_made_for_another_modality_is_taken_with_a_warning(name):
    mr = patient(0, modality="MR")[0]
    with pytest.warns(InputWarning, match="heatmap-head-neck-ct was made for CT and the scan is MR"):
        segmenter = make_segmenter("knn", name, mr)
    assert segmenter.descriptor.name == name


@pytest.mark.parametrize(("method", "setting"), [("knn", "neighbours"), ("box", "k")])
def test_a_setting_that_the_method_has_not_is_refused(method, setting):
    with pytest.raises(InputError, match=setting):
        make_segmenter(method, "gvdiff", patient(0)[0], **{setting: 3})
