"""A folder of scans that was interrupted is gone on with: what is there is taken over where it still holds."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import QUICK, files_in, finished, sslfewshot, started, write_patient
from folder_jobs import SETTINGS, a_job, computed, report_in, results, write_scans
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.segmentation.fingerprint import support_content
from SSLFewShotLib.segmentation.job import run
from SSLFewShotLib.segmentation.support_files import read_support
from waiting import until

COUNT = 4


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Not to be changed."""
    return write_scans(tmp_path_factory.mktemp("scans"), COUNT)


@pytest.fixture(scope="module")
def undisturbed(scans, tmp_path_factory) -> Path:
    """What the job comes to when nothing interrupts it; not to be changed."""
    output = tmp_path_factory.mktemp("undisturbed")
    run(a_job(scans, output))
    return output


@pytest.fixture
def finished_job(undisturbed, tmp_path) -> Path:
    return shutil.copytree(undisturbed, tmp_path / "out", copy_function=shutil.copy2)


def without_times(report: dict) -> dict:
    """A report without what differs between any two runs."""
    report = {key: value for key, value in report.items() if key not in ("made_by", "support_seconds", "summary")}
    return {**report, "targets": [{**entry, "seconds": 0} for entry in report["targets"]]}


def cancel_after(scans_done: int, output: Path):
    """A progress that cancels once so many scans have been entered into the report."""

    def progress(fraction, message):
        if (output / "report.json").exists() and len(report_in(output)["targets"]) >= scans_done:
            raise Cancelled

    return progress


# Interrupted and gone on with


@pytest.mark.slow
def test_a_folder_that_was_killed_half_way_and_resumed_is_byte_for_byte_the_undisturbed_one(scans, tmp_path):
    def arguments(output: Path) -> tuple:
        support = ("--support", scans / "support_ct.nrrd", scans / "support.seg.nrrd")
        return "segment", scans / "all", *support, "--output", output, *QUICK, "--device", "cpu"

    assert sslfewshot(*arguments(tmp_path / "undisturbed")).code == 0
    output = tmp_path / "out"
    process = started(*arguments(output))
    until(lambda: process.poll() is not None or len(results(output)) >= COUNT, 60)
    process.kill()
    assert finished(process).code != 0, "it was killed on its way"
    assert 0 < len(results(output)) < 2 * COUNT
    outcome = finished(started(*arguments(output), "--resume", "--json"))
    assert outcome.code == 0, outcome.err
    assert outcome.result["summary"]["taken_over"] >= 1
    assert outcome.result["summary"]["done"] + outcome.result["summary"]["taken_over"] == COUNT
    assert results(output) == results(tmp_path / "undisturbed")
    assert without_times(report_in(output)) == without_times(report_in(tmp_path / "undisturbed"))
    assert not any(".writing" in name for name in files_in(output))


@pytest.mark.parametrize("done", [1, 3])
def test_a_cancelled_folder_that_is_resumed_computes_only_what_is_left(
    done, scans, undisturbed, tmp_path, monkeypatch
):
    output = tmp_path / "out"
    with pytest.raises(Cancelled):
        run(a_job(scans, output), cancel_after(done, output))
    read = computed(monkeypatch)
    report = run(a_job(scans, output, resume=True))
    assert read == [f"pt_{number}_ct" for number in range(done + 1, COUNT + 1)]
    assert report["summary"]["taken_over"] == done and report["summary"]["done"] == COUNT - done
    assert results(output) == results(undisturbed)
    assert without_times(report) == without_times(report_in(undisturbed))


def test_results_are_the_same_bytes_whenever_they_are_written(scans, tmp_path):
    def written(name: str) -> dict[Path, bytes]:
        for form in ("nii.gz", "nrrd", "seg.nrrd"):
            run(a_job(scans, tmp_path / name / form, targets=[scans / "all" / "pt_1_ct.nrrd"], format=form))
        paths = list((tmp_path / name).rglob("pt_1*"))
        return {path.relative_to(tmp_path / name): path.read_bytes() for path in paths}

    first, second = written("one"), int(time.time())
    until(lambda: int(time.time()) > second)  # gzip could note the second
    assert written("other") == first and len(first) == 6


