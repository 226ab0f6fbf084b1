"""The worker ends when it is no longer wanted, and its folder goes with it."""

import contextlib
import signal
import time
from pathlib import Path

import pytest
from SSLFewShotLib.errors import OutputError
from SSLFewShotLib.worker import protocol
from SSLFewShotLib.worker.own_folder import OwnFolder, remove_leftovers
from worker_process import WorkerProcess, code_of


@pytest.fixture
def worker(tmp_path):
    with WorkerProcess(tmp_path / "temporary") as process:
        yield process


def test_shutdown_cancels_what_runs_answers_and_ends_with_its_folder_removed(worker, tmp_path):
    folder = Path(worker.ask("folder")["result"])
    assert folder.is_dir()
    running, waiting = worker.send("count", seconds=60), worker.send("count", seconds=60)
    worker.running(running)
    last = worker.send("shutdown")
    began = time.monotonic()
    assert worker.ended() == 0 and time.monotonic() - began < 2.0
    answers = {m["id"]: m for m in worker.messages if "method" not in m}
    assert code_of(answers[running]) == code_of(answers[waiting]) == protocol.REQUEST_CANCELLED
    assert answers[last]["result"] is None
    assert not folder.exists()


@pytest.mark.parametrize("how", ["end of input", "signal", "nobody reads"])
def test_it_ends_when_it_is_no_longer_wanted(worker, how):
    folder = Path(worker.ask("folder")["result"])
    running = worker.send("count", seconds=60)
    worker.running(running)
    if how == "end of input":
        worker.process.stdin.close()
    elif how == "signal":
        worker.process.send_signal(signal.SIGTERM)
    else:
        worker.close_output()
    began = time.monotonic()
    worker.process.wait(10)
    assert time.monotonic() - began < 2.0
    assert not folder.exists()


def test_a_computation_that_does_not_hear_is_ended_after_a_short_grace(worker):
    folder = Path(worker.ask("folder")["result"])
    worker.send("deaf", seconds=60)
    worker.until(lambda message: message.get("params", {}).get("message") == "deaf")
    worker.process.stdin.close()
    began = time.monotonic()
    worker.process.wait(10)
    assert 1.0 < time.monotonic() - began < 4.0
    assert not folder.exists()


def test_ctrl_c_is_left_to_the_client(worker):
    id = worker.send("count", seconds=0.5)
    worker.running(id)
    worker.process.send_signal(signal.SIGINT)
    assert "result" in worker.answer(id)
    assert "result" in worker.ask("count", seconds=0)


def test_a_folder_that_a_killed_worker_left_goes_with_the_next_start_and_others_stay(tmp_path):
    temporary = tmp_path / "temporary"
    with WorkerProcess(temporary) as killed, WorkerProcess(temporary) as alive:
        left, kept = (Path(worker.ask("folder")["result"]) for worker in (killed, alive))
        killed.process.kill()
        killed.process.wait()
        assert left.is_dir()
        (left / "carried").mkdir()
        (left / "carried" / "scan.nrrd").write_text("voxels")
        (temporary / "sslfewshot-worker-notes.txt").write_text("a user's file")
        with WorkerProcess(temporary) as third:
            third.ask("count", seconds=0)
            assert not left.exists() and kept.is_dir()
            assert (temporary / "sslfewshot-worker-notes.txt").exists()
            assert "result" in alive.ask("count", seconds=0)


def test_a_link_is_not_taken_for_a_leftover(tmp_path):
    kept = tmp_path / "precious"
    kept.mkdir()
    (kept / "in-use").touch()
    link = tmp_path / "sslfewshot-worker-1-x"
    with contextlib.suppress(OSError):
        link.symlink_to(kept)
    own = OwnFolder(tmp_path)
    assert own.path.is_dir()
    assert remove_leftovers(tmp_path) == 0
    assert kept.is_dir() and own.path.is_dir()
    own.remove()
    own.remove()
    assert not own.path.exists()


def test_a_folder_that_cannot_be_made_is_told_with_what_to_do_and_tried_again(tmp_path):
    own = OwnFolder(tmp_path / "full")
    with pytest.raises(OutputError, match=r"full: no temporary folder could be made .* set TMPDIR"):
        _ = own.path
    (tmp_path / "full").mkdir()
    assert own.path.is_dir()
    own.remove()
