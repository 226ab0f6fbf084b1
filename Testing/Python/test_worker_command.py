"""`sslfewshot worker`, and `--worker`: the same job, done by a worker, is the same to its user."""

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from command_line import BOX, QUICK, Outcome, files_in, finished, sslfewshot, started, write_patients
from SSLFewShotLib.worker import process_tree
from SSLFewShotLib.worker.client import WorkerClient
from waiting import is_alive, until

WORKER = shlex.join([sys.executable, "-u", "-m", "SSLFewShotLib", "worker"])
TOY = Path(__file__).with_name("toy_worker.py")
VOLATILE = ("seconds", "support_seconds", "date", "modified_ns")
"""What differs from run to run; a scan that was carried has another time of change, and the same checksum."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """pt_0 to pt_2 with labels, under names with spaces, quotes and other letters; not to be changed."""
    return write_patients(tmp_path_factory.mktemp("Größe 'a' \"b\" 你好"))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def steady(value):
    """A report without what differs from run to run."""
    if isinstance(value, dict):
        return {key: steady(entry) for key, entry in value.items() if key not in VOLATILE}
    return [steady(entry) for entry in value] if isinstance(value, list) else value


def workers_of(pid: int) -> list[int]:
    return [p.pid for p in process_tree.processes().values() if p.parent == pid and not p.ended]


# The worker as a command


def test_the_command_worker_serves_on_standard_input_and_output(tmp_path):
    client = WorkerClient(shlex.split(WORKER))
    try:
        info = client.start()
        assert info["protocol"] == 1 and info["pid"] == client.pid and info["shares_disk"] is True
        assert {"segment", "support/set", "models/list", "shutdown"} <= set(info["methods"])
    finally:
        client.close()
    assert not is_alive(info["pid"])


def test_the_worker_greets_first_says_nothing_but_messages_and_ends_with_its_input():
    process = subprocess.Popen(
        shlex.split(WORKER), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    line = process.stdout.readline()
    process.stdin.close()
    rest = process.stdout.read()
    process.stdout.close()
    process.wait(30)
    hello = json.loads(line.decode("ascii"))
    assert hello["method"] == "hello" and hello["params"]["pid"] == process.pid
    assert all(json.loads(text)["jsonrpc"] == "2.0" for text in rest.splitlines())


# The same results


def segmented_here_and_by(worker: str, scans: Path, support: tuple, folder: Path, *how: str) -> Outcome:
    """Two scans by the plain command and by a worker, which come to the same; returns the worker's outcome."""
    targets = scans / "pt_1_ct.nrrd", scans / "pt_2_ct.nrrd"
    arguments = ("segment", *targets, *support, *how, "--json", "--output")
    plain = sslfewshot(*arguments, folder / "plain")
    remote = sslfewshot(*arguments, folder / "remote", "--worker", worker)
    assert plain.code == remote.code == 0, remote.err
    assert steady(remote.result) == steady(plain.result)
    names = files_in(folder / "plain")
    assert files_in(folder / "remote") == names and sum(name.endswith(".nii.gz") for name in names) == 4
    for name in names:
        if name.endswith(".nii.gz"):
            assert (folder / "remote" / name).read_bytes() == (folder / "plain" / name).read_bytes()
    return remote


def test_scans_segmented_by_a_worker_are_those_of_the_plain_command(scans, support, tmp_path):
    assert "starting the worker" in segmented_here_and_by(WORKER, scans, support, tmp_path, *QUICK).err


def test_the_same_is_said_of_a_scan_that_cannot_be_used(scans, support, tmp_path):
    damaged = tmp_path / "damaged.nrrd"
    damaged.write_bytes(b"NRRD0004\n")
    targets = scans / "pt_1_ct.nrrd", damaged
    outcomes = [
        sslfewshot("segment", *targets, *support, "--output", tmp_path / name, *BOX, *worker)
        for name, worker in (("plain", ()), ("remote", ("--worker", WORKER)))
    ]
    assert [outcome.code for outcome in outcomes] == [2, 2]
    for outcome in outcomes:
        assert "sslfewshot: warning: left out: " in outcome.err and "damaged.nrrd" in outcome.out
    said = [[line for line in outcome.err.splitlines() if line.startswith("sslfewshot: ")] for outcome in outcomes]
    assert said[0] == said[1]


@pytest.mark.parametrize("wrong", [("--model", "no-such-model"), ("--method", "guess")])
def test_wrong_input_is_refused_with_the_same_exit_code(scans, support, tmp_path, wrong):
    arguments = ("segment", scans / "pt_1_ct.nrrd", *support, "--output", tmp_path / "out", *wrong)
    plain, remote = sslfewshot(*arguments), sslfewshot(*arguments, "--worker", WORKER)
    assert plain.error and remote.error
    if wrong[0] != "--method":
        assert remote.error == plain.error
    assert files_in(tmp_path) == []


def test_an_output_that_exists_is_not_overwritten_by_a_worker(scans, support, tmp_path):
    (tmp_path / "pt_1_ct_seg.nii.gz").touch()
    arguments = ("segment", scans / "pt_1_ct.nrrd", *support, "--output", tmp_path, *BOX, "--worker", WORKER)
    assert "overwrite it" in sslfewshot(*arguments).error
    assert files_in(tmp_path) == ["pt_1_ct_seg.nii.gz"]