def test_a_finished_folder_that_is_resumed_computes_nothing(scans, finished_job, monkeypatch):
    before = results(finished_job)
    read, reports = computed(monkeypatch), []
    report = run(a_job(scans, finished_job, resume=True), lambda *said: reports.append(said))
    assert read == [] and results(finished_job) == before
    assert report["summary"]["taken_over"] == COUNT and report["summary"]["done"] == 0
    assert reports[-1] == (1.0, f"segmented {COUNT} of {COUNT} scans, {COUNT} of them taken over")
    assert [row["status"] for row in report["summary"]["rows"]] == ["taken over"] * COUNT


def test_resuming_where_nothing_was_done_yet_does_it_all(scans, undisturbed, tmp_path):
    report = run(a_job(scans, tmp_path / "out", resume=True))
    assert report["summary"]["done"] == COUNT
    assert results(tmp_path / "out") == results(undisturbed)


def test_a_scan_that_failed_is_tried_again(scans, tmp_path, monkeypatch):
    folder = shutil.copytree(scans / "all", tmp_path / "all")
    whole = (folder / "pt_2_ct.nrrd").read_bytes()
    (folder / "pt_2_ct.nrrd").write_bytes(whole[:2000])
    with pytest.warns(InputWarning, match="left out"):
        run(a_job(scans, tmp_path / "out", targets=[folder]))
    (folder / "pt_2_ct.nrrd").write_bytes(whole)
    read = computed(monkeypatch)
    report = run(a_job(scans, tmp_path / "out", targets=[folder], resume=True))
    assert read == ["pt_2_ct"] and report["summary"]["failed"] == 0


def test_new_scans_in_the_folder_are_added_and_stand_in_the_folders_order(scans, tmp_path, monkeypatch):
    folder = shutil.copytree(scans / "all", tmp_path / "all")
    (folder / "pt_3_ct.nrrd").rename(tmp_path / "later.nrrd")
    run(a_job(scans, tmp_path / "out", targets=[folder]))
    (tmp_path / "later.nrrd").rename(folder / "pt_3_ct.nrrd")
    read = computed(monkeypatch)
    report = run(a_job(scans, tmp_path / "out", targets=[folder], resume=True))
    assert read == ["pt_3_ct"]
    assert [entry["image"] for entry in report["targets"]] == [f"pt_{n}_ct.nrrd" for n in range(1, COUNT + 1)]


# What is not taken over


@pytest.mark.parametrize("damage", ["removed", "cut short", "confidence removed"])
def test_a_result_that_is_not_whole_any_more_is_computed_again(
    damage, scans, finished_job, undisturbed, monkeypatch
):
    path = finished_job / ("pt_4_ct_confidence.nii.gz" if "confidence" in damage else "pt_4_ct_seg.nii.gz")
    content = path.read_bytes()
    path.unlink()
    if damage == "cut short":
        path.write_bytes(content[:-7])
    read = computed(monkeypatch)
    run(a_job(scans, finished_job, resume=True))
    assert read == ["pt_4_ct"] and results(finished_job) == results(undisturbed)


def test_a_scan_that_has_changed_is_computed_again_and_one_that_was_only_touched_is_not(
    scans, tmp_path, monkeypatch
):
    folder = shutil.copytree(scans / "all", tmp_path / "all")
    run(a_job(scans, tmp_path / "out", targets=[folder]))
    os.utime(folder / "pt_1_ct.nrrd", (1, 1))
    shutil.copy(scans / "all" / "pt_3_ct.nrrd", folder / "pt_2_ct.nrrd")
    read = computed(monkeypatch)
    run(a_job(scans, tmp_path / "out", targets=[folder], resume=True))
    assert read == ["pt_2_ct"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"settings": {**SETTINGS, "spacing": 20.0}}, "settings.spacing_mm was 30.0 and is 20.0"),
        ({"settings": {**SETTINGS, "k": 5}}, "settings.k was 21 and is 5"),
        ({"model": "mind"}, "the model was gvdiff and is mind"),
        ({"method": "box", "model": None, "settings": {}}, "method was knn and is box"),
        ({"segment_names": ["Liver"]}, "segments was Liver, Spleen, .* and is Liver"),
        ({"format": "nrrd"}, "format was nii.gz and is nrrd"),
    ],
)
def test_resuming_with_something_else_is_refused_and_the_difference_named(changes, reason, scans, finished_job):
    before = {path.name: path.read_bytes() for path in finished_job.iterdir()}
    with pytest.raises(InputError, match=rf"report\.json: cannot go on .*{reason}.*overwrite them"):
        run(a_job(scans, finished_job, resume=True, **changes))
    assert {path.name: path.read_bytes() for path in finished_job.iterdir()} == before


