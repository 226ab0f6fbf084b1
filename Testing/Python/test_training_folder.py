"""What is noted of trainings: whether they run, how far they are, and what goes with them."""

import itertools
import os
import platform
import subprocess
import sys
import time

import pytest
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.worker import pretraining
from SSLFewShotLib.worker.detached import identity, start_detached
from SSLFewShotLib.worker.pretraining import HANDLERS
from SSLFewShotLib.worker.training_folder import TrainingFolder, default_jobs_folder
from SSLFewShotLib.worker.training_process import Status, StopWatch, thinned
from trainings import asked, gone, noted
from waiting import until

pytestmark = pytest.mark.usefixtures("jobs")


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
    until(lambda: identity(pid) is None)
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
