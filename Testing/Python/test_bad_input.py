"""Bad input gets one clear line, exit code 2, and leaves nothing behind."""

import errno
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name it goes by
from command_line import (
    BOX,
    QUICK,
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
from SSLFewShotLib.imaging.files import read_labels, write_labels, write_volume
from SSLFewShotLib.models import save_model


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """pt_0 and pt_1, both with labels; not to be changed."""
    folder = tmp_path_factory.mktemp("scans")
    for seed in (0, 1):
        write_patient(folder, seed)
    return folder


@pytest.fixture
def support(scans) -> tuple:
    return "--support", scans / "pt_0_ct.nrrd", scans / "pt_0.seg.nrrd"


@pytest.fixture
def target(scans) -> Path:
    return scans / "pt_1_ct.nrrd"


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SSLFEWSHOT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


# Images and labels


def missing(path: Path) -> Path:
    return path.with_name("nowhere.nrrd")


def folder_without_scans(path: Path) -> Path:
    folder = path.with_name("nothing here")
    folder.mkdir()
    return folder


def no_image(path: Path) -> Path:
    path = path.with_suffix(".nii.gz")
    path.write_text("not a scan")
    return path


def unknown_format(path: Path) -> Path:
    path = path.with_suffix(".docx")
    path.write_bytes(b"PK\x03\x04")
    return path


def without_bytes(path: Path) -> Path:
    path.touch()
    return path


def cut_short(path: Path) -> Path:
    write_volume(patient(0)[0], path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def cut_short_nifti(path: Path) -> Path:
    path = path.with_suffix(".nii")
    write_volume(patient(0)[0], path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def flat(path: Path) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((8, 9), np.int16)), str(path))
    return path


def over_time(path: Path) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 6, 7, 8), np.int16), isVector=False), str(path))
    return path


def in_colour(path: Path) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((6, 7, 8, 3), np.uint8), isVector=True), str(path))
    return path


