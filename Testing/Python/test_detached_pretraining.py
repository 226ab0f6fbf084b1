"""Pretrainings that run by themselves: found, watched, stopped and gone on with by any later session."""

import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.phantoms import write_cohort
from SSLFewShotLib.models import ModelStore, load_model
from SSLFewShotLib.worker import pretraining, process_tree
from SSLFewShotLib.worker.client import WorkerClient
from SSLFewShotLib.worker.detached import identity, is_alive, start_detached
from SSLFewShotLib.worker.handler import checked
from SSLFewShotLib.worker.pretraining import HANDLERS
from SSLFewShotLib.worker.training_folder import TrainingFolder, all_trainings, default_jobs_folder
from SSLFewShotLib.worker.training_process import Status, StopWatch, thinned

LONG = 20_000
"""Iterations that no test waits for."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    write_cohort(folder, 3, labelled=0, size=(20, 16, 18))
    return folder


@pytest.fixture(autouse=True)
def jobs(tmp_path, monkeypatch):
    """A folder for trainings and a store of its own; whatever still runs at the end is ended."""
    monkeypatch.setenv("SSLFEWSHOT_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("SSLFEWSHOT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield tmp_path / "jobs"
    for folder in all_trainings(tmp_path / "jobs"):
        process = folder.read("process")
        if process and is_alive(process):
            process_tree.kill_tree(process["pid"], process["started"])


def asked(method: str, /, **params):
    """What a method of the worker answers."""
    handler = HANDLERS[f"pretrain/{method}"]
    return handler.run(checked(params, handler.params), None)


def start(scans: Path, output: Path, **params) -> str:
    given = {"iterations": 6, "method": "reg2d", "batch_size": 2, "extent_mm": 400.0, "device": "cpu", **params}
    return asked("start", folder=str(scans), output=str(output), **given)["job"]


def wait_for(job: str, condition, seconds: float = 120.0) -> dict:
    """The status once it fulfils a condition."""
    deadline = time.monotonic() + seconds
    while not condition(status := asked("status", job=job)):
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    return status


def ended(status: dict) -> bool:
    return status["state"] != "running"


def training(status: dict) -> bool:
    """Whether it has come to a few steps."""
    return ended(status) or len(status["rows"]) >= 2 or "iteration" in status["message"]


def noted(jobs: Path, name: str = "20260101-000000-model", **status) -> TrainingFolder:
    """A training that was noted without ever being started."""
    folder = TrainingFolder(jobs / name)
    folder.path.mkdir(parents=True)
    folder.write("settings", {"folder": "scans", "output": str(jobs.parent / "model"), "method": "reg2d"})
    folder.write("status", {"state": "running", "fraction": 0.5, "updated": time.time(), **status})
    return folder


def gone() -> dict:
    """The identity of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = identity(process.pid)
    process.communicate()
    return known


# From the start to the model


@pytest.mark.slow
def test_a_training_runs_by_itself_and_its_model_comes_into_the_store(scans, tmp_path, jobs):
    answer = asked(
        "start", folder=str(scans), output=str(tmp_path / "out-model"), method="reg2d", name="mine", iterations=6,
        batch_size=2, extent_mm=400.0, device="cpu", data_source="made here", data_licence="CC0-1.0",
    )  # fmt: skip
    job = answer["job"]
    assert Path(answer["folder"]).parent == jobs
    first = asked("status", job=job)
    assert first["state"] == "running" and first["job"] == job and first["name"] == "mine"
    running = wait_for(job, lambda status: status["pid"] is not None)
    process = process_tree.find(running["pid"])
    if process is not None and os.name != "nt":
        assert process.session == process.pid, "a session of its own"
        assert process.parent != os.getpid(), "nobody's child"
    status = wait_for(job, ended)
    assert status["state"] == "done", status
    assert status["fraction"] == 1.0 and status["model"] == "mine" and status["error"] is None
    assert [row["iteration"] for row in status["rows"]] == list(range(1, 7))
    assert status["elapsed"] > 0 and status["remaining"] is None
    card, _ = load_model(tmp_path / "out-model")
    stored = ModelStore().find("mine").card
    assert stored.name == "mine" and stored.weights == card.weights
    assert stored.training["data"][0]["licence"] == "CC0-1.0"
    assert not (tmp_path / "out-model.training").exists()
    log = (jobs / job / "log.txt").read_text()
    assert "begins" in log and "done" in log and "phantom_" not in log
    with pytest.raises(InputError, match="is finished; its model is mine"):
        asked("resume", job=job)
    assert asked("remove", job=job) == {"removed": job}
    assert asked("list") == [] and (tmp_path / "out-model" / "card.json").exists()


