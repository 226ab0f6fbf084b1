"""The client of the worker: starting it, and asking it. The worker here is `toy_worker.py`."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import SSLFewShotLib
from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.worker import protocol, running_worker
from SSLFewShotLib.worker.client import WorkerError, WorkerLost
from toy_clients import loss_of, toy
from waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the toy worker is POSIX")


# Starting


def test_a_request_starts_the_worker_and_gets_its_answer(client):
    assert not client.running and client.pid is None and client.info is None
    request = client.request("echo", {"text": "Größe 你好 \"'"})
    assert request.result(20)["text"] == "Größe 你好 \"'"
    assert request.done() and request.state == "done" and request.exception() is None
    assert client.running and client.pid == request.result()["worker"] == client.info["pid"]


def test_start_returns_what_the_worker_says_of_itself_and_starts_one_only(client):
    info = client.start()
    assert info["protocol"] == 1 and info["client"] == "python"
    assert client.start() == info
    assert client.request("echo").result(20)["worker"] == info["pid"]


def test_the_worker_can_read_the_probe_which_is_removed(client, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert client.start()["shares_disk"] is True, "the toy says whether it found the probe with its content"
    assert not list(tmp_path.iterdir())


def test_the_environment_is_this_one_with_additions_in_a_session_of_its_own(connect, monkeypatch, tmp_path):
    monkeypatch.setenv("TAKEN_OVER", "yes")
    monkeypatch.setenv("LEFT_OUT", "yes")
    monkeypatch.setenv("PYTHONPATH", "/before")
    client = connect(environment={"ADDED": "é", "LEFT_OUT": None}, directory=tmp_path)
    seen = client.request("environment").result(20)
    assert (seen["TAKEN_OVER"], seen["ADDED"]) == ("yes", "é") and "LEFT_OUT" not in seen
    assert seen["PYTHONUTF8"] == seen["PYTHONUNBUFFERED"] == "1"
    library, before = seen["PYTHONPATH"].split(os.pathsep)
    assert (Path(library) / "SSLFewShotLib" / "worker").is_dir() and before == "/before"
    assert seen["directory"] == str(tmp_path.resolve())
    assert int(seen["session"]) != os.getsid(0)


def test_a_greeting_of_the_shell_before_the_first_message_goes_to_the_log(connect):
    lines = []
    client = connect(toy("banner"), on_log=lines.append)
    client.start()
    assert "Welcome to gpu.example.org!" in lines


def test_a_program_that_does_not_exist_is_named(connect):
    client = connect(["no-such-program-anywhere", "worker"])
    loss = loss_of(client.request("echo"))
    assert "could not be started" in loss.message and "no-such-program-anywhere" in loss.message
    assert "check that this command exists" in loss.message and loss.data["exit_code"] is None
    with pytest.raises(WorkerLost, match="no-such-program-anywhere"):
        client.start()


def test_a_worker_that_ends_at_once_is_lost_with_its_last_words_and_its_command(connect):
    client = connect(toy("exits", "3"))
    first, second = client.request("echo"), client.request("echo")
    loss = loss_of(first)
    assert "exit code 3" in loss.message and "libcuda.so.1 is missing" in loss.message
    assert "toy_worker.py exits 3" in loss.message and "terminal" in loss.message
    assert loss.data["exit_code"] == 3 and loss.data["log"] == ["libcuda.so.1 is missing"]
    loss_of(second)
    assert not client.running


def test_of_a_traceback_only_what_it_ends_with_is_said_and_a_missing_package_is_named(connect):
    lacking = [sys.executable, "-c", "import no_such_package.part"]
    with pytest.raises(WorkerLost, match="lacks the package no_such_package: install it there") as lost:
        connect(lacking).start()
    assert "last words: ModuleNotFoundError: No module named 'no_such_package'" in str(lost.value)
    assert 'File "' not in str(lost.value) and any('File "' in line for line in lost.value.data["log"])
    with pytest.raises(WorkerLost, match=r"last words: ValueError: of its own\); try the same command") as lost:
        connect([sys.executable, "-c", "raise ValueError('of its own')"]).start()
    assert 'File "' not in str(lost.value)


def test_what_a_shell_and_ssh_mean_by_their_exit_codes_is_said(connect):
    assert "check its name" in loss_of(connect(toy("exits", "127")).request("echo")).message
    assert "ssh" in loss_of(connect(toy("exits", "255")).request("echo")).message


@pytest.mark.parametrize(("behaviour", "timeout"), [("silent", 0.7), ("greets-only", 10.0)])
def test_a_worker_that_is_not_ready_in_time_is_ended(connect, monkeypatch, behaviour, timeout):
    monkeypatch.setattr(running_worker, "_TO_LOAD", 0.07)
    client = connect(toy(behaviour), start_timeout=timeout)
    assert "not ready within 0.7 s" in loss_of(client.request("echo")).message
    assert not client.running


def test_a_worker_of_another_protocol_is_refused(connect):
    client = connect(toy("obey", json.dumps({"protocol": 2})))
    with pytest.raises(WorkerLost, match=r"version 2 of the protocol.*install the same version"):
        client.start()
    assert not client.running


# Asking


def test_an_error_of_the_worker_is_raised_with_its_code_and_data(client):
    request = client.request("refuse")
    with pytest.raises(WorkerError, match=r"x\.nrrd: does not exist") as caught:
        request.result(20)
    assert (caught.value.code, caught.value.data) == (protocol.WRONG_INPUT, {"type": "InputError"})
    assert not isinstance(caught.value, WorkerLost) and request.state == "failed"
    with pytest.raises(WorkerError, match="no such method"):
        client.request("unheard-of").result(20)
    assert client.request("echo").result(20)["worker"] == client.pid


def test_callbacks_run_in_the_thread_that_drains_and_only_then(client):
    threads, reports, ended = set(), [], []

    def on_progress(fraction, message, remaining):
        threads.add(threading.current_thread())
        reports.append((fraction, message, remaining))

    request = client.request("steps", {"steps": 3, "seconds": 0.05}, on_progress)
    request.add_done_callback(lambda done: ended.append((done, threading.current_thread())))
    until(request.done)
    assert reports == [] and ended == [], "nobody has drained"
    assert client.drain() >= 2
    assert reports == [(2 / 3, "step 2", None)], "of several reports the last counts"
    assert ended == [(request, threading.current_thread())] and threads == {threading.current_thread()}
    assert (request.fraction, request.message, request.elapsed) == (2 / 3, "step 2", 2.0)
    assert client.drain() == 0


def test_a_callback_that_is_added_after_the_end_runs_too(client):
    request = client.request("echo")
    request.result(20)
    ended = []
    request.add_done_callback(ended.append)
    client.drain()
    assert ended == [request]


def test_drain_waits_for_the_first_callback_no_longer_than_it_is_told(client):
    client.start()
    started = time.monotonic()
    assert client.drain(timeout=0.2) == 0
    assert 0.15 < time.monotonic() - started < 2


def test_a_callback_may_ask_for_more_and_wait_for_it(client):
    answers = []
    first = client.request("echo", {"number": 1})
    first.add_done_callback(lambda _: answers.append(client.request("echo", {"number": 2}).result(20)["number"]))
    first.result(20)
    assert answers == [2]


def test_a_result_that_takes_too_long_raises_and_goes_on(client):
    request = client.request("steps", {"steps": 1, "seconds": 1.5})
    with pytest.raises(TimeoutError):
        request.result(timeout=0.2)
    assert not request.done()
    assert request.result(20)["steps"] == 1


def test_two_jobs_at_once_are_computed_one_after_the_other_and_told_so(client):
    messages = []
    first = client.request("steps", {"steps": 30, "seconds": 0.1})
    second = client.request("steps", {"steps": 1, "seconds": 0}, lambda *report: messages.append(report[1]))
    until(lambda: second.message)
    client.drain()
    assert (first.state, second.state) == ("running", "waiting")
    assert second.result(20) and first.done()
    assert messages[0] == "waiting for another job" and messages[-1] == "step 0"


def test_params_that_fit_no_message_are_refused_at_once(client):
    with pytest.raises(TypeError):
        client.request("echo", {"what": object()})
    with pytest.raises(protocol.ProtocolError, match="longer than"):
        client.request("echo", {"what": "x" * protocol.LONGEST_LINE})
    assert client.request("echo").result(20)


def test_a_line_of_many_megabytes_goes_both_ways(client):
    text = "ä" * 2_000_000
    assert client.request("echo", {"text": text}).result(60)["text"] == text


def test_rubbish_among_the_answers_does_no_harm(client):
    assert client.request("rubbish").result(20) == "still there"
    assert client.request("echo").result(20)


def test_the_log_has_what_the_worker_says_and_prints(connect):
    lines = []
    client = connect(on_log=lines.append)
    client.request("chatter", {"lines": 200}).result(20)
    until(lambda: client.drain() >= 0 and len(lines) == 201)
    assert "line 199" in lines and "warning: beware" in lines


def test_asking_a_worker_that_does_not_read_blocks_nobody(connect):
    client = connect(toy("deaf"))
    client.start()
    started = time.monotonic()
    requests = [client.request("echo", {"text": "x" * 1_000_000}) for _ in range(20)]
    assert time.monotonic() - started < 2
    requests[0].cancel()
    with pytest.raises(Cancelled):
        requests[0].result(20)


# Elsewhere


def test_the_client_loads_nothing_heavy_and_no_qt():
    code = "import SSLFewShotLib.worker.client, sys; print(*sys.modules)"
    loaded = (
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout.decode().split()
    )
    assert not {"numpy", "torch", "SimpleITK", "qt", "SSLFewShotLib.imaging"} & set(loaded)


def test_the_client_runs_in_the_oldest_python_that_an_application_has():
    """Slicer 5.6 has Python 3.9."""
    code = f"from SSLFewShotLib.worker.client import WorkerClient as C; c = C({toy()!r}); c.start(); c.close()"
    candidates = [shutil.which("python3.9"), *map(str, Path.home().glob(".pyenv/versions/3.9.*/bin/python"))]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
    works = [old for old in candidates if old and subprocess.run([old, "-c", ""], **quiet).returncode == 0]
    if not works:
        pytest.skip("no Python 3.9 here")
    path = str(Path(SSLFewShotLib.__file__).resolve().parents[1])
    done = subprocess.run(
        [works[0], "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
