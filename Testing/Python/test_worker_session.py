"""Client and worker together, on phantoms: cancelled at any time, killed, asked twice at once, and orphaned."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from command_line import files_in
from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.worker.client import WorkerClient, WorkerError, WorkerLost
from waiting import is_alive, until

COMMAND = [sys.executable, "-u", "-m", "SSLFewShotLib.worker"]
QUICK = {"model": "gvdiff", "settings": {"spacing": 16.0}}
SLOW = {"model": "gvdiff", "settings": {"spacing": 8.0}}
RESULTS = ["pt_1_ct_confidence.nii.gz", "pt_1_ct_seg.nii.gz", "report.json"]


@pytest.fixture(scope="module")
def client():
    """One worker for all tests that leave it as good as it was."""
    client = WorkerClient(COMMAND, environment={"OMP_NUM_THREADS": "1"})
    yield client
    client.close()


def job(scans: Path, output: Path, kind: dict, **more) -> dict:
    supports = [{"image": str(scans / "pt_0_ct.nrrd"), "labels": str(scans / "pt_0.seg.nrrd")}]
    params = {"targets": [str(scans / "pt_1_ct.nrrd")], "output": str(output), **kind, **more}
    return params if "support" in params else {"supports": supports, **params}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS if name.endswith(".nii.gz")}


@pytest.fixture(scope="module")
def undisturbed(client, scans, tmp_path_factory) -> dict[str, bytes]:
    """What a quick job gives when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert client.request("segment", job(scans, folder, QUICK)).result(60)["targets"][0]["segmentation"]
    assert files_in(folder) == RESULTS
    return contents(folder)


@pytest.mark.slow
def test_a_job_that_is_cancelled_at_any_time_ends_soon_leaves_nothing_and_its_worker_goes_on(
    client, scans, tmp_path, undisturbed
):
    begun = time.monotonic()
    client.request("segment", job(scans, tmp_path / "whole", SLOW)).result(60)
    whole, pid = time.monotonic() - begun, client.pid
    stages = set()
    for number in range(8):
        # Another seed each time: nothing of it is warm.
        kind = {**SLOW, "settings": {**SLOW["settings"], "seed": number + 1}}
        request = client.request("segment", job(scans, tmp_path / str(number), kind))
        time.sleep(whole * (number + 0.5) / 9)
        stages.add(request.message)
        asked = time.monotonic()
        request.cancel()
        error = request.exception(30)
        assert time.monotonic() - asked < 2.0, f"too long after: {request.message}"
        assert isinstance(error, Cancelled) or request.state == "done"
        assert files_in(tmp_path / str(number)) == (RESULTS if request.state == "done" else [])
    assert len(stages) >= 3, "the job was cancelled at few different places"
    assert client.pid == pid, "the worker had to be ended"
    client.request("segment", job(scans, tmp_path / "after", QUICK)).result(60)
    assert contents(tmp_path / "after") == undisturbed


def test_two_jobs_at_once_are_told_so_and_both_right(client, scans, tmp_path, undisturbed):
    messages = []
    first = client.request("segment", job(scans, tmp_path / "first", SLOW))
    second = client.request(
        "segment", job(scans, tmp_path / "second", QUICK), lambda *said: messages.append(said[1])
    )
    until(lambda: second.message)
    assert (first.state, second.state) == ("running", "waiting")
    assert client.request("models/list").result(10), "a light request was not answered meanwhile"
    assert not first.done()
    second.result(60)
    assert first.done() and messages[0].startswith("waiting for segment")
    assert contents(tmp_path / "second") == undisturbed


def test_a_worker_killed_in_the_midst_fails_that_job_and_does_the_next_ones(client, scans, tmp_path, undisturbed):
    support = job(scans, tmp_path, {})["supports"]
    name = client.request("support/set", {"supports": support}).result(60)["support"]
    doomed = client.request("segment", job(scans, tmp_path / "doomed", SLOW, support=name))
    queued = client.request("segment", job(scans, tmp_path / "queued", QUICK, support=name))
    until(lambda: doomed.fraction > 0.2 and queued.message)
    pid = client.pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerLost, match=r"killed \(SIGKILL.*try again"):
        doomed.result(30)
    assert queued.result(60)["warm"] == {"support": True, "model": False}
    assert client.pid != pid and files_in(tmp_path / "doomed") == []
    again = client.request("segment", job(scans, tmp_path / "again", QUICK, support=name)).result(60)
    assert again["warm"] == {"support": True, "model": True}
    assert contents(tmp_path / "queued") == contents(tmp_path / "again") == undisturbed


def test_a_second_scan_is_warm_and_an_unknown_support_is_refused(client, scans, tmp_path):
    client.request("segment", job(scans, tmp_path / "one", QUICK)).result(60)
    again = client.request("segment", job(scans, tmp_path / "two", QUICK)).result(60)
    assert again["warm"] == {"support": True, "model": True}
    with pytest.raises(WorkerError, match="set the support first"):
        client.request("segment", job(scans, tmp_path / "three", QUICK, support="0" * 64)).result(60)


def test_a_file_that_vanished_is_named_and_the_worker_goes_on(client, scans, tmp_path):
    pid = client.start()["pid"]
    with pytest.raises(WorkerError, match=r"gone\.nrrd"):
        client.request("segment", job(scans, tmp_path, QUICK, targets=[str(tmp_path / "gone.nrrd")])).result(60)
    with pytest.raises(WorkerError, match="targets"):
        client.request("segment", {"output": "x"}).result(60)
    assert client.request("models/list").result(10) and client.pid == pid


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_no_worker_is_left_of_twenty_applications_that_were_killed(scans, tmp_path):
    application = """
        import sys, time
        from SSLFewShotLib.worker.client import WorkerClient
        image, labels, target, output = sys.argv[1:]
        client = WorkerClient([sys.executable, "-u", "-m", "SSLFewShotLib.worker"])
        params = {"supports": [{"image": image, "labels": labels}], "targets": [target], "output": output}
        request = client.request("segment", {**params, "model": "gvdiff", "settings": {"spacing": 5.0}})
        while client.pid is None:
            time.sleep(0.01)
        print(client.pid, flush=True)
        request.result()
        time.sleep(60)
    """
    files = [str(scans / name) for name in ("pt_0_ct.nrrd", "pt_0.seg.nrrd", "pt_1_ct.nrrd")]
    workers = []
    for number in range(20):
        command = [sys.executable, "-c", textwrap.dedent(application), *files, str(tmp_path / str(number))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
        workers.append(int(process.stdout.readline()))
        assert is_alive(workers[-1])
        # From its first moments, when it loads torch, into its job.
        time.sleep(number * 0.3)
        process.kill()
        process.communicate()
    until(lambda: not any(is_alive(pid) for pid in workers), 10)
