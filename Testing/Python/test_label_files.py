"""Labels in files: numbers, names, colours and places come back; what cannot be labels is refused."""

import json

import numpy as np
import pytest
from image_samples import FORMATS, check_refused, organs, scan
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging import LabelMap
from SSLFewShotLib.imaging.files import read_labels, read_volume, write_labels, write_volume


@pytest.mark.parametrize("ending", [*FORMATS, ".seg.nrrd"])
def test_labels_keep_numbers_and_place_in_every_format(tmp_path, ending):
    labels = organs()
    write_labels(labels, tmp_path / f"x{ending}")
    again = read_labels(tmp_path / f"x{ending}")
    assert np.array_equal(again.array, labels.array) and again.array.dtype == np.uint8
    assert again.same_grid(labels)
    named = ending in (".nrrd", ".seg.nrrd")
    assert [s.name for s in again.segments] == (
        ["Brain stem", "Größe 脑"] if named else ["Segment_3", "Segment_7"]
    )


@pytest.mark.parametrize("ending", FORMATS)
def test_overlapping_segments_are_refused_where_they_do_not_fit(tmp_path, ending):
    with pytest.raises(InputError, match=r"overlap.*write \.seg\.nrrd"):
        write_labels(organs(overlap=True), tmp_path / f"x{ending}")
    assert list(tmp_path.iterdir()) == []


def test_layers_that_do_not_overlap_are_merged_for_a_format_of_one_layer(tmp_path):
    labels = organs()
    layers = np.stack([np.where(labels.array == v, v, 0) for v in (3, 7)], -1)
    layered = LabelMap(layers, labels.ijkToLps, segments=labels.segments, layers={3: 0, 7: 1})
    write_labels(layered, tmp_path / "x.nii.gz")
    assert np.array_equal(read_labels(tmp_path / "x.nii.gz").array, labels.array)


@pytest.mark.parametrize(
    ("values", "pattern"),
    [([0.0, 1.5], "whole label numbers"), ([0.0, np.nan], "NaN or infinite"), ([0.0, -1.0], "from 0 to 32767"),
     ([0.0, 40000.0], "from 0 to 32767")],
)  # fmt: skip
def test_what_cannot_be_labels_is_refused(tmp_path, values, pattern):
    write_volume(scan().with_array(np.resize(np.array(values, np.float32), (5, 6, 7))), tmp_path / "x.nrrd")
    check_refused(tmp_path / "x.nrrd", pattern, read_labels)


def test_whole_numbers_stored_as_floats_are_labels(tmp_path):
    write_volume(scan().with_array(np.resize([0.0, 2.0, 300.0], (5, 6, 7))), tmp_path / "x.nii.gz")
    labels = read_labels(tmp_path / "x.nii.gz")
    assert [s.value for s in labels.segments] == [2, 300] and labels.array.dtype == np.int16


@pytest.mark.parametrize("sidecar", ["x_labels.json", "labels.json"])
def test_names_and_colours_come_from_a_file_beside_the_labels(tmp_path, sidecar):
    write_labels(organs(), tmp_path / "x.nii.gz")
    names = {"0": "background", "7": {"name": "Parotid", "color": [255, 0, 51]}, "3": "Brainstem", "9": "Larynx"}
    (tmp_path / sidecar).write_text(json.dumps(names), encoding="utf-8")
    segments = read_labels(tmp_path / "x.nii.gz").segments
    assert [(s.value, s.name) for s in segments] == [(3, "Brainstem"), (7, "Parotid"), (9, "Larynx")]
    assert segments[1].colour == (1.0, 0.0, 0.2)


def test_a_number_without_a_name_keeps_a_plain_one(tmp_path):
    write_labels(organs(), tmp_path / "x.mha")
    (tmp_path / "labels.json").write_text('{"3": "Brainstem"}', encoding="utf-8")
    assert [s.name for s in read_labels(tmp_path / "x.mha").segments] == ["Brainstem", "Segment_7"]


@pytest.mark.parametrize("text", ["", "[1]", '{"a": "b"}', '{"1": {"color": [1, 0, 0]}}', '{"1": 5}'])
def test_a_file_of_names_that_says_something_else_is_refused(tmp_path, text):
    write_labels(organs(), tmp_path / "x.nii.gz")
    (tmp_path / "labels.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"labels\.json: .* was expected; correct or remove the file"):
        read_labels(tmp_path / "x.nii.gz")


@pytest.mark.realdata
def test_real_labels_lie_on_their_scans_and_survive_every_format(real_data, tmp_path):
    folder = real_data / "head-neck-ct" / "labelled"
    volume, labels = read_volume(folder / "pt_013_ct.nii.gz"), read_labels(folder / "pt_013_seg.nii.gz")
    assert volume.same_grid(labels) and [s.value for s in labels.segments] == [1, 2, 3, 4, 5, 6, 7]
    for ending in [*FORMATS, ".seg.nrrd"]:
        write_labels(labels, tmp_path / f"x{ending}")
        again = read_labels(tmp_path / f"x{ending}")
        assert again.same_grid(volume) and np.array_equal(again.array, labels.array)
