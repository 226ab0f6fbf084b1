"""Images, labels and supports that cannot be used get one clear line, exit code 2, and leave nothing behind."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name it goes by
from command_line import (
    BOX,
    QUICK,
    files_in,
    patient,
    sslfewshot,
    write_patient,
)
from SSLFewShotLib.imaging import LabelMap, Volume
from SSLFewShotLib.imaging.files import read_labels, write_labels, write_volume

pytestmark = pytest.mark.usefixtures("own_store")


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
    assert files_in(tmp_path / "out") == [
        "pt_1_ct_confidence.nii.gz",
        "pt_1_ct_seg.nii.gz",
        "report.json",
        "summary.csv",
    ]
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
    another = scans / "pt_2_ct.nrrd"  # an image in place of labels
    outcome = sslfewshot("segment", target, "--support", target, another, "--output", tmp_path / "out", *BOX)
    assert "label values from 0 to 32767 were expected" in outcome.error


# Supports


def test_labels_given_as_the_scan_too_are_refused(scans, target, tmp_path):
    labels = scans / "pt_0.seg.nrrd"
    outcome = sslfewshot("segment", target, "--support", labels, labels, "--output", tmp_path / "out", *BOX)
    assert outcome.error.startswith(f"{labels}: given as a scan and as its labels")
    assert files_in(tmp_path / "out") == []


def test_labels_among_the_targets_are_told_to_the_user(scans, support, target, tmp_path):
    labels = write_patient(tmp_path, 1)[1].rename(tmp_path / "pt_1-labels.seg.nrrd")
    outcome = sslfewshot("segment", target, labels, *support, "--output", tmp_path / "out", *BOX)
    assert outcome.code == 0
    assert f"warning: {labels}: named as labels are, and segmented as a scan" in outcome.err
    assert outcome.err.count("named as labels are") == 1


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