def test_resuming_with_another_support_is_refused_and_the_same_under_another_name_is_not(
    scans, finished_job, tmp_path, monkeypatch
):
    image, labels = write_patient(tmp_path, 5, "support")
    with pytest.raises(InputError, match="the support is not the same"):
        run(a_job(scans, finished_job, resume=True, supports=[(image, labels)]))
    shutil.copy(scans / "support_ct.nrrd", tmp_path / "renamed.nrrd")
    shutil.copy(scans / "support.seg.nrrd", tmp_path / "renamed.seg.nrrd")
    read = computed(monkeypatch)
    run(
        a_job(
            scans, finished_job, resume=True, supports=[(tmp_path / "renamed.nrrd", tmp_path / "renamed.seg.nrrd")]
        )
    )
    assert read == []


def test_resuming_with_another_version_is_refused(scans, finished_job):
    text = (finished_job / "report.json").read_text(encoding="utf-8")
    report = json.loads(text)
    report["fingerprint"]["versions"]["numpy"] = "0.1"
    (finished_job / "report.json").write_text(json.dumps(report), encoding="utf-8")
    with pytest.raises(InputError, match=r"versions\.numpy was 0\.1 and is \d"):
        run(a_job(scans, finished_job, resume=True))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"targets": 3}', '{"targets": [1]}', '{"targets": []}'])
def test_a_report_that_cannot_be_gone_on_from_is_refused_unless_all_may_be_replaced(
    content, scans, tmp_path, monkeypatch
):
    output = tmp_path / "out"
    output.mkdir()
    (output / "report.json").write_text(content)
    targets = [scans / "all" / f"pt_{n}_ct.nrrd" for n in (1, 2)]
    with pytest.raises(InputError, match=r"report\.json: .*overwrite (it|them)"):
        run(a_job(scans, output, targets=targets, resume=True))
    assert (output / "report.json").read_text() == content
    report = run(a_job(scans, output, targets=targets, resume=True, overwrite=True))
    assert report["summary"]["done"] == 2


def test_files_of_unknown_origin_are_not_replaced_by_resuming(scans, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "pt_2_ct_seg.nii.gz").write_text("precious")
    with pytest.raises(InputError, match=r"pt_2_ct_seg\.nii\.gz: the output exists already"):
        run(a_job(scans, output, resume=True))
    assert files_in(output) == ["pt_2_ct_seg.nii.gz"]


def test_an_entry_cannot_name_files_outside_the_folder(scans, finished_job, tmp_path, monkeypatch):
    shutil.copy(finished_job / "pt_1_ct_seg.nii.gz", tmp_path / "pt_1_ct_seg.nii.gz")
    report = report_in(finished_job)
    report["targets"][0]["segmentation"] = "../pt_1_ct_seg.nii.gz"
    (finished_job / "report.json").write_text(json.dumps(report), encoding="utf-8")
    read = computed(monkeypatch)
    run(a_job(scans, finished_job, resume=True))
    assert read == ["pt_1_ct"]


# Summary


def test_what_a_killed_process_had_begun_to_write_is_cleared_away_and_what_is_being_written_is_not(
    scans, finished_job
):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid, age in ((gone.pid, 100), (os.getpid(), 100), (gone.pid + 0, -100)):
        folder = finished_job / f".writing-{pid}-{age}"
        folder.mkdir()
        os.utime(folder, (time.time() - age, time.time() - age))
    run(a_job(scans, finished_job, resume=True))
    left = [name for name in files_in(finished_job) if name.startswith(".writing")]
    assert left == sorted([f".writing-{os.getpid()}-100", f".writing-{gone.pid}--100"])


def test_the_content_of_a_support_is_told_by_its_voxels_places_and_segments(scans):
    pair = (scans / "support_ct.nrrd", scans / "support.seg.nrrd")
    one, again = read_support([pair]), read_support([pair])
    liver = read_support([pair], ["Liver"])
    moved = read_support([pair])
    for volume in moved.pairs[0]:
        volume.ijkToLps[0, 3] += 1
    brighter = read_support([pair])
    brighter.pairs[0][0].array = brighter.pairs[0][0].array + 1
    contents = [support_content(support) for support in (one, again, liver, moved, brighter)]
    assert contents[0] == contents[1] and len(set(contents)) == 4
