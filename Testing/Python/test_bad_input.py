"""Models, outputs and arguments that cannot be used get one clear line, exit code 2, and leave nothing behind."""

import errno
import os
import shutil
import sys

import numpy as np
import pytest
from command_line import (
    BOX,
    files_in,
    finished,
    no_file_larger_than,
    patient,
    sslfewshot,
    started,
    write_patient,
)
from model_samples import TENSORS, a_card, change_card, set_at
from SSLFewShotLib.imaging import LabelMap, Volume
from SSLFewShotLib.imaging.files import write_labels, write_volume
from SSLFewShotLib.models import save_model

pytestmark = pytest.mark.usefixtures("own_store")


# Models


def test_an_unknown_model_is_refused_with_those_there_are_and_those_that_need_none(support, target, tmp_path):
    outcome = sslfewshot(
        "segment", target, *support, "--output", tmp_path / "out", "--model", "heatmp-head-neck-ct"
    )
    assert "did you mean heatmap-head-neck-ct" in outcome.error
    assert all(name in outcome.error for name in ("gvdiff", "mind", "xavier"))
    assert files_in(tmp_path / "out") == []


def test_an_unknown_model_is_refused_in_an_evaluation_too(scans, tmp_path):
    outcome = sslfewshot(
        "evaluate", scans, "--supports", "pt_0", "--models", "gvdif", "--output", tmp_path / "out"
    )
    assert outcome.error.startswith("gvdif: no model of this name") and "gvdiff" in outcome.error


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"x" * 200), "weights.safetensors"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors"),
        (lambda folder: (folder / "card.json").write_text("{"), "card.json"),
        (lambda folder: change_card(folder, set_at("weights.sha256", "0" * 64)), "weights.safetensors"),
        (lambda folder: change_card(folder, set_at("method", KeyError)), "field method is missing"),
        (lambda folder: change_card(folder, set_at("architecture.name", "Unet")), "Unet"),
        (
            lambda folder: change_card(folder, set_at("architecture.branches", ["axial"])),
            "weights and card do not fit",
        ),
    ],
    ids=["other bytes", "no weights", "no card", "checksum", "a field", "architecture", "other weights"],
)
def test_a_model_whose_card_or_checksum_is_wrong_is_refused(spoil, reason, support, target, tmp_path):
    folder = tmp_path / "heatmap-head-neck-ct"
    save_model(folder, a_card(), TENSORS)
    spoil(folder)
    outcome = sslfewshot("segment", target, *support, "--output", tmp_path / "out", "--model", folder)
    assert reason in outcome.error and "heatmap-head-neck-ct" in outcome.error
    assert files_in(tmp_path / "out") == []


