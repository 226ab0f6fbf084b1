"""A worker that shares no disk: results, reports and errors are those of a run on this machine."""

import json
import os
import shlex
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import files_in, write_patient
from elsewhere import in_another_view, ssh_server
from remote_place import Place, pair, place, posix_only
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.imaging.files import read_labels, read_volume
from SSLFewShotLib.segmentation.job import SegmentationJob
from SSLFewShotLib.segmentation.job import run as run_here
from SSLFewShotLib.worker import protocol
from SSLFewShotLib.worker.carried_jobs import carried
from SSLFewShotLib.worker.client import WorkerError, WorkerLost

pytestmark = posix_only
__all__ = ["place"]

QUICK = {"model": "gvdiff", "format": "nrrd", "settings": {"spacing": 16.0}}
SLOW = {**QUICK, "settings": {"spacing": 3.0}}
"""So many points that an answer cannot come before what is done about a report of progress."""


def alike(one: Path, other: Path) -> None:
    """Two output folders hold the same results; reports differ in times only."""
    assert files_in(one) == files_in(other)
    for name in files_in(one):
        if name.endswith(("_seg.nrrd", "_confidence.nrrd")):
            first, second = read_volume(one / name), read_volume(other / name)
            assert np.array_equal(first.array, second.array) and first.same_grid(second)
        if name.endswith("_seg.nrrd"):
            assert read_labels(one / name).segments == read_labels(other / name).segments
    reports = [json.loads((folder / "report.json").read_text()) for folder in (one, other)]
    for report in reports:
        report["made_by"]["date"] = report["support_seconds"] = None
        for entry in [*report["targets"], *report.get("summary", {}).get("rows", []), report.get("summary", {})]:
            entry.pop("seconds", None)
        for entry in report["targets"]:
            entry.get("scan", {}).pop("modified_ns", None)
            entry.get("scan", {}).pop("sha256", None)
    assert reports[0] == reports[1]


def test_a_scan_is_segmented_elsewhere_as_here(place, tmp_path):
    place.asked.clear()
    assert place.client.start()["shares_disk"] is False and place.jobs.needed
    fractions = []
    answer = place.jobs.run(
        "segment",
        {**QUICK, "supports": [pair(place.here)], "targets": [str(place.here / "pt_1_ct.nrrd")],
         "output": str(tmp_path / "there")},
        lambda fraction, message, remaining: fractions.append((fraction, message)),
    )  # fmt: skip
    support = (place.here / "pt_0_ct.nrrd", place.here / "pt_0.seg.nrrd")
    run_here(SegmentationJob([place.here / "pt_1_ct.nrrd"], [support], tmp_path / "here", **QUICK))
    alike(tmp_path / "there", tmp_path / "here")
    assert answer["targets"][0]["image"] == "pt_1_ct.nrrd" and answer["warm"] == {"support": False, "model": False}
    assert [f for f, _ in fractions] == sorted(f for f, _ in fractions) and fractions[-1][0] == 1
    folder = place.client.info["folder"]
    assert folder not in (tmp_path / "there" / "report.json").read_text() + json.dumps(answer)
    assert not any(folder in message for _, message in fractions)
    asked = next(params for method, params in place.asked if method == "segment")
    named = [*asked["supports"][0].values(), *asked["targets"], asked["output"]]
    assert len(named) == 4 and all(path.startswith(folder) for path in named), "only its own folder is used there"


def test_a_support_is_carried_once_and_stays_warm(place, tmp_path):
    set_first = place.jobs.run("support/set", {"supports": [pair(place.here)]})
    place.sent()
    again = place.jobs.run("support/set", {"supports": [pair(place.here)]})
    assert again["support"] == set_first["support"] and place.sent() == 0
    for number, seed in enumerate((1, 2)):
        answer = place.jobs.run(
            "segment",
            {**QUICK, "support": again["support"], "targets": [str(place.here / f"pt_{seed}_ct.nrrd")],
             "output": str(tmp_path / str(seed))},
        )  # fmt: skip
        assert place.sent() > 0 and answer["warm"]["support"] is True
        assert number == 0 or answer["warm"]["model"] is True


