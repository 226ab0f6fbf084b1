"""A folder of scans on a Dask cluster of two processes on this machine."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command_line import QUICK, files_in, sslfewshot
from folder_jobs import SETTINGS, a_job, report_in, results, write_scans
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.segmentation.job import run
from SSLFewShotLib.worker import cluster as cluster_module
from SSLFewShotLib.worker.cluster import run_on_cluster
from waiting import until

distributed = pytest.importorskip("distributed")

COUNT = 6
SLOW = {**SETTINGS, "spacing": 6.0}
"""A scan takes seconds, so that something can happen meanwhile."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Not to be changed."""
    return write_scans(tmp_path_factory.mktemp("scans"), COUNT)


@pytest.fixture(scope="module")
def cluster():
    """Two workers in processes of their own; a lost one is replaced."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as started:
        yield started


def pids(cluster) -> dict[str, int]:
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        return client.run(os.getpid)


@pytest.mark.slow
def test_the_results_are_those_of_this_machine_alone_and_both_workers_share_them(scans, cluster, tmp_path):
    report = run_on_cluster(a_job(scans, tmp_path / "cluster"), cluster.scheduler_address)
    alone = run(a_job(scans, tmp_path / "alone"))
    assert results(tmp_path / "cluster") == results(tmp_path / "alone")
    assert files_in(tmp_path / "cluster") == files_in(tmp_path / "alone")
    assert [entry["image"] for entry in report["targets"]] == [entry["image"] for entry in alone["targets"]]
    assert report["fingerprint"] == alone["fingerprint"]
    assert report["summary"]["done"] == COUNT
    assert report["summary"]["segments"] == alone["summary"]["segments"]
    assert report == report_in(tmp_path / "cluster")


@pytest.mark.slow
def test_a_worker_fits_once_and_keeps_it_for_the_next_job(scans, cluster, tmp_path):
    run_on_cluster(a_job(scans, tmp_path / "one"), cluster.scheduler_address)
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        before = client.run(kept_segmenters)
        run_on_cluster(a_job(scans, tmp_path / "two"), cluster.scheduler_address)
        assert client.run(kept_segmenters) == before
    assert len(before) == 2 and all(1 <= len(kept) <= 2 for kept in before.values())
    assert results(tmp_path / "one") == results(tmp_path / "two")


def kept_segmenters() -> list[int]:
    from SSLFewShotLib.worker.cluster_task import _kept

    return [id(fitted.segmenter) for fitted in _kept.values()]


@pytest.mark.slow
def test_a_job_begun_here_is_gone_on_with_on_a_cluster(scans, cluster, tmp_path):
    output = tmp_path / "out"

    def cancel(fraction, message):
        if (output / "report.json").exists():
            raise Cancelled

    with pytest.raises(Cancelled):
        run(a_job(scans, output), cancel)
    report = run_on_cluster(a_job(scans, output, resume=True), cluster.scheduler_address)
    assert report["summary"]["taken_over"] == 1 and report["summary"]["done"] == COUNT - 1
    again = run_on_cluster(a_job(scans, output, resume=True), "tcp://127.0.0.1:1")
    assert again["summary"]["taken_over"] == COUNT, "nothing is left that would need the cluster"


@pytest.mark.slow
def test_a_scan_that_cannot_be_used_is_named_and_does_not_stop_the_rest(scans, cluster, tmp_path):
    folder = shutil.copytree(scans / "all", tmp_path / "all")
    (folder / "pt_2_ct.nrrd").write_bytes(b"NRRD0004\n")
    with pytest.warns(InputWarning, match=r"left out: .*pt_2_ct\.nrrd"):
        report = run_on_cluster(a_job(scans, tmp_path / "out", targets=[folder]), cluster.scheduler_address)
    assert "error" in report["targets"][1] and report["summary"]["done"] == COUNT - 1


@pytest.mark.slow
def test_the_scans_of_a_lost_worker_are_done_by_another(scans, cluster, tmp_path):
    processes = list(pids(cluster).values())
    killed = threading.Event()

    def kill_one(fraction, message):
        if fraction > 0.05 and not killed.is_set():
            killed.set()
            os.kill(processes[0], signal.SIGKILL)

    report = run_on_cluster(a_job(scans, tmp_path / "out", settings=SLOW), cluster.scheduler_address, kill_one)
    assert killed.is_set() and processes[0] not in pids(cluster).values()
    assert report["summary"]["done"] == COUNT
    run(a_job(scans, tmp_path / "alone", settings=SLOW))
    assert results(tmp_path / "out") == results(tmp_path / "alone")


@pytest.mark.slow
def test_cancelling_stops_the_workers_within_seconds_and_keeps_what_is_done(scans, cluster, tmp_path):
    output = tmp_path / "out"
    began = [0.0]

    def cancel(fraction, message):
        if (output / "report.json").exists():
            began[0] = time.monotonic()
            raise Cancelled

    with pytest.raises(Cancelled):
        run_on_cluster(a_job(scans, output, settings=SLOW), cluster.scheduler_address, cancel)
    assert time.monotonic() - began[0] < 5
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        until(lambda: not any(client.processing().values()) and not any(client.run(tasks_at_work).values()))
    assert 1 <= len(report_in(output)["targets"]) < COUNT
    assert len(results(output)) < 2 * COUNT, "nobody went on"
    assert not any(".writing" in name for name in files_in(output))


def tasks_at_work(dask_worker) -> int:
    """How many a worker is busy with, those included that nobody wants any more."""
    return len(dask_worker.state.executing)


@pytest.mark.slow
def test_progress_goes_up_to_all(scans, cluster, tmp_path):
    reports = []
    run_on_cluster(
        a_job(scans, tmp_path / "out"), cluster.scheduler_address, lambda *report: reports.append(report)
    )
    fractions = [fraction for fraction, _ in reports]
    assert fractions[0] == 0.0 and reports[-1] == (1.0, f"segmented {COUNT} of {COUNT} scans")
    assert all(0 <= fraction <= 1 for fraction in fractions)


@pytest.mark.slow
def test_workers_that_would_compute_something_else_fail_the_scans_and_say_why(
    scans, cluster, tmp_path, monkeypatch
):
    from SSLFewShotLib.segmentation import fingerprint

    plain = fingerprint.installed_versions
    monkeypatch.setattr(fingerprint, "installed_versions", lambda: {**plain(), "torch": "1.0"})
    with (
        pytest.warns(InputWarning),
        pytest.raises(InputError, match=r"would not give the same results: versions\.torch was 1\.0 and is"),
    ):
        run_on_cluster(a_job(scans, tmp_path / "out"), cluster.scheduler_address)
    assert results(tmp_path / "out") == {}


@pytest.mark.slow
def test_workers_of_another_version_are_named(scans, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "__version__", "99.0")
    with pytest.raises(InputError, match=r"its worker tcp://\S+ has sslfewshot [\d.]+\w*, this is 99\.0"):
        run_on_cluster(a_job(scans, tmp_path / "out"), cluster.scheduler_address)


@pytest.mark.slow
def test_workers_that_do_not_see_the_output_are_named(scans, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module.os.path, "exists", os.path.isfile)  # a folder is no file
    with pytest.raises(InputError, match=r"its worker tcp://\S+ does not see .*out; give files and an output on"):
        run_on_cluster(a_job(scans, tmp_path / "out"), cluster.scheduler_address)
    assert files_in(tmp_path / "out") == []


@pytest.mark.slow
def test_the_command_hands_a_folder_to_a_cluster(scans, cluster, tmp_path):
    outcome = sslfewshot(
        "segment", scans / "all", "--support", scans / "support_ct.nrrd", scans / "support.seg.nrrd",
        "--output", tmp_path / "out", "--cluster", cluster.scheduler_address, *QUICK, "--device", "cpu",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1].startswith(f"{COUNT} scans: {COUNT} done, 0 failed")


@pytest.mark.slow
def test_a_scheduler_that_goes_away_ends_the_job_with_what_to_do(scans, tmp_path):
    script = (
        "import sys, time, distributed\n"
        "if __name__ == '__main__':\n"
        "    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None,\n"
        "                                       host='127.0.0.1')\n"
        "    print(cluster.scheduler_address, flush=True)\n"
        "    time.sleep(600)\n"
    )
    (tmp_path / "cluster.py").write_text(script)
    process = subprocess.Popen([sys.executable, tmp_path / "cluster.py"], stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()

        def kill(fraction, message):
            if (tmp_path / "out" / "report.json").exists():
                process.kill()

        with pytest.raises(InputError, match=r"the Dask scheduler has gone; .*resume the job"):
            run_on_cluster(a_job(scans, tmp_path / "out", settings=SLOW), address, kill)
    finally:
        process.kill()
        process.wait()
    assert len(results(tmp_path / "out")) >= 2


def test_an_address_where_no_scheduler_answers_is_told_in_one_line(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1.0)
    with pytest.raises(
        InputError, match=r"tcp://127\.0\.0\.1:1: no Dask scheduler answers there .*`dask scheduler`"
    ):
        run_on_cluster(a_job(scans, tmp_path / "out", method="box", model=None, settings={}), "tcp://127.0.0.1:1")
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize("address", ["nonsense://host", "host:port", ""])
def test_an_address_that_is_none_is_told_in_one_line(address, scans, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1.0)
    with pytest.raises(InputError, match="no Dask scheduler answers there"):
        run_on_cluster(a_job(scans, tmp_path / "out", method="box", model=None, settings={}), address)


def test_connecting_can_be_cancelled_at_once(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 30.0)
    looked = []

    def cancel(fraction, message):
        if "looking for" in message:
            looked.append(time.monotonic())
        if len(looked) > 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_on_cluster(
            a_job(scans, tmp_path / "out", method="box", model=None, settings={}), "tcp://127.0.0.1:1", cancel
        )
    assert time.monotonic() - looked[-1] < 1


def test_without_distributed_it_is_said_what_to_install(scans, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        InputError, match=r"needs the package 'distributed'; install it with .*sslfewshot\[cluster\]"
    ):
        run_on_cluster(a_job(scans, tmp_path / "out", method="box", model=None, settings={}), "tcp://127.0.0.1:1")


def test_what_is_wrong_with_the_job_is_told_before_a_cluster_is_asked_for(scans, tmp_path):
    with pytest.raises(InputError, match="no model of this name"):
        run_on_cluster(a_job(scans, tmp_path / "out", model="nothing"), "tcp://127.0.0.1:1")