def test_a_model_made_for_another_modality_is_used_with_a_warning(tmp_path):
    volume, labels = patient(0, modality="MR")
    around = tuple(slice(int(c) - 5, int(c) + 5) for c in np.argwhere(labels.mask("Liver")).mean(axis=0))
    image, marks = tmp_path / "image.nrrd", tmp_path / "marks.nrrd"
    write_volume(Volume(volume.array[around], volume.ijkToLps, "part", "MR"), image)
    write_labels(LabelMap(labels.array[around], volume.ijkToLps, segments=labels.segments), marks)
    outcome = sslfewshot(
        "segment", image, "--support", image, marks, "--output", tmp_path / "out",
        "--model", "heatmap-head-neck-ct", "--spacing", "40", "--segments", "Liver",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    warned = [line for line in outcome.err.splitlines() if line.startswith("sslfewshot: warning: ")]
    assert len(warned) == 1 and "heatmap-head-neck-ct was made for CT and the scan is MR" in warned[0]


def test_a_target_of_another_modality_than_the_support_is_segmented_with_a_warning(support, tmp_path):
    image, _ = write_patient(tmp_path, 1, modality="MR", labelled=False)
    outcome = sslfewshot("segment", image, *support, "--output", tmp_path / "out", *BOX)
    assert outcome.code == 0
    assert "warning: pt_1_ct.nrrd looks like MR, the support like CT" in outcome.err


# Outputs


@pytest.mark.parametrize("there", ["pt_1_ct_seg.nii.gz", "pt_1_ct_confidence.nii.gz", "report.json"])
def test_an_output_that_exists_is_only_replaced_when_asked_to(there, support, target, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / there).write_text("precious")
    arguments = ("segment", target, *support, "--output", out, *BOX)
    outcome = sslfewshot(*arguments)
    assert outcome.error.startswith(str(out / there)) and "overwrite it" in outcome.error
    assert files_in(out) == [there] and (out / there).read_text() == "precious"
    assert sslfewshot(*arguments, "--overwrite").code == 0
    assert (out / there).read_bytes() != b"precious" and len(files_in(out)) == 3


@pytest.mark.parametrize("output", ["out", "out/deeper/model"])
def test_a_file_in_place_of_the_output_folder_is_refused_before_anything_is_computed(
    output, scans, support, target, tmp_path
):
    (tmp_path / "out").write_text("precious")
    for command in (
        ("segment", target, *support, *BOX),
        ("pretrain", scans, "--iterations", "1"),
        ("evaluate", scans, "--supports", "pt_0", "--methods", "box"),
        ("localise", target, *support),
        ("crop", target, "--box", scans),
        ("demo",),
    ):
        outcome = sslfewshot(*command, "--output", tmp_path / output)
        assert f"{tmp_path / 'out'}: a folder was expected" in outcome.error
        assert "describing" not in outcome.err and "iteration" not in outcome.err
    assert files_in(tmp_path) == ["out"] and (tmp_path / "out").read_text() == "precious"


def test_labels_that_were_given_are_never_written_over(tmp_path):
    image, labels = write_patient(tmp_path, 0)
    shutil.copy(labels, tmp_path / "pt_0_ct_seg.seg.nrrd")
    before = (tmp_path / "pt_0_ct_seg.seg.nrrd").read_bytes()
    outcome = sslfewshot(
        "segment", image, "--support", image, tmp_path / "pt_0_ct_seg.seg.nrrd", "--output", tmp_path,
        "--format", "seg.nrrd", "--overwrite", *BOX,
    )  # fmt: skip
    assert "would be overwritten" in outcome.error
    assert (tmp_path / "pt_0_ct_seg.seg.nrrd").read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX")
@pytest.mark.parametrize("size", [100, 800], ids=["at once", "at the second file"])
@pytest.mark.parametrize("old", [False, True], ids=["new", "overwriting"])
def test_a_disk_that_fills_up_leaves_nothing_half_written(size, old, support, target, tmp_path):
    out = tmp_path / "out"
    arguments = ("segment", target, *support, "--output", out, *BOX, "--segments", "SpinalCord")
    if old:
        assert sslfewshot(*arguments).code == 0
        (out / "pt_1_ct_seg.nii.gz").write_text("old labels")
        (out / "pt_1_ct_confidence.nii.gz").write_text("old confidence")
    before = {name: (out / name).read_bytes() for name in files_in(out)}
    with no_file_larger_than(size):
        outcome = sslfewshot(*arguments, "--overwrite")
    assert f"{out / 'pt_1_ct_'}" in outcome.error and "could not be written" in outcome.error
    assert ".writing" not in outcome.error
    assert {name: (out / name).read_bytes() for name in files_in(out)} == before


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "no space left on the disk; free some or choose another output"),
        (errno.EACCES, "not allowed to write here; choose another output folder"),
    ],
)
def test_what_keeps_a_result_from_being_written_is_called_by_its_name(
    code, reason, support, target, tmp_path, monkeypatch
):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.replace", fail)
    outcome = sslfewshot("segment", target, *support, "--output", tmp_path / "out", *BOX)
    assert reason in outcome.error
    assert files_in(tmp_path / "out") == []


def test_sheared_scans_are_refused_as_nifti_before_anything_is_computed(support, tmp_path):
    image, _ = write_patient(tmp_path, 1, geometry="sheared", labelled=False)
    outcome = sslfewshot("segment", image, *support, "--output", tmp_path / "out", *BOX)
    assert "sheared" in outcome.error and "the format nrrd" in outcome.error
    arguments = ("segment", image, *support, "--output", tmp_path / "out", *BOX, "--format", "nrrd")
    assert sslfewshot(*arguments).code == 0


def test_two_targets_of_one_name_are_refused(support, target, tmp_path):
    (tmp_path / "other").mkdir()
    twin, _ = write_patient(tmp_path / "other", 1, ending=".nii.gz", labelled=False)
    outcome = sslfewshot("segment", target, twin, *support, "--output", tmp_path / "out", *BOX)
    assert str(twin) in outcome.error and str(target) in outcome.error and "same name" in outcome.error
    assert files_in(tmp_path / "out") == []