def test_nothing_but_supports_stays_in_the_workers_folder(place, tmp_path):
    params = {**QUICK, "supports": [pair(place.here)], "targets": [str(place.here / "pt_2_ct.nrrd")]}
    place.asked.clear()
    place.jobs.run("segment", {**params, "output": str(tmp_path / "out")})
    segment = next(params for method, params in place.asked if method == "segment")
    for gone in (segment["targets"][0], segment["output"] + "/report.json"):
        with pytest.raises(WorkerError, match="not there any more"):
            place.client.request("files/get", {"path": gone, "offset": 0, "length": 10}).result()
    kept = segment["supports"][0]["image"]
    assert place.client.request("files/get", {"path": kept, "offset": 0, "length": 10}).result()["size"] > 0


def test_a_folder_of_scans_is_gone_on_with_where_it_was_interrupted(place, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    for seed in (1, 2):
        write_patient(scans, seed, labelled=False)
    (scans / "broken_ct.nrrd").write_bytes(b"NRRD0004\nno scan")
    params = {**QUICK, "supports": [pair(place.here)], "targets": [str(scans)], "output": str(tmp_path / "there")}
    whole = place.jobs.run("segment/batch", params)
    assert (whole["summary"]["done"], whole["summary"]["failed"]) == (2, 1)
    broken = next(entry for entry in whole["targets"] if "error" in entry)
    assert broken["error"].startswith(str(scans / "broken_ct.nrrd")), "named as it is called here"
    assert str(scans / "broken_ct.nrrd") in (tmp_path / "there" / "summary.csv").read_text()
    support = (place.here / "pt_0_ct.nrrd", place.here / "pt_0.seg.nrrd")
    with pytest.warns(UserWarning, match="left out"):
        run_here(SegmentationJob([scans], [support], tmp_path / "here", **QUICK))
    alike(tmp_path / "there", tmp_path / "here")
    (tmp_path / "there" / "pt_2_ct_seg.nrrd").unlink()
    before = (tmp_path / "there" / "pt_1_ct_seg.nrrd").read_bytes()
    resumed = place.jobs.run("segment/batch", {**params, "resume": True})
    assert (resumed["summary"]["done"], resumed["summary"]["taken_over"]) == (1, 1)
    assert (tmp_path / "there" / "pt_1_ct_seg.nrrd").read_bytes() == before
    assert files_in(tmp_path / "there") == files_in(tmp_path / "here")


def test_names_that_cannot_travel_come_back_as_they_were(place, tmp_path):
    scan = tmp_path / "pt:7 \u202eÜ肺_ct.nrrd"
    scan.write_bytes((place.here / "pt_1_ct.nrrd").read_bytes())
    out = tmp_path / "out"
    answer = place.jobs.run(
        "segment", {**QUICK, "supports": [pair(place.here)], "targets": [str(scan)], "output": str(out)}
    )
    stem = scan.name[: -len(".nrrd")]
    assert files_in(out) == sorted([f"{stem}_seg.nrrd", f"{stem}_confidence.nrrd", "report.json"])
    assert answer["targets"][0]["image"] == scan.name
    assert json.loads((out / "report.json").read_text())["targets"][0]["segmentation"] == f"{stem}_seg.nrrd"


def test_outputs_that_exist_are_refused_before_anything_is_sent(place, tmp_path):
    (tmp_path / "report.json").write_text("{}")
    params = {**QUICK, "supports": [pair(place.here)], "targets": [str(place.here / "pt_1_ct.nrrd")]}
    place.asked.clear()
    with pytest.raises(InputError, match=r"report.json: the output exists already"):
        place.jobs.run("segment", {**params, "output": str(tmp_path)})
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a folder was expected"):
        place.jobs.run("segment", {**params, "output": str(tmp_path / "file")})
    assert place.asked == []
    assert carried(place.client, "segment", {**params, "overwrite": True}, tmp_path)["targets"]


def test_a_damaged_scan_is_named_as_it_is_called_here(place, tmp_path):
    (tmp_path / "bad_ct.nrrd").write_bytes(b"NRRD0004\nno scan")
    params = {**QUICK, "supports": [pair(place.here)], "targets": [str(tmp_path / "bad_ct.nrrd")]}
    with pytest.raises(WorkerError) as caught:
        place.jobs.run("segment", {**params, "output": str(tmp_path / "out")})
    assert caught.value.code == protocol.WRONG_INPUT
    assert caught.value.message.startswith(str(tmp_path / "bad_ct.nrrd")) == str(caught.value).startswith(
        str(tmp_path)
    )
    assert place.client.info["folder"] not in str(caught.value)
    assert files_in(tmp_path / "out") == []


def test_a_cancel_ends_it_and_leaves_nothing_here(place, tmp_path):
    params = {"supports": [pair(place.here)], "targets": [str(place.here / "pt_2_ct.nrrd")]}
    output = str(tmp_path / "out")
    for while_sending in (True, False):

        def cancel(fraction, message, remaining, while_sending=while_sending):
            if message.startswith("sending") == while_sending:
                raise Cancelled

        with pytest.raises(Cancelled):
            place.jobs.run("segment", {**SLOW, **params, "output": output}, cancel)
        assert files_in(tmp_path / "out") == []
    assert place.jobs.run("segment", {**QUICK, **params, "output": output})["targets"][0]["volumes_ml"]


def test_a_worker_that_was_killed_gets_the_support_carried_again(place, tmp_path):
    name = place.jobs.run("support/set", {"supports": [pair(place.here)]})["support"]
    params = {**QUICK, "support": name, "targets": [str(place.here / "pt_1_ct.nrrd")]}
    os.kill(place.client.pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while place.client.running and time.monotonic() < until:
        place.client.drain(0.05)
    place.sent()
    answer = place.jobs.run("segment", {**params, "output": str(tmp_path / "out")})
    assert answer["warm"] == {"support": True, "model": False} and place.sent() > 0
    assert "pt_1_ct_seg.nrrd" in files_in(tmp_path / "out")


def test_a_worker_that_dies_while_it_computes_is_said_to_be_lost_and_leaves_nothing_here(place, tmp_path):
    params = {"supports": [pair(place.here)], "targets": [str(place.here / "pt_1_ct.nrrd")]}
    params["output"] = str(tmp_path / "out")

    def kill(fraction, message, remaining):
        if not message.startswith("sending"):
            os.kill(place.client.pid, signal.SIGKILL)

    with pytest.raises(WorkerLost, match="during segment"):
        place.jobs.run("segment", {**SLOW, **params}, kill)
    assert files_in(tmp_path / "out") == []
    assert place.jobs.run("segment", {**QUICK, **params})["targets"][0]["volumes_ml"]


def test_the_log_of_the_worker_names_no_scan(place, tmp_path):
    scan = tmp_path / "Mustermann_Erika.nrrd"
    scan.write_bytes((place.here / "pt_1_ct.nrrd").read_bytes())
    (tmp_path / "bad_Mustermann.nrrd").write_bytes(b"NRRD0004\nno scan")
    for target in (scan, tmp_path / "bad_Mustermann.nrrd"):
        try:
            params = {**QUICK, "supports": [pair(place.here)], "targets": [str(target)]}
            place.jobs.run("segment", {**params, "output": str(tmp_path / target.stem)})
        except WorkerError as error:
            assert "Mustermann" in str(error), "the user is told, the log is not"
    place.client.drain(0.2)
    assert "Mustermann" not in "\n".join(place.log)


@pytest.mark.slow
def test_a_worker_behind_ssh_is_the_same_worker(tmp_path):
    here, server = tmp_path / "client", tmp_path / "server"
    (here / "temporary").mkdir(parents=True)
    server.mkdir(mode=0o700)
    for seed in (0, 1):
        write_patient(here, seed)
    with ssh_server(server) as login, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(here / "temporary"))
        place = Place([*login, shlex.join(in_another_view(here))], here)
        try:
            assert place.client.start()["shares_disk"] is False
            name = place.jobs.run("support/set", {"supports": [pair(here)]})["support"]
            params = {**QUICK, "support": name, "targets": [str(here / "pt_1_ct.nrrd")]}
            place.jobs.run("segment", {**params, "output": str(tmp_path / "there")})
            support = (here / "pt_0_ct.nrrd", here / "pt_0.seg.nrrd")
            run_here(SegmentationJob([here / "pt_1_ct.nrrd"], [support], tmp_path / "here", **QUICK))
            alike(tmp_path / "there", tmp_path / "here")
            pid = place.client.pid
        finally:
            place.client.close()
        until = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert not Path(f"/proc/{pid}").exists(), "it ends with the connection"
