"""Pretrainings that run by themselves: found, watched, stopped and gone on with by any later session."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import sslfewshot
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.phantoms import write_cohort
from SSLFewShotLib.models import ModelStore, load_model
from SSLFewShotLib.worker import process_tree
from SSLFewShotLib.worker.client import WorkerClient
from SSLFewShotLib.worker.training_folder import TrainingFolder
from trainings import LONG, asked, ended, start, wait_for

pytestmark = pytest.mark.usefixtures("jobs")


@pytest.fixture
def scans(three_small_scans) -> Path:
    return three_small_scans


def training(status: dict) -> bool:
    """Whether it has come to a few steps."""
    return ended(status) or len(status["rows"]) >= 2 or "iteration" in status["message"]


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


@pytest.mark.slow
def test_a_model_and_labelled_scans_are_gone_on_with_as_by_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLFEWSHOT_SUPERVOXELS", str(tmp_path / "supervoxels"))
    write_cohort(tmp_path / "scans", 3, labelled=2, size=(20, 16, 18))
    common = ("pretrain", tmp_path / "scans", "--method", "alpnet", "--iterations", 2, "--device", "cpu")
    shape = ("--features", 4, "--view-size", 8, 8, 9, "--supervoxel-mm3", 1e6, "--extent-mm", 1000)
    assert sslfewshot(*common, *shape, "--output", tmp_path / "first").code == 0
    more = ("--start", tmp_path / "first", "--labelled", "phantom_000,phantom_001", "--regions", 3)
    assert sslfewshot(*common, *more, "--output", tmp_path / "here").code == 0
    job = asked(
        "start", folder=str(tmp_path / "scans"), output=str(tmp_path / "there"), method="alpnet", iterations=2,
        device="cpu", start=str(tmp_path / "first"), labelled=["phantom_000", "phantom_001"],
        options={"regions": 3},
    )["job"]  # fmt: skip
    status = wait_for(job, ended)
    assert status["state"] == "done", status
    (here, ours), (there, theirs) = (load_model(tmp_path / name) for name in ("here", "there"))
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)
    assert here.training["settings"] == there.training["settings"]
    assert here.training["data"] == there.training["data"]
    said = there.training["settings"]
    assert said["options"] == {"regions": 3}, "what was given, not what the model to go on from brought"
    assert said["crop"] == [9, 8, 8] and said["start"] == "first"


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
    moments, looks = set(), [time.monotonic()]
    while looks[-1] < looks[0] + 8.0:
        moments.add(TrainingFolder(jobs / job).read("status")["updated"])
        time.sleep(0.05)
        looks.append(time.monotonic())
    # Where the machine holds up this process, it does so with the training.
    held_up = max(later - earlier for earlier, later in itertools.pairwise(looks))
    assert max(later - earlier for earlier, later in itertools.pairwise(sorted(moments))) < 2.0 + held_up
    status = asked("status", job=job)
    assert status["rows"][-1]["loss"] >= 0 and status["elapsed"] > 0 and 0 < status["fraction"] < 1