# Wrong use


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "COMMAND"),
        (("segmant",), "invalid choice"),
        (("segment", "x.nrrd"), "--output"),
        (("segment", "x.nrrd", "--support", "a", "b", "--output", "o", "--format", "png"), "--format"),
        (("segment", "x.nrrd", "--support", "a", "--output", "o"), "expected 2 arguments"),
        (("pretrain", "x", "--output", "m", "--iterations", "1", "--minutes", "1"), "not allowed with"),
        (("pretrain", "x", "--output", "m", "--iterations", "many"), "--iterations"),
        (("evaluate", "x", "--supports", "1", "--output", "o", "--shots", "1,two"), "1,two: whole numbers"),
        (("evaluate", "x", "--supports", "1", "--output", "o", "--shots", "0"), "whole numbers from 1"),
        (("models",), "ACTION"),
        (("segment", "", "--support", "a", "b", "--output", "o"), "TARGET: is empty"),
        (("segment", "x.nrrd", "--support", "a", "", "--output", "o"), "--support: is empty"),
        (("segment", "x.nrrd", "--support", "a", "b", "--output", ""), "--output: is empty"),
        (("segment", "x.nrrd", "--support", "a", "b", "--output", "o", "--model", " "), "--model: is empty"),
        (("pretrain", "", "--output", "m"), "FOLDER: is empty"),
    ],
)
def test_wrong_use_is_explained(arguments, reason):
    outcome = sslfewshot(*arguments)
    assert outcome.code == 2 and outcome.out == ""
    usage, last = outcome.err.splitlines()[0], outcome.err.splitlines()[-1]
    assert usage.startswith("usage: sslfewshot") and "error: " in last and reason in last


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (
            ("--method", "magic"),
            "method 'magic' is not known; choose one of auto, aligned, prototype, knn, finetune, ",
        ),
        (("--device", "warp"), "device 'warp'"),
        (("--method", "box", "--k", "3"), "k: no setting of box"),
        (("--model", "gvdiff+"), "'gvdiff+': a name of a descriptor is missing"),
        (("--model", "gvdiff", "--k", "0"), "k = 0"),
        (("--model", "gvdiff", "--spacing", "-1"), "spacing"),
        (("--model", "gvdiff", "--spatial-weight", "nan"), "weights nan"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(extra, reason, support, target, tmp_path):
    outcome = sslfewshot("segment", target, *support, "--output", tmp_path / "out", *extra)
    assert reason in outcome.error
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (("--method", "magic"), "method 'magic' is not known"),
        (("--iterations", "0"), "above 0"),
        (("--minutes", "-1"), "above 0"),
        (("--minutes", "nan"), "above 0"),
        (("--minutes", "inf"), "above 0"),
        (("--seed", "-1"), "seed"),
        (("--extent-mm", "0"), "extent"),
        (("--batch-size", "0"), "batch size"),
        (("--learning-rate", "0"), "learning rate"),
        (("--resume",), "to resume"),
    ],
)
def test_pretraining_that_cannot_work_is_refused_before_it_starts(extra, reason, scans, tmp_path):
    outcome = sslfewshot("pretrain", scans, "--output", tmp_path / "model", *extra)
    assert reason in outcome.error
    assert files_in(tmp_path) == []


def test_a_demo_without_a_minute_is_refused_before_anything_is_made(tmp_path):
    assert "above 0" in sslfewshot("demo", "--minutes", "0", "--output", tmp_path / "demo").error
    assert files_in(tmp_path) == []


def test_an_error_can_be_traced(tmp_path):
    outcome = sslfewshot("--traceback", "pretrain", tmp_path / "nowhere", "--output", tmp_path / "model")
    assert outcome.code == 2 and "Traceback (most recent call last)" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("sslfewshot: error: ")


def test_a_process_of_its_own_ends_with_the_same_line_and_code(tmp_path):
    outcome = finished(started("segment", tmp_path / "no", "--support", "a", "b", "--output", tmp_path / "out"))
    assert outcome.error.startswith(str(tmp_path / "no"))
    assert len(outcome.err.splitlines()) == 1
    assert files_in(tmp_path) == []
