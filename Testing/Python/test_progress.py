"""Progress: what cannot report itself is watched, and every long step on a scan can be cancelled within itself."""

import functools
import gzip
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name it goes by
from SSLFewShotLib.descriptors.gvdiff import GreyValueDifferences
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.files import read_labels, read_volume, write_labels, write_volume
from SSLFewShotLib.imaging.itk_images import image_of
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.progress import ignore_progress, portion, renamed, watched
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import Preparation
from SSLFewShotLib.segmentation.lattice import Lattice


class Reports:
    """A progress callable that notes what it is told, and cancels when it is told for the `stop_at`-th time."""

    def __init__(self, stop_at: float = float("inf")):
        self.told: list[tuple[float, str]] = []
        self.stop_at = stop_at

    def __call__(self, fraction: float, message: str) -> None:
        self.told.append((fraction, message))
        if len(self.told) >= self.stop_at:
            raise Cancelled


@pytest.fixture(scope="module")
def torso() -> Volume:
    return phantom(0, "CT", (40, 32, 36))[0]


def test_what_takes_long_is_reported_while_it_runs_and_its_result_comes_back():
    reports = Reports()
    assert watched(lambda: time.sleep(0.7) or 42, reports, 0.3, "thinking") == 42
    assert 3 <= len(reports.told) <= 5 and set(reports.told) == {(0.3, "thinking")}


def test_what_is_watched_is_left_to_itself_when_it_is_cancelled():
    ended = threading.Event()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        watched(lambda: time.sleep(1.5) or ended.set(), Reports(stop_at=2), 0.3, "thinking")
    assert time.monotonic() - began < 1 and not ended.is_set()
    assert ended.wait(5), "nothing else ends it"


def test_the_error_of_what_is_watched_is_raised_where_it_was_asked_for():
    def fails():
        raise InputError("no such scan")

    with pytest.raises(InputError, match="no such scan"):
        watched(fails, Reports(), 0.0, "reading")


def test_nothing_is_started_for_those_who_do_not_watch():
    here = threading.get_ident()
    assert watched(threading.get_ident, ignore_progress, 0.0, "") == here
    assert watched(threading.get_ident, portion(renamed(ignore_progress, "x"), 0.2, 0.4), 0.0, "") == here


def _prepared(volume: Volume, folder: Path, progress) -> None:
    Preparation(Extent("mm", 120.0), Intensity.for_modality("CT"), 1 / 24)(volume, progress)


def _on_a_lattice(volume: Volume, folder: Path, progress) -> None:
    Lattice(volume, GreyValueDifferences(Extent("mm", 120.0), Intensity.for_modality("CT")), 10.0, progress)


def test_the_scan_is_named_while_the_lattice_is_laid_over_it(tmp_path):
    volume, _ = phantom(0, size=(48, 40, 36))
    volume.name = "thorax"
    reports = Reports()
    _on_a_lattice(volume, tmp_path, reports)
    told = [message for _fraction, message in reports.told if " in " in message]
    assert told and all(message.endswith(" in thorax") for message in told), told


def _written(name: str):
    def write(volume: Volume, folder: Path, progress) -> None:
        write_volume(volume.with_array(volume.array.astype(np.float32)), folder / name, progress=progress)

    return write


STEPS = {
    "reading .nii.gz": lambda volume, folder, progress: read_volume(folder / "in.nii.gz", progress),
    "reading .nrrd": lambda volume, folder, progress: read_volume(folder / "in.nrrd", progress),
    "reading .mha": lambda volume, folder, progress: read_volume(folder / "in.mha", progress),
    "reading labels": lambda volume, folder, progress: read_labels(folder / "in.seg.nrrd", progress),
    "writing .nii.gz": _written("out.nii.gz"),
    "writing .nrrd": _written("out.nrrd"),
    "writing labels": lambda volume, folder, progress: write_labels(
        read_labels(folder / "in.seg.nrrd"), folder / "out.seg.nrrd", progress=progress
    ),
    "preparing": _prepared,
    "the lattice": _on_a_lattice,
}


@pytest.mark.parametrize("step", STEPS)
def test_every_step_on_a_scan_can_be_cancelled_at_each_of_its_reports_and_leaves_nothing(torso, tmp_path, step):
    for ending in ("nii.gz", "nrrd", "mha"):
        write_volume(torso, tmp_path / f"in.{ending}")
    write_labels(phantom(0, "CT", (40, 32, 36))[1], tmp_path / "in.seg.nrrd")
    run = functools.partial(STEPS[step], torso, tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    counting = Reports()
    run(counting)
    made = {path.name for path in tmp_path.iterdir()} - before
    for name in made:
        (tmp_path / name).unlink()
    assert counting.told and all(0 <= fraction <= 1 for fraction, _ in counting.told)
    for number in {1, 2, len(counting.told) // 2 or 1, len(counting.told) - 1 or 1}:
        with pytest.raises(Cancelled):
            run(Reports(stop_at=number))
        assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
def test_a_file_compressed_piece_by_piece_holds_what_itk_writes_and_is_the_same_every_time(
    torso, tmp_path, ending
):
    volume = torso.with_array(torso.array.astype(np.float32))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_volume(volume, tmp_path / name / f"x.{ending}")
        time.sleep(1.1)  # a time stamp in the file would be another one
    first = (tmp_path / "one" / f"x.{ending}").read_bytes()
    assert first == (tmp_path / "two" / f"x.{ending}").read_bytes()
    assert [path.name for path in (tmp_path / "one").iterdir()] == [f"x.{ending}"]
    sitk.WriteImage(image_of(volume), str(tmp_path / f"itk.{ending}"), True)
    theirs, ours = (
        (sitk.ReadImage(str(path))) for path in (tmp_path / f"itk.{ending}", tmp_path / "one" / f"x.{ending}")
    )
    assert np.array_equal(sitk.GetArrayViewFromImage(theirs), sitk.GetArrayViewFromImage(ours))
    assert theirs.GetDirection() == ours.GetDirection() and theirs.GetOrigin() == ours.GetOrigin()
    assert theirs.GetSpacing() == ours.GetSpacing() and theirs.GetPixelID() == ours.GetPixelID()
    if ending == "nii.gz":
        assert gzip.decompress(first) == gzip.decompress((tmp_path / "itk.nii.gz").read_bytes())


def test_a_scan_reports_no_warning_of_its_own_while_it_is_watched(torso, tmp_path):
    write_volume(torso, tmp_path / "x.nii.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_volume(tmp_path / "x.nii.gz", Reports()).same_grid(torso)
