"""Which image belongs to which labels, and which scans a folder holds."""

from pathlib import Path

import numpy as np
import pytest
from dicom_series import write_series
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging import LabelMap, Volume
from SSLFewShotLib.imaging.cases import Case, find_cases, find_scans, is_label_file, read_case, select_cases
from SSLFewShotLib.imaging.files import write_labels, write_volume


@pytest.fixture
def folder(tmp_path):
    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def found(folder: Path, **suffixes) -> list[tuple[str, str, str | None]]:
    def name(path):
        return path.relative_to(folder).as_posix() if path else None

    return [(case.id, name(case.image), name(case.labels)) for case in find_cases(folder, **suffixes)]


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("pt_013_ct.nii.gz", "pt_013_seg.nii.gz"),
        ("pt_013.nii.gz", "pt_013_seg.nii.gz"),
        ("pt_013.nrrd", "pt_013.seg.nrrd"),
        ("pt_013_t1.mha", "pt_013-label.nrrd"),
        ("pt_013-ct.nii", "pt_013_mask.nii"),
        ("pt_013_0000.nii.gz", "pt_013_labels.nii.gz"),
        ("pt_013_ct.nrrd", "pt_013_Segmentation.seg.nrrd"),
    ],
)
def test_an_image_and_its_labels_share_a_stem(folder, image, labels):
    assert found(folder(image, labels)) == [("pt_013", image, labels)]


def test_labels_named_after_the_whole_image_belong_to_it_alone(folder):
    root = folder("p1_t1.nii.gz", "p1_t2.nii.gz", "p1_t1_seg.nii.gz")
    assert found(root) == [("p1", "p1_t2.nii.gz", None), ("p1_t1", "p1_t1.nii.gz", "p1_t1_seg.nii.gz")]


def test_scans_without_labels_are_cases_too(folder):
    root = folder(
        "pt_2_ct.nrrd", "pt_1_ct.nrrd", "pt_1_seg.nrrd", "pt_3.nrrd", "notes.txt", "pt_1_confidence.nrrd"
    )
    assert found(root) == [
        ("pt_1", "pt_1_ct.nrrd", "pt_1_seg.nrrd"), ("pt_2", "pt_2_ct.nrrd", None), ("pt_3", "pt_3.nrrd", None)
    ]  # fmt: skip


def test_several_images_of_a_case_need_a_suffix(folder):
    root = folder("p1_t1.nii.gz", "p1_t2.nii.gz", "p1_seg.nii.gz")
    with pytest.raises(InputError, match=r"several images.*p1_t1\.nii\.gz, p1_t2\.nii\.gz.*image suffix") as error:
        find_cases(root)
    assert "\n" not in str(error.value)
    for suffix in ("_t2", "_t2.nii.gz", "t2"):
        assert found(root, image_suffix=suffix) == [("p1", "p1_t2.nii.gz", "p1_seg.nii.gz")]


def test_several_labels_of_a_case_need_a_suffix(folder):
    root = folder("p1.nii.gz", "p1_seg.nii.gz", "p1_mask.nii.gz")
    with pytest.raises(InputError, match=r"second label file for case p1 beside .*label suffix"):
        find_cases(root)
    with pytest.raises(InputError):
        find_cases(root, label_suffix="_none", image_suffix="_none")


def test_suffixes_replace_the_rule(folder):
    root = folder("a-scan.nrrd", "a-truth.nrrd", "b-scan.nrrd", "b-other.nrrd")
    assert found(root, image_suffix="-scan", label_suffix="-truth") == [
        ("a", "a-scan.nrrd", "a-truth.nrrd"), ("b", "b-scan.nrrd", None)
    ]  # fmt: skip


def test_labels_without_an_image_are_left_out_with_a_warning(folder):
    root = folder("p1_ct.nrrd", "p2_seg.nrrd")
    with pytest.warns(InputWarning, match=r"p2_seg\.nrrd: no image belongs to these labels"):
        assert found(root) == [("p1", "p1_ct.nrrd", None)]


def test_a_folder_for_each_patient_gives_its_name_to_the_case(folder):
    root = folder("anna/ct.nrrd", "anna/seg.nrrd", "bert/ct.nrrd", "bert/seg.nrrd")
    assert found(root) == [("anna", "anna/ct.nrrd", "anna/seg.nrrd"), ("bert", "bert/ct.nrrd", "bert/seg.nrrd")]


def test_a_stem_that_sub_folders_repeat_is_told_apart_by_them(folder):
    root = folder("a/p1_ct.nrrd", "a/p1_seg.nrrd", "b/p1_ct.nrrd", "b/p1_seg.nrrd")
    assert [case[0] for case in found(root)] == ["a/p1_ct", "b/p1_ct"]


def test_two_scans_of_one_patient_without_labels_keep_their_whole_names(folder):
    assert [case[0] for case in found(folder("p1_ct.nrrd", "p1_mr.nrrd"))] == ["p1_ct", "p1_mr"]


@pytest.mark.parametrize("find", [find_cases, find_scans])
def test_a_missing_or_empty_folder_is_refused(tmp_path, find):
    with pytest.raises(InputError, match="check the name"):
        find(tmp_path / "nowhere")
    with pytest.raises(InputError, match="lies in this folder"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a_seg.nii.gz", True), ("a.seg.nrrd", True), ("a-Mask.nrrd", True), ("labels.mha", True),
     ("a_ct.nrrd", False), ("unmask.nrrd", False), ("a_seg_ct.nrrd", False)],
)  # fmt: skip
def test_a_label_file_is_known_by_its_ending(name, expected):
    assert is_label_file(name) is expected