def test_a_relative_path_means_the_folder_of_the_command(scans, tmp_path, monkeypatch):
    monkeypatch.chdir(scans)
    outcome = sslfewshot(
        "segment", "pt_1_ct.nrrd", "--support", "pt_0_ct.nrrd", "pt_0.seg.nrrd", "--output",
        os.path.relpath(tmp_path / "out"), *BOX, "--worker", f"env -C / {WORKER}",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "pt_1_ct_seg.nii.gz" in files_in(tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.slow
def test_an_evaluation_by_a_worker_gives_the_same_report(scans, tmp_path):
    outcomes = [
        sslfewshot(
            "evaluate", scans, "--supports", "pt_0", "--methods", "box", "--repeats", "1",
            "--output", tmp_path / name, *worker,
        )
        for name, worker in (("plain", ()), ("remote", ("--worker", WORKER)))
    ]  # fmt: skip
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes[1].err
    assert files_in(tmp_path / "plain") == files_in(tmp_path / "remote")
    tables = [[line for line in o.out.splitlines() if line.startswith("|") and "box" in line] for o in outcomes]
    assert tables[0] and len(tables[0]) == len(tables[1])


# A worker elsewhere: it sees none of the files here


@pytest.fixture(scope="module")
def elsewhere() -> str:
    """The command of a worker that finds no file of the client's; what it is to read must be carried to it."""
    code = """
        from SSLFewShotLib.worker import server, session_methods
        session_methods._holds = lambda probe: False
        server.main([])
    """
    return shlex.join([sys.executable, "-u", "-c", textwrap.dedent(code)])


def test_a_worker_that_shares_no_disk_gets_the_scans_and_gives_the_results(scans, support, tmp_path, elsewhere):
    segmented_here_and_by(elsewhere, scans, support, tmp_path, *BOX)


def test_an_evaluation_is_refused_by_a_worker_that_shares_no_disk(scans, tmp_path, elsewhere):
    outcome = sslfewshot(
        "evaluate", scans, "--supports", "pt_0", "--output", tmp_path / "out", "--worker", elsewhere
    )
    assert "does not see the files here" in outcome.error


# Its failures


def test_a_worker_that_cannot_be_started_is_said_with_its_command(scans, support, tmp_path):
    outcome = sslfewshot(
        "segment", scans / "pt_1_ct.nrrd", *support, "--output", tmp_path / "out", "--worker", "no-such-program x"
    )
    assert outcome.code == 1 and outcome.out == ""
    assert "sslfewshot: failed: WorkerLost: " in outcome.err and "no-such-program" in outcome.err


@pytest.mark.parametrize("command", ["", "'unbalanced"])
def test_a_command_that_is_none_is_refused(scans, support, tmp_path, command):
    outcome = sslfewshot(
        "segment", scans / "pt_1_ct.nrrd", *support, "--output", tmp_path / "out", f"--worker={command or ' '}"
    )
    assert "--worker" in outcome.error


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
class TestEndings:
    @pytest.fixture
    def running(self, scans, support, tmp_path):
        """The command in the midst of a job of several scans by a worker, of which one is finished."""
        targets = [tmp_path / f"{number:02d}.nrrd" for number in range(20)]
        for target in targets:
            target.symlink_to(scans / "pt_2_ct.nrrd")
        process = started(
            "segment", *targets, *support, "--output", tmp_path / "out", *QUICK, "--worker", WORKER,
            start_new_session=True,
        )  # fmt: skip
        until(lambda: "00_seg.nii.gz" in files_in(tmp_path / "out"), 60)
        assert process.poll() is None
        yield process, workers_of(process.pid)
        process.kill()
        process.wait()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_ctrl_c_cancels_keeps_what_is_finished_and_leaves_no_process(self, running, tmp_path, number):
        process, workers = running
        begun = time.monotonic()
        process.send_signal(number)
        outcome = finished(process)
        assert time.monotonic() - begun < 6
        assert outcome.code == 130 and outcome.err.splitlines()[-1] == "sslfewshot: cancelled"
        assert workers and not any(is_alive(pid) for pid in workers)
        names = files_in(tmp_path / "out")
        kept = [name.split("_")[0] for name in names if name.endswith("_seg.nii.gz")]
        assert kept == [f"{number:02d}" for number in range(len(kept))] and 1 <= len(kept) < 20
        both = {f"{stem}_{what}.nii.gz" for stem in kept for what in ("seg", "confidence")}
        assert both <= set(names) <= {*both, "report.json", "summary.csv"}

    def test_a_worker_that_is_killed_fails_the_command_with_what_to_do(self, running):
        process, workers = running
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        outcome = finished(process)
        assert outcome.code == 1 and "WorkerLost: the worker was killed (SIGKILL" in outcome.err
        assert "try again" in outcome.err

    def test_a_command_that_is_killed_leaves_no_worker(self, running):
        process, workers = running
        process.kill()
        process.wait()
        until(lambda: not any(is_alive(pid) for pid in workers), 10)

    def test_ctrl_c_before_the_worker_is_ready_ends_at_once(self, scans, support, tmp_path):
        silent = shlex.join([sys.executable, str(TOY), "silent"])
        process = started(
            "segment", scans / "pt_1_ct.nrrd", *support, "--output", tmp_path / "out", "--worker", silent
        )
        until(lambda: workers_of(process.pid))
        process.send_signal(signal.SIGINT)
        assert finished(process).code == 130 and files_in(tmp_path / "out") == []