@pytest.mark.slow
def test_a_training_without_an_output_makes_its_model_in_the_store(scans, tmp_path):
    answer = asked(
        "start", folder=str(scans), method="reg2d", name="mine", iterations=3, batch_size=2, extent_mm=400.0,
        device="cpu",
    )  # fmt: skip
    status = wait_for(answer["job"], ended)
    assert status["state"] == "done", status
    assert status["model"] == "mine" and status["output"] == str(tmp_path / "models" / "mine")
    assert ModelStore().find("mine").card.name == "mine"
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["mine"]
    asked("remove", job=answer["job"])
    assert ModelStore().find("mine").card.name == "mine"


def test_a_training_needs_an_output_or_a_name_that_a_model_may_have(scans, monkeypatch):
    monkeypatch.setattr(pretraining, "start_detached", lambda *_: pytest.fail("it was started"))
    for name, reason in (
        (None, "a folder for the model or a name"),
        ("../elsewhere", "not a model name"),
        ("heatmap-head-neck-ct", "a bundled model has this name"),
    ):
        named = {} if name is None else {"name": name}
        with pytest.raises(InputError, match=reason):
            asked("start", folder=str(scans), method="reg2d", iterations=3, **named)
    assert asked("list") == []


@pytest.mark.slow
def test_a_stopped_training_that_is_resumed_makes_the_same_model_as_an_undisturbed_one(scans, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    jobs = [start(scans, output, iterations=60) for output in (whole, parts)]
    wait_for(jobs[1], training)
    told = asked("stop", job=jobs[1])
    assert told["state"] == "stopped" or told["message"] == "stopping"
    stopped = wait_for(jobs[1], ended)
    assert stopped["state"] == "stopped", stopped
    assert 0 < stopped["fraction"] < 1 and 0 < len(stopped["rows"]) < 60
    assert (tmp_path / "parts.training" / "checkpoint.pt").exists()
    assert asked("stop", job=jobs[1])["state"] == "stopped", "again is harmless"
    asked("resume", job=jobs[1])
    assert asked("status", job=jobs[1])["state"] == "running"
    with pytest.raises(InputError, match="is running already"):
        asked("resume", job=jobs[1])
    done = [wait_for(job, ended) for job in jobs]
    assert [status["state"] for status in done] == ["done", "done"], done
    assert [row["iteration"] for row in done[1]["rows"]] == list(range(1, 61))
    assert done[1]["elapsed"] > stopped["elapsed"]
    (_, one), (_, other) = load_model(whole), load_model(parts)
    assert one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_a_killed_training_shows_as_failed_with_its_last_words_and_can_be_resumed(scans, tmp_path, jobs):
    kill = signal.SIGKILL if os.name != "nt" else signal.SIGTERM
    job = start(scans, tmp_path / "model", iterations=LONG)
    os.kill(wait_for(job, training)["pid"], kill)
    failed = wait_for(job, ended)
    assert failed["state"] == "failed" and "process ended without a word" in failed["error"]
    assert "there is no checkpoint yet" in failed["error"] and f"process {failed['pid']} begins" in failed["error"]
    asked("resume", job=job)
    wait_for(job, training)
    asked("stop", job=job)
    stopped = wait_for(job, ended)
    asked("resume", job=job)
    again = wait_for(job, lambda status: status["pid"] not in (None, stopped["pid"]) and training(status))
    assert again["state"] == "running" and again["fraction"] >= stopped["fraction"] > 0, again
    os.kill(again["pid"], kill)
    assert "resume it to go on from its last checkpoint" in wait_for(job, ended)["error"]
    asked("resume", job=job)
    with pytest.raises(InputError, match="is running; stop it first"):
        asked("remove", job=job)
    asked("stop", job=job)
    assert wait_for(job, ended)["state"] == "stopped"
    asked("remove", job=job)
    assert not (tmp_path / "model.training").exists() and not (jobs / job).exists()


@pytest.mark.slow
def test_an_application_starts_a_training_through_its_worker_and_another_session_stops_it(scans, tmp_path):
    params = {"folder": str(scans), "output": str(tmp_path / "model"), "iterations": LONG, "method": "reg2d",
              "batch_size": 2, "extent_mm": 400.0, "device": "cpu"}  # fmt: skip
    command = [sys.executable, "-m", "SSLFewShotLib.worker"]
    first = WorkerClient(command)
    job = first.request("pretrain/start", params).result(60)["job"]
    wait_for(job, training)
    first.close()
    second = WorkerClient(command)
    try:
        (status,) = second.request("pretrain/list").result(60)
        assert (status["job"], status["state"]) == (job, "running")
        second.request("pretrain/stop", {"job": job}).result(60)
        assert wait_for(job, ended)["state"] == "stopped"
        assert second.request("pretrain/remove", {"job": job}).result(60) == {"removed": job}
    finally:
        second.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_sigterm_stops_a_training_with_a_checkpoint(scans, tmp_path):
    job = start(scans, tmp_path / "model", iterations=LONG)
    running = wait_for(job, training)
    os.kill(running["pid"], signal.SIGTERM)
    assert wait_for(job, ended)["state"] == "stopped"
    assert (tmp_path / "model.training" / "checkpoint.pt").exists()


STARTER = """
import json, sys
from SSLFewShotLib.worker.handler import checked
from SSLFewShotLib.worker.pretraining import HANDLERS
handler = HANDLERS["pretrain/start"]
print(handler.run(checked(json.loads(sys.argv[1]), handler.params), None)["job"], flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("keep_running", [True, False])
def test_when_the_session_ends_a_training_goes_on_or_pauses_as_chosen(scans, tmp_path, keep_running):
    params = {"folder": str(scans), "output": str(tmp_path / "model"), "iterations": LONG, "method": "reg2d",
              "batch_size": 2, "extent_mm": 400.0, "device": "cpu", "keep_running": keep_running}  # fmt: skip
    session = subprocess.Popen(
        [sys.executable, "-c", STARTER, json.dumps(params)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    job = session.stdout.readline().decode().strip()
    assert wait_for(job, training)["state"] == "running"
    # As the application ends its worker: the whole tree.
    process_tree.kill_tree(session.pid)
    session.communicate()
    if not keep_running:
        paused = wait_for(job, ended, 30.0)
        assert paused["state"] == "paused", paused
        assert (tmp_path / "model.training" / "checkpoint.pt").exists()
        return
    rows = len(asked("status", job=job)["rows"])
    time.sleep(3.0)
    later = wait_for(job, lambda status: ended(status) or len(status["rows"]) > rows)
    assert later["state"] == "running", later
    asked("stop", job=job)
    assert wait_for(job, ended)["state"] == "stopped"


@pytest.mark.slow
def test_what_goes_wrong_in_a_training_is_told_in_one_line(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "broken.nrrd").write_bytes(b"NRRD0004\n")
    job = start(folder, tmp_path / "model")
    failed = wait_for(job, ended)
    assert failed["state"] == "failed" and "none of the 1 scans can be read" in failed["error"]
    assert "\n" not in failed["error"]
    assert any("broken.nrrd" in text for text in failed["warnings"])
    assert "broken" not in (tmp_path / "jobs" / job / "log.txt").read_text()


@pytest.mark.slow
def test_the_status_is_written_at_least_every_two_seconds(scans, tmp_path, jobs):
    job = start(scans, tmp_path / "model", iterations=LONG)
    wait_for(job, lambda status: ended(status) or status["rows"])
    moments = set()
    deadline = time.monotonic() + 8.0
    while time.monotonic() < deadline:
        moments.add(TrainingFolder(jobs / job).read("status")["updated"])
        time.sleep(0.05)
    moments = sorted(moments)
    assert max(later - earlier for earlier, later in itertools.pairwise(moments)) < 2.0
    status = asked("status", job=job)
    assert status["rows"][-1]["loss"] >= 0 and status["elapsed"] > 0 and 0 < status["fraction"] < 1


# What is refused


def test_what_would_only_fail_after_a_while_is_refused_at_once(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "start_detached", lambda *_: pytest.fail("it was started"))
    output = tmp_path / "model"
    (tmp_path / "other.training").mkdir()
    for changes, reason in (
        ({"iterations": 5, "minutes": 1.0}, "either a number of iterations or a number of minutes"),
        ({"iterations": 0}, "above 0"),
        ({"method": "rotate"}, "'rotate' is not known; choose one of .*heatmap"),
        ({"learning_rate": -1.0}, "a rate above 0"),
        ({"extent_mm": -5.0}, "-5"),
        ({"name": "heatmap-head-neck-ct"}, "a bundled model has this name"),
        ({"name": "Not A Name"}, "not a model name"),
    ):
        with pytest.raises(InputError, match=reason):
            start(scans, output, **changes)
    with pytest.raises(InputError, match="a folder of scans was expected"):
        start(tmp_path / "nowhere", output)
    with pytest.raises(InputError, match="an unfinished pretraining is there"):
        start(scans, tmp_path / "other")
    assert asked("list") == []


def test_a_model_that_is_there_is_only_replaced_when_asked_to(scans, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(pretraining, "start_detached", lambda *given: started.append(given) or os.getpid())
    output = tmp_path / "model"
    output.mkdir()
    (output / "card.json").write_text("{}")
    with pytest.raises(InputError, match="there is a model already"):
        start(scans, output)
    start(scans, output, overwrite=True)
    assert len(started) == 1
    with pytest.raises(InputError, match=r"the training \S+ is making this model; stop it first"):
        start(scans, output, overwrite=True)


def test_a_name_in_the_store_is_only_taken_when_asked_to(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "start_detached", lambda *_: os.getpid())
    shutil.copytree(ModelStore().find("reg2d-head-neck-ct").folder, tmp_path / "models" / "mine")
    with pytest.raises(InputError, match="mine: there is a model of this name already"):
        start(scans, tmp_path / "one", name="mine")
    assert asked("list") == []
    start(scans, tmp_path / "two", name="mine", overwrite=True)


@pytest.mark.parametrize("job", ["nothing", "../jobs", "..", "", "a/b", "x" * 300])
def test_a_training_that_is_not_there_is_told_so_wherever_its_name_points(job, jobs):
    noted(jobs)
    for method in ("status", "stop", "resume", "remove"):
        with pytest.raises(InputError, match="no training of this name"):
            asked(method, job=job)
    assert len(asked("list")) == 1


def test_a_process_that_cannot_be_started_leaves_no_training(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(OSError, match="could not be started"):
        start(scans, tmp_path / "model")
    assert asked("list") == []


# Dead or alive


def test_a_training_counts_as_running_only_with_the_very_process(jobs):
    me = identity(os.getpid())
    folder = noted(jobs)
    folder.write("process", me)
    assert folder.status()["state"] == "running"
    for other in (
        gone(),
        {**me, "started": "1"},
        {**me, "boot": "another"},
        {"pid": me["pid"], "host": me["host"]},
    ):
        folder.write("process", other)
        assert folder.status()["state"] == "failed", other


def test_a_training_on_another_machine_counts_by_its_last_word(jobs):
    elsewhere = {**identity(os.getpid()), "host": platform.node() + "-2"}
    noted(jobs, "recent").write("process", elsewhere)
    noted(jobs, "long-ago", updated=time.time() - 3600).write("process", elsewhere)
    assert {status["job"]: status["state"] for status in asked("list")} == {
        "recent": "running",
        "long-ago": "failed",
    }


def test_the_end_of_a_training_that_comes_while_it_is_looked_for_is_no_failure(jobs, monkeypatch):
    folder = noted(jobs)
    folder.write("process", gone())
    plain = TrainingFolder.is_running

    def ending(self, status):
        self.write("status", {"state": "done", "fraction": 1.0})
        return plain(self, status)

    monkeypatch.setattr(TrainingFolder, "is_running", ending)
    assert folder.status()["state"] == "done"


def test_the_list_has_the_newest_first_and_no_curves(jobs):
    for name in ("20260102-a", "20260103-c", "20260101-b"):
        noted(jobs, name, state="stopped", rows=[{"iteration": 1, "loss": 1.0}])
    assert [status["job"] for status in asked("list")] == ["20260103-c", "20260102-a", "20260101-b"]
    assert all(status["rows"] == [] for status in asked("list"))
    assert asked("status", job="20260102-a")["rows"] == [{"iteration": 1, "loss": 1.0}]


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_status_is_told_and_does_not_hide_the_others(content, jobs):
    noted(jobs, "good", state="stopped")
    (noted(jobs, "bad").path / "status.json").write_text(content)
    told = {status["job"]: status for status in asked("list")}
    assert told["good"]["state"] == "stopped"
    assert told["bad"]["state"] == "failed" and "cannot be read" in told["bad"]["error"]
    asked("remove", job="bad")
    assert [status["job"] for status in asked("list")] == ["good"]


def test_removing_a_training_leaves_a_checkpoint_that_is_not_its_own(jobs):
    work = jobs.parent / "model.training"
    work.mkdir()
    (work / "checkpoint.pt").write_bytes(b"weeks of work")
    noted(jobs, "refused", state="failed", begun=False)
    asked("remove", job="refused")
    assert (work / "checkpoint.pt").exists()
    for name in ("earlier", "later"):
        noted(jobs, name, state="stopped", begun=True)
    asked("remove", job="earlier")
    assert (work / "checkpoint.pt").exists(), "another training goes on from it"
    asked("remove", job="later")
    assert not work.exists()


def test_two_sessions_cannot_start_the_same_training_at_once(jobs, monkeypatch):
    folder = noted(jobs, state="stopped")

    def meanwhile(*_):
        with pytest.raises(InputError, match="is being started by another session"):
            asked("resume", job=folder.job)
        return os.getpid()

    monkeypatch.setattr(pretraining, "start_detached", meanwhile)
    asked("resume", job=folder.job)
    assert folder.status()["state"] == "running"
    assert not (folder.path / "starting").exists()


def test_a_training_that_does_not_stop_is_ended_when_it_is_told_again_after_a_while(jobs):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        folder = noted(jobs)
        folder.write("process", identity(process.pid))
        assert asked("stop", job=folder.job)["message"] == "stopping"
        assert asked("stop", job=folder.job)["state"] == "running" and process.poll() is None
        long_ago = time.time() - 2 * pretraining.PATIENCE_SECONDS
        os.utime(folder.stop_file, (long_ago, long_ago))
        assert asked("stop", job=folder.job)["state"] == "failed"
        assert process.wait(timeout=5) != 0
    finally:
        process.kill()
        process.wait()


def test_a_detached_process_has_its_output_in_the_log_and_finds_the_library(tmp_path):
    log = tmp_path / "log.txt"
    pid = start_detached("SSLFewShotLib", ["--version"], log, tmp_path)
    deadline = time.monotonic() + 30
    while identity(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert log.read_text().startswith("sslfewshot ")


# Status and stopping, within the process


def test_rows_are_thinned_evenly_and_keep_the_last():
    rows = [{"iteration": number} for number in range(16_000)]
    few = thinned(rows, 400)
    assert len(few) == 400 and few[0] == rows[0] and few[-1] == rows[-1]
    steps = [later["iteration"] - earlier["iteration"] for earlier, later in itertools.pairwise(few)]
    assert max(steps) - min(steps) <= 1
    assert thinned(rows[:10], 400) == rows[:10]


def test_the_time_that_is_left_is_told_from_this_runs_pace_alone(jobs):
    folder = noted(jobs, elapsed=100.0, fraction=0.5)
    status = Status(folder)
    status.progress(0.5, "iteration 50")
    status._began -= 10.0
    status.progress(0.6, "iteration 60")
    status.write()
    told = folder.read("status")
    assert told["remaining"] == pytest.approx(40.0, rel=0.1) and told["elapsed"] == pytest.approx(110.0, abs=1.0)
    status.end(state="done")
    assert folder.read("status")["remaining"] is None


def test_a_watch_tells_who_stopped_it(jobs):
    from SSLFewShotLib.errors import Cancelled

    for prepare, owner, reason in (
        (lambda folder, watch: folder.stop_file.touch(), identity(os.getpid()), "stopped"),
        (lambda folder, watch: watch.on_signal(15, None), None, "stopped"),
        (lambda folder, watch: None, gone(), "paused"),
    ):
        folder = noted(jobs, f"job-{len(asked('list'))}")
        watch = StopWatch(folder, owner)
        prepare(folder, watch)
        with pytest.raises(Cancelled):
            watch.check()
        assert watch.reason == reason
    StopWatch(noted(jobs, "undisturbed"), identity(os.getpid())).check()


def test_every_method_that_an_application_polls_is_light():
    assert all(
        HANDLERS[f"pretrain/{name}"].light for name in ("list", "status", "stop", "start", "resume", "remove")
    )


def test_trainings_lie_in_the_folder_for_application_data(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLFEWSHOT_JOBS", str(tmp_path / "here"))
    assert default_jobs_folder() == tmp_path / "here"
    monkeypatch.delenv("SSLFEWSHOT_JOBS")
    if sys.platform.startswith("linux"):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        assert default_jobs_folder() == tmp_path / "data" / "sslfewshot" / "jobs"