def without_voxels(path: Path) -> Path:
    path.write_bytes(b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 0 4\nencoding: raw\nendian: little\n\n")
    return path


def holding(value: float):
    def write(path: Path) -> Path:
        array = np.zeros((8, 9, 10), np.float32)
        array[4, 4, 4] = value
        write_volume(Volume(array, np.eye(4)), path)
        return path

    return write


BAD_IMAGES = {
    "missing": (missing, "no such file"),
    "a folder without scans": (folder_without_scans, "DICOM"),
    "not an image": (no_image, "could not be read"),
    "another kind of file": (unknown_format, "not a known image format"),
    "no bytes": (without_bytes, "empty"),
    "cut short": (cut_short, "cut short or damaged"),
    "cut short, NIfTI": (cut_short_nifti, "cut short or damaged"),
    "2D": (flat, "a 3D image was expected, this one is 2D"),
    "4D": (over_time, "a 3D image was expected, this one is 4D"),
    "RGB": (in_colour, "colour"),
    "no voxels": (without_voxels, ""),
    "NaN": (holding(np.nan), "NaN or infinite"),
    "infinite": (holding(np.inf), "NaN or infinite"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
@pytest.mark.parametrize("role", ["target", "support", "labels"])
def test_a_bad_image_is_refused_in_one_line_that_names_it(kind, role, scans, support, target, tmp_path):
    write, reason = BAD_IMAGES[kind]
    bad = write(tmp_path / "bad.nrrd")
    if role == "target":
        target = bad
    elif role == "support":
        support = ("--support", bad, scans / "pt_0.seg.nrrd")
    else:
        support = ("--support", scans / "pt_0_ct.nrrd", bad)
    outcome = sslfewshot("segment", target, *support, "--output", tmp_path / "out", *BOX)
    assert outcome.error.startswith(str(bad)) and reason in outcome.error
    assert ";" in outcome.error or kind in ("no voxels",), "a remedy is named"
    assert files_in(tmp_path / "out") == []


def test_a_bad_image_among_good_ones_is_left_out_and_the_rest_done(support, target, tmp_path):
    bad = cut_short(tmp_path / "bad.nrrd")
    outcome = sslfewshot("segment", bad, target, *support, "--output", tmp_path / "out", *BOX, "--json")
    assert outcome.code == 2
    assert "sslfewshot: warning: left out: " in outcome.err and str(bad) in outcome.err
    first, second = outcome.result["targets"]
    assert "cut short" in first["error"] and second["segmentation"] == "pt_1_ct_seg.nii.gz"
    assert files_in(tmp_path / "out") == ["pt_1_ct_confidence.nii.gz", "pt_1_ct_seg.nii.gz", "report.json"]
    assert json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8")) == outcome.result


def test_when_no_target_could_be_used_the_next_try_needs_no_overwriting(support, target, tmp_path):
    bad = cut_short(tmp_path / "bad.nrrd")
    assert sslfewshot("segment", bad, *support, "--output", tmp_path / "out", *BOX).code == 2
    assert sslfewshot("segment", target, *support, "--output", tmp_path / "out", *BOX).code == 0


@pytest.mark.parametrize(
    "command",
    [
        ("pretrain", "{}", "--output", "{out}"),
        ("evaluate", "{}", "--supports", "pt_0", "--models", "gvdiff", "--output", "{out}"),
        ("demo", "--data", "{}", "--output", "{out}"),
        ("segment", "{}", "--support", "{image}", "{labels}", "--output", "{out}"),
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("there", [False, True], ids=["missing", "empty"])
def test_a_missing_or_empty_folder_is_refused(command, there, scans, tmp_path):
    folder = tmp_path / "folder"
    if there:
        folder.mkdir()
    places = {"out": tmp_path / "out", "image": scans / "pt_0_ct.nrrd", "labels": scans / "pt_0.seg.nrrd"}
    outcome = sslfewshot(*(part.format(folder, **places) for part in command))
    assert outcome.error.startswith(str(folder))
    assert files_in(tmp_path) == (["folder"] if there else [])


def test_when_several_targets_fail_each_is_named(support, tmp_path):
    bad, worse = cut_short(tmp_path / "bad.nrrd"), flat(tmp_path / "worse.nrrd")
    outcome = sslfewshot("segment", bad, worse, *support, "--output", tmp_path / "out", *BOX)
    assert "none of the 2 scans could be segmented" in outcome.error
    assert str(bad) in outcome.err and str(worse) in outcome.err


def test_scans_none_of_which_can_be_read_cannot_be_pretrained_on(tmp_path):
    cut_short(tmp_path / "one.nrrd")
    flat(tmp_path / "two.nrrd")
    outcome = sslfewshot("pretrain", tmp_path, "--output", tmp_path / "model", "--iterations", "1")
    assert "none of the 2 scans can be read" in outcome.error
    assert "one.nrrd" in outcome.error and "two.nrrd" in outcome.error
    assert files_in(tmp_path) == ["one.nrrd", "two.nrrd"]


def test_labels_that_are_no_labels_are_refused(scans, target, tmp_path):
    outcome = sslfewshot(
        "segment", target, "--support", target, target, "--output", tmp_path / "out", *BOX
    )  # an image in place of its labels
    assert "label values from 0 to 32767 were expected" in outcome.error


# Supports


def test_labels_on_another_grid_are_resampled_and_the_user_is_told(scans, target, tmp_path):
    volume, labels = patient(0)
    smaller = LabelMap(
        labels.array[4:-4], Volume.from_spacing(labels.array[4:-4], tuple(volume.spacing)).ijkToLps, "part",
        segments=labels.segments,
    )  # fmt: skip
    smaller.ijkToLps[:3, 3] = volume.points_from_indices(np.array([[0, 0, 4]]))[0]
    write_labels(smaller, tmp_path / "part.seg.nrrd")
    outcome = sslfewshot(
        "segment", target, "--support", scans / "pt_0_ct.nrrd", tmp_path / "part.seg.nrrd",
        "--output", tmp_path / "out", *BOX,
    )  # fmt: skip
    assert outcome.code == 0
    assert any("warning" in line and "part.seg.nrrd" in line and "resampled" in line
               for line in outcome.err.splitlines())  # fmt: skip


def test_labels_elsewhere_in_space_are_refused(scans, target, tmp_path):
    _, labels = patient(0)
    away = LabelMap(labels.array, labels.ijkToLps + 5000 * np.eye(4, k=3), "away", segments=labels.segments)
    write_labels(away, tmp_path / "away.seg.nrrd")
    outcome = sslfewshot(
        "segment", target, "--support", scans / "pt_0_ct.nrrd", tmp_path / "away.seg.nrrd",
        "--output", tmp_path / "out", *BOX,
    )  # fmt: skip
    assert "away.seg.nrrd" in outcome.error and "pt_0_ct.nrrd" in outcome.error
    assert files_in(tmp_path / "out") == []


def test_labels_without_foreground_are_refused(scans, target, tmp_path):
    volume, _ = patient(0)
    write_labels(LabelMap(np.zeros(volume.array.shape, np.uint8), volume.ijkToLps), tmp_path / "none.nii.gz")
    outcome = sslfewshot(
        "segment", target, "--support", scans / "pt_0_ct.nrrd", tmp_path / "none.nii.gz",
        "--output", tmp_path / "out", *BOX,
    )  # fmt: skip
    assert outcome.error.startswith("none.nii.gz: no foreground; mark")


def test_a_segment_that_one_of_two_supports_lacks_is_taken_from_the_other(scans, support, target, tmp_path):
    volume, labels = patient(1)
    only = {name: labels.mask(name) for name in ("Spleen",)}
    write_labels(LabelMap.from_masks(volume, only, labels.segments), tmp_path / "spleen.seg.nrrd")
    outcome = sslfewshot(
        "segment", target, *support, "--support", scans / "pt_1_ct.nrrd", tmp_path / "spleen.seg.nrrd",
        "--output", tmp_path / "out", *BOX, "--json",
    )  # fmt: skip
    assert outcome.code == 0
    first, second = outcome.result["support"]
    assert "Liver" in first["segments"] and second["segments"] == ["Spleen"]
    assert read_labels(tmp_path / "out" / "pt_1_ct_seg.nii.gz").array.max() == 7


def test_a_segment_that_no_support_has_is_refused_with_those_there_are(support, target, tmp_path):
    outcome = sslfewshot(
        "segment", target, *support, "--output", tmp_path / "out", *BOX, "--segments", "Pancreas", "Liver"
    )
    assert "Pancreas" in outcome.error and "Liver" in outcome.error


def test_a_support_with_nothing_of_what_is_wanted_is_not_called_empty(support, target, tmp_path):
    outcome = sslfewshot("segment", target, *support, "--output", tmp_path / "out", *BOX, "--segments", "Pancreas")
    assert "Pancreas" in outcome.error and "only Liver" in outcome.error
    assert "no foreground" not in outcome.error


def test_a_scan_smaller_than_the_patch_is_segmented(support, tmp_path):
    volume, _ = patient(1)
    small = Volume(volume.array[15:20, 14:18, 16:21], volume.ijkToLps, "small", "CT")
    write_volume(small, tmp_path / "small.nrrd")
    outcome = sslfewshot(
        "segment", tmp_path / "small.nrrd", *support, "--output", tmp_path / "out", *QUICK, "--format", "nrrd"
    )
    assert outcome.code == 0, outcome.err
    assert read_labels(tmp_path / "out" / "small_seg.nrrd").array.shape == (5, 4, 5)


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
    assert outcome.error.startswith(str(out / there)) and "--overwrite" in outcome.error
    assert files_in(out) == [there] and (out / there).read_text() == "precious"
    assert sslfewshot(*arguments, "--overwrite").code == 0
    assert (out / there).read_bytes() != b"precious" and len(files_in(out)) == 3


def test_a_file_in_place_of_the_output_folder_is_refused(support, target, tmp_path):
    (tmp_path / "out").write_text("precious")
    for command in (("segment", target, *support, *BOX), ("demo",)):
        assert "a folder was expected" in sslfewshot(*command, "--output", tmp_path / "out").error
    assert (tmp_path / "out").read_text() == "precious"


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
    assert "sheared" in outcome.error and "--format nrrd" in outcome.error
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
        (("segment", "x.nrrd"), "--support"),
        (("segment", "x.nrrd", "--support", "a", "b", "--output", "o", "--format", "png"), "--format"),
        (("segment", "x.nrrd", "--support", "a", "--output", "o"), "expected 2 arguments"),
        (("pretrain", "x", "--output", "m", "--iterations", "1", "--minutes", "1"), "not allowed with"),
        (("pretrain", "x", "--output", "m", "--iterations", "many"), "--iterations"),
        (("evaluate", "x", "--supports", "1", "--output", "o", "--shots", "1,two"), "1,two: whole numbers"),
        (("evaluate", "x", "--supports", "1", "--output", "o", "--shots", "0"), "whole numbers from 1"),
        (("models",), "ACTION"),
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
        (("--method", "magic"), "method 'magic' is not known; choose one of knn, box"),
        (("--device", "warp"), "device 'warp'"),
        (("--method", "box", "--k", "3"), "k: no setting of box"),
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