def test_every_scan_below_a_folder_is_found_and_labels_are_not(folder):
    root = folder(
        "b.nrrd", "a_ct.nii.gz", "a_seg.nii.gz", "sub/c.mha", "sub/c.seg.nrrd", ".hidden/d.nrrd", "x.txt"
    )
    write_series(root / "sub" / "series 1")
    write_series(root / "sub" / "series 2")
    assert [path.relative_to(root).as_posix() for path in find_scans(root)] == [
        "a_ct.nii.gz", "b.nrrd", "sub/c.mha", "sub/series 1", "sub/series 2"
    ]  # fmt: skip


def test_images_beside_dicom_slices_and_folders_linked_to_themselves_are_found_once(tmp_path):
    write_series(tmp_path / "a")
    (tmp_path / "a" / "x.nrrd").touch()
    try:
        (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("links are not allowed here")
    assert find_scans(tmp_path) == [tmp_path / "a", tmp_path / "a" / "x.nrrd"]


def test_a_single_scan_or_series_can_be_named_itself(tmp_path):
    write_series(tmp_path / "series")
    write_volume(Volume(np.zeros((2, 2, 2)), np.eye(4)), tmp_path / "x.nrrd")
    assert find_scans(tmp_path / "series") == [tmp_path / "series"]
    assert find_scans(tmp_path / "x.nrrd") == [tmp_path / "x.nrrd"]


def test_a_dicom_folder_can_be_the_image_of_a_case(tmp_path):
    write_series(tmp_path / "pt_013_ct")
    assert find_cases(tmp_path) == [Case("pt_013", tmp_path / "pt_013_ct", None)]
    matrix = np.array([[0.9, 0, 0, 10], [0, 0.7, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
    write_labels(LabelMap(np.ones((5, 4, 6), np.uint8), matrix), tmp_path / "pt_013_seg.nrrd")
    cases = find_cases(tmp_path)
    assert cases == [Case("pt_013", tmp_path / "pt_013_ct", tmp_path / "pt_013_seg.nrrd")]
    volume, labels = read_case(cases[0])
    assert volume.modality == "CT" and labels.same_grid(volume)


CASES = [Case(name, Path(f"{name}_ct.nrrd")) for name in ("pt_004", "pt_013", "pt_130", "phantom")]


@pytest.mark.parametrize("wanted", ["pt_013", "013", "13", " 13 "])
def test_a_case_is_chosen_by_id_or_number(wanted):
    assert [case.id for case in select_cases(CASES, [wanted])] == ["pt_013"]


def test_cases_come_in_the_order_in_which_they_were_named():
    assert [case.id for case in select_cases(CASES, ["phantom", "130", "4"])] == ["phantom", "pt_130", "pt_004"]


@pytest.mark.parametrize(
    ("ids", "pattern"),
    [(["99"], r"99: no case has this id; there are pt_004, pt_013"), (["13", "pt_013"], "named twice"),
     (["x"], "no case has this id"), ([""], "no case has this id")],
)  # fmt: skip
def test_an_unknown_or_repeated_id_is_refused(ids, pattern):
    with pytest.raises(InputError, match=pattern):
        select_cases(CASES, ids)


def test_a_number_that_several_cases_have_is_refused():
    cases = [Case("a_1", Path("a")), Case("b_01", Path("b"))]
    with pytest.raises(InputError, match=r"several cases have this number \(a_1, b_01\)"):
        select_cases(cases, ["1"])


def test_a_case_is_read_with_its_labels_on_the_grid_of_the_image(tmp_path):
    write_volume(Volume(np.zeros((6, 6, 6), np.int16), np.eye(4)), tmp_path / "a_ct.nrrd")
    write_labels(LabelMap(np.ones((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "a_seg.nrrd")
    with pytest.warns(InputWarning, match="resampled"):
        volume, labels = read_case(find_cases(tmp_path)[0])
    assert labels.same_grid(volume) and labels.mask("Segment_1").sum() == 8


def test_a_case_without_labels_cannot_be_read_as_one_with(tmp_path):
    with pytest.raises(InputError, match="the case pt_004 has no labels"):
        read_case(CASES[0])


@pytest.mark.realdata
def test_the_real_cohorts_pair_up(real_data):
    cases = find_cases(real_data / "head-neck-ct" / "labelled")
    assert len(cases) == 30 and all(case.labels is not None for case in cases)
    assert select_cases(cases, ["13"])[0].id == "pt_013"
    assert len(find_cases(real_data / "hippocampus-mr" / "labelled")) == 29
    assert len(find_scans(real_data / "head-neck-ct" / "unlabelled")) == 136
    volume, labels = read_case(select_cases(cases, ["pt_013"])[0])
    assert volume.same_grid(labels)


@pytest.mark.realdata
def test_labels_that_cover_a_part_of_a_real_scan_are_brought_to_all_of_it(real_data):
    folder = real_data / "abdomen-ct"
    case = Case("abdomen", folder / "abdomen_ct.nii.gz", folder / "abdomen_seg_machine.nii.gz")
    with pytest.warns(InputWarning, match="resampled"):
        volume, labels = read_case(case)
    assert volume.same_grid(labels)
    marked = np.flatnonzero(labels.array.any(axis=(1, 2)))
    assert 0 < len(marked) <= 30
