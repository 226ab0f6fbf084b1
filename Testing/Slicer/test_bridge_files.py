"""The files of a job: written whole, read back exactly, called by neutral names, and gone afterwards."""

from bridge_scene import empty_scene  # noqa: F401 - a fixture that every test uses

# isort: split
import subprocess
import sys
import threading

import numpy as np
import pytest
from SSLFewShotLib.errors import OutputError
from SSLFewShotLib.imaging import LabelMap, Segment, Volume
from SSLFewShotLib.imaging.files import read_volume, write_labels, write_volume
from SSLFewShotSlicer.bridge import JobFolder, ResultError, read_result, take_volume
from SSLFewShotSlicer.bridge.nrrd import NrrdImage, read_nrrd, write_nrrd

from bridge_scene import (
    add_volume,
)

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHEARED = np.array([[0.1, 0.2, 1 / 3, -1e3], [1.7, -0.1, 0.3, 0.1], [0.01, 2.1, -0.3, 1e-7], [0, 0, 0, 1.0]])


def labels_with(names, shape=(3, 4, 5)):
    array = np.zeros(shape, np.uint8)
    array[1, 1, : len(names)] = range(1, len(names) + 1)
    segments = [Segment(value, name, (1 / 3, 0.1, 0.7)) for value, name in enumerate(names, start=1)]
    return LabelMap(array, LPS @ SHEARED, segments=segments)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "int16", "float32", "float64"])
def test_what_the_library_writes_is_read_to_the_last_digit(kind, compress, tmp_path, rng_voxels):
    write_volume(Volume(rng_voxels.astype(kind), LPS @ SHEARED), tmp_path / "x.nrrd", compress=compress)
    image = read_nrrd(tmp_path / "x.nrrd")
    assert np.array_equal(image.array, rng_voxels.astype(kind))
    assert image.array.dtype == kind
    assert np.allclose(image.ijk_to_ras, SHEARED, rtol=1e-14, atol=1e-12)


@pytest.fixture
def rng_voxels():
    return np.random.default_rng(0).integers(0, 200, (4, 5, 6))


def test_what_is_written_here_is_read_back_bit_for_bit(tmp_path, rng_voxels):
    keys = {"name": "Großhirn 脑", "path": "C:\\new\\n", "lines": "one\ntwo"}
    write_nrrd(NrrdImage(rng_voxels.astype(np.int16), SHEARED, keys), tmp_path / "x.nrrd")
    image = read_nrrd(tmp_path / "x.nrrd")
    assert np.array_equal(image.ijk_to_ras, SHEARED)
    assert image.keys == keys


def test_big_endian_voxels_are_turned_round_on_both_ways(tmp_path, rng_voxels):
    write_nrrd(NrrdImage(rng_voxels.astype(">i2"), SHEARED), tmp_path / "x.nrrd")
    assert np.array_equal(read_volume(tmp_path / "x.nrrd").array, rng_voxels)
    content = (tmp_path / "x.nrrd").read_bytes()
    header, _, _ = content.partition(b"\n\n")
    swapped = header.replace(b"endian: little", b"endian: big") + b"\n\n" + rng_voxels.astype(">i2").tobytes()
    (tmp_path / "big.nrrd").write_bytes(swapped)
    assert np.array_equal(read_nrrd(tmp_path / "big.nrrd").array, rng_voxels)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "scrambled", "two axes"])
def test_a_damaged_result_is_refused_by_name(damage, tmp_path):
    path = tmp_path / "x_seg.seg.nrrd"
    write_labels(labels_with(["Liver"], (20, 20, 20)), path)
    content = path.read_bytes()
    broken = {
        "empty": b"",
        "text": b"hello\n",
        "cut": content[:-40],
        "scrambled": content[:-60] + bytes(60),
        "two axes": content.replace(b"dimension: 3", b"dimension: 2").replace(
            b"sizes: 20 20 20", b"sizes: 20 400"
        ),
    }
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(broken[damage])
    with pytest.raises(ResultError, match=r"x_seg.seg.nrrd"):
        read_result(path)


def test_an_image_is_no_segmentation(tmp_path):
    write_volume(Volume(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "x.nrrd")
    with pytest.raises(ResultError, match="holds no segmentation"):
        read_result(tmp_path / "x.nrrd")


def test_a_confidence_on_another_grid_is_refused(tmp_path):
    write_labels(labels_with(["Liver"]), tmp_path / "x.seg.nrrd")
    write_volume(Volume(np.zeros((3, 4, 6), np.float32), np.eye(4)), tmp_path / "c.nrrd")
    with pytest.raises(ResultError, match="not on the grid"):
        read_result(tmp_path / "x.seg.nrrd", tmp_path / "c.nrrd")


def test_strange_names_survive_the_way_back(tmp_path):
    names = ["a|b", "x:=y", "two\nlines", "C:\\n", "脾"]
    write_labels(labels_with(names), tmp_path / "x.seg.nrrd")
    assert [s.name for s in read_result(tmp_path / "x.seg.nrrd").segments] == names


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, rng_voxels):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("SSLFewShotSlicer.bridge.nrrd.np.ascontiguousarray", full)
    with pytest.raises(OutputError, match="no space left"):
        write_nrrd(NrrdImage(rng_voxels.astype(np.int16), SHEARED), tmp_path / "x.nrrd")
    assert list(tmp_path.iterdir()) == []


def test_a_volume_is_written_in_a_thread_while_its_node_is_deleted(tmp_path):
    import slicer

    array = np.random.default_rng(0).integers(-1000, 1000, (60, 80, 90)).astype(np.int16)
    node = add_volume(array)
    source = take_volume(node)
    thread = threading.Thread(target=source.write, args=(tmp_path / "x.nrrd",))
    thread.start()
    slicer.mrmlScene.RemoveNode(node)
    del node
    thread.join()
    assert np.array_equal(read_nrrd(tmp_path / "x.nrrd").array, array)


def test_files_have_neutral_names_and_messages_the_nodes(tmp_path):
    with JobFolder(tmp_path) as folder:
        first = folder.file("target", "DOE^JOHN ct")
        for number in range(2, 12):
            last = folder.file("target", f"scan {number}")
        marks = folder.file("labels", "organs", ".seg.nrrd")
        assert (first.name, last.name, marks.name) == ("target_1.nrrd", "target_11.nrrd", "labels_1.seg.nrrd")
        assert folder.result(first, "seg", ".seg.nrrd") == folder.results / "target_1_seg.seg.nrrd"
        assert folder.explain(f"{first}: 3 voxels are NaN") == "DOE^JOHN ct: 3 voxels are NaN"
        assert folder.explain("left out: target_11.nrrd, labels_1.seg.nrrd") == "left out: scan 11, organs"


def test_the_folder_is_gone_when_the_job_ends_however_it_ends(tmp_path):
    with pytest.raises(RuntimeError), JobFolder(tmp_path) as folder:
        folder.results.mkdir()
        (folder.results / "x").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    folder.close()


def test_a_folder_that_nobody_holds_any_more_is_gone_too(tmp_path):
    JobFolder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_session_left_is_removed_by_the_next_and_what_a_living_one_uses_is_not(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead = tmp_path / f"sslfewshot-job-{int(done.stdout)}-abc"
    dead.mkdir()
    (dead / "scan.nrrd").write_text("x")
    with JobFolder(tmp_path) as living, JobFolder(tmp_path) as other:
        assert not dead.exists()
        assert living.path.exists()
        assert other.path.exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="no folder for temporary files"):
        JobFolder(tmp_path / "file")
