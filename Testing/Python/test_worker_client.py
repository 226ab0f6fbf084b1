"""The client of the worker: starting, asking, cancelling and losing it. The worker here is `toy_worker.py`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
import SSLFewShotLib
from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.worker import process_tree, protocol, running_worker
from SSLFewShotLib.worker.client import WorkerClient, WorkerError, WorkerLost
from SSLFewShotLib.worker.exit_reason import explain_exit

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the toy worker is POSIX")

TOY = Path(__file__).with_name("toy_worker.py")


def toy(*behaviour: str) -> list[str]:
    return [sys.executable, "-u", str(TOY), *(behaviour or ("obey",))]


@pytest.fixture
def connect():
    """Make clients that are closed in the end; a toy that obeys unless another command is given."""
    made = []

    def make(command=None, **settings) -> WorkerClient:
        made.append(WorkerClient(command or toy(), **{"start_timeout": 20.0, "cancel_grace": 0.3, **settings}))
        return made[-1]

    yield make
    for client in made:
        client.close(timeout=0.2)


@pytest.fixture
def client(connect) -> WorkerClient:
    return connect()


def until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    found = process_tree.find(pid)
    return found is not None and not found.ended


def loss_of(request, timeout: float = 20.0) -> WorkerLost:
    with pytest.raises(WorkerLost) as caught:
        request.result(timeout)
    assert request.state == "failed" and caught.value.code == protocol.WORKER_LOST
    assert "\n" not in caught.value.message
    return caught.value


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
    request = client.request("steps", {"steps": 1, "seconds": 0.6})
    with pytest.raises(TimeoutError):
        request.result(timeout=0.2)
    assert not request.done()
    assert request.result(20)["steps"] == 1


def test_two_jobs_at_once_are_computed_one_after_the_other_and_told_so(client):
    messages = []
    first = client.request("steps", {"steps": 4, "seconds": 0.1})
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


# Cancelling


def test_a_job_that_listens_stops_when_it_is_cancelled_and_the_worker_stays(client):
    request = client.request("steps", {"steps": 1000, "seconds": 0.02})
    until(lambda: request.fraction > 0)
    pid = client.pid
    request.cancel()
    with pytest.raises(Cancelled):
        request.result(20)
    assert request.state == "cancelled" and client.request("echo").result(20)["worker"] == pid


def test_a_worker_that_does_not_listen_is_ended_with_its_children_though_nobody_drains(client, tmp_path):
    request = client.request("hang", {"output": str(tmp_path)})
    until(lambda: request.message)
    pid, child = client.pid, int(request.message.split()[1])
    other = tmp_path / ".writing-1-other"
    other.mkdir()
    assert any(tmp_path.glob(f".writing-{pid}-*"))
    started = time.monotonic()
    request.cancel()
    until(request.done)
    assert time.monotonic() - started < 2
    assert request.state == "cancelled" and not is_alive(pid) and not is_alive(child)
    assert list(tmp_path.iterdir()) == [other], "what it had begun to write was not removed, or more than that"
    assert client.request("echo").result(20)["worker"] != pid


def test_what_waited_behind_a_job_that_had_to_be_ended_is_computed_after_it(client):
    stuck = client.request("hang")
    behind = [client.request("echo", {"number": number}) for number in range(3)]
    until(lambda: stuck.message)
    stuck.cancel()
    answers = [request.result(20) for request in behind]
    assert [answer["number"] for answer in answers] == [0, 1, 2]
    assert stuck.state == "cancelled" and {answer["worker"] for answer in answers} == {client.pid}


def test_cancelling_what_waits_does_not_end_the_job_before_it(client):
    first = client.request("steps", {"steps": 10, "seconds": 0.1})
    second = client.request("echo")
    until(lambda: second.message.startswith("waiting"))
    started = time.monotonic()
    second.cancel()
    with pytest.raises(Cancelled):
        second.result(20)
    assert time.monotonic() - started < 0.9 and not first.done()
    assert first.result(20)


def test_cancelling_before_the_worker_is_ready_sends_nothing(client):
    request = client.request("die", {})
    request.cancel()
    with pytest.raises(Cancelled):
        request.result(20)
    assert client.request("echo").result(20)


def test_cancelling_what_has_ended_is_ignored(client):
    request = client.request("echo")
    value = request.result(20)
    request.cancel()
    time.sleep(0.4)
    assert request.result() == value and request.state == "done"
    assert client.request("echo").result(20)["worker"] == value["worker"]


def test_progress_that_raises_cancelled_cancels(client):
    def stop(*_):
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        client.request("steps", {"steps": 1000, "seconds": 0.02}, stop).result(20)


def test_everything_can_be_cancelled_at_once(client):
    requests = [client.request("steps", {"steps": 1000, "seconds": 0.02}) for _ in range(3)]
    until(lambda: requests[0].fraction > 0)
    client.cancel_all()
    assert [type(request.exception(20)) for request in requests] == [Cancelled] * 3


# Losing it


def test_a_worker_that_is_killed_fails_its_request_with_what_to_do(client):
    loss = loss_of(client.request("die", {"signal": "SIGKILL"}))
    assert "the worker was killed (SIGKILL; out of memory?) during die" in loss.message
    assert "memory" in loss.message and "try again" in loss.message
    assert "something is wrong here" in loss.message and loss.data["log"][-1] == "something is wrong here"
    assert loss.data["exit_code"] == -signal.SIGKILL and loss.data["command"] == client.command


def test_a_crash_in_compiled_code_is_named(client):
    loss = loss_of(client.request("die", {"signal": "SIGSEGV"}))
    assert "crashed (SIGSEGV)" in loss.message and "'cpu'" in loss.message


def test_the_next_request_starts_a_worker_again(client):
    first = client.request("echo").result(20)["worker"]
    loss_of(client.request("die", {"exit_code": 5}))
    assert not client.running and client.pid is None and client.info is None
    assert client.request("echo").result(20)["worker"] != first


def test_a_worker_that_is_lost_while_idle_is_started_again_and_fails_nothing(client):
    pid = client.start()["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not client.running)
    assert client.request("echo").result(20)["worker"] != pid


def test_what_waited_behind_a_job_that_died_is_computed_by_the_next_worker(client):
    dying = client.request("die", {"wait": 0.3})
    behind = [client.request("echo", {"number": number}) for number in range(3)]
    loss_of(dying)
    assert [request.result(20)["number"] for request in behind] == [0, 1, 2]


def test_requests_that_each_end_the_worker_fail_one_after_the_other(client):
    dying = [client.request("die", {}) for _ in range(3)]
    after = client.request("echo")
    for request in dying:
        loss_of(request)
    assert after.result(20)


def test_support_sets_are_given_again_to_a_new_worker(client, tmp_path):
    image = tmp_path / "support"
    image.write_text("one")
    name = client.request("support/set", {"supports": [{"image": str(image)}]}).result(20)["support"]
    first = client.request("segment", {"support": name}).result(20)["worker"]
    loss_of(client.request("die", {}))
    both = [client.request("segment", {"support": name}) for _ in range(2)]
    assert [request.result(20)["support"] for request in both] == [name, name]
    assert both[0].result()["worker"] != first


def test_support_sets_are_given_again_after_the_client_was_closed(client, tmp_path):
    image = tmp_path / "support"
    image.write_text("one")
    name = client.request("support/set", {"supports": [{"image": str(image)}]}).result(20)["support"]
    client.close()
    assert client.request("segment", {"support": name}).result(20)["support"] == name


def test_a_support_whose_files_have_changed_meanwhile_is_refused(client, tmp_path):
    image = tmp_path / "support"
    image.write_text("one")
    name = client.request("support/set", {"supports": [{"image": str(image)}]}).result(20)["support"]
    loss_of(client.request("die", {}))
    image.write_text("another")
    with pytest.raises(WorkerError, match="have changed since they were given") as caught:
        client.request("segment", {"support": name}).result(20)
    assert caught.value.code == protocol.WRONG_INPUT


def test_a_support_that_ends_each_new_worker_fails_who_asks_for_it(client, tmp_path):
    image = tmp_path / "support"
    image.write_text("one")
    name = client.request("support/set", {"supports": [{"image": str(image)}]}).result(20)["support"]
    loss_of(client.request("die", {}))
    image.write_text("deadly")
    assert "during support/set" in loss_of(client.request("segment", {"support": name})).message
    assert client.request("echo").result(20)


def test_a_worker_killed_while_it_gets_the_support_again_gets_it_once_more(client, tmp_path):
    image = tmp_path / "support"
    image.write_text("one")
    params = {"supports": [{"image": str(image)}], "seconds": 0.5}
    name = client.request("support/set", params).result(20)["support"]
    loss_of(client.request("die", {}))
    blocked = client.request("hang")
    until(lambda: blocked.message)
    wanted = client.request("segment", {"support": name})
    time.sleep(0.1)
    blocked.cancel()
    assert wanted.result(20)["support"] == name


# Launchers


def test_a_launcher_and_the_real_process_are_both_ended(connect):
    client = connect(toy("launcher"))
    request = client.request("hang")
    until(lambda: request.message)
    pid, child = client.pid, int(request.message.split()[1])
    launcher = process_tree.find(pid).parent
    assert launcher != os.getpid() and process_tree.find(launcher).parent == os.getpid()
    request.cancel()
    until(request.done)
    assert not any(is_alive(number) for number in (launcher, pid, child))


def test_a_launcher_passes_on_how_the_real_process_ended(connect):
    assert "SIGKILL" in loss_of(connect(toy("launcher")).request("die", {"signal": "SIGKILL"})).message


def test_a_launcher_that_goes_on_without_its_worker_is_noticed(connect):
    client = connect(toy("launcher", "600"))
    request = client.request("die", {"signal": "SIGKILL"})
    assert "the worker went away during die" in loss_of(request).message
    assert client.request("echo").result(20)


def test_a_worker_whose_launcher_was_killed_is_ended(connect):
    client = connect(toy("launcher"))
    request = client.request("hang")
    until(lambda: request.message)
    pid, launcher = client.pid, process_tree.find(client.pid).parent
    os.kill(launcher, signal.SIGKILL)
    assert "SIGKILL" in loss_of(request).message
    assert not is_alive(pid)


def test_a_number_that_the_worker_has_on_another_machine_means_nobody_here(connect):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        code = f"import os; os.getpid = lambda: {bystander.pid}; import runpy, sys; sys.argv[1:] = ['obey']"
        client = connect([sys.executable, "-c", f"{code}; runpy.run_path({str(TOY)!r}, run_name='__main__')"])
        request = client.request("hang")
        until(lambda: request.message)
        assert client.pid == bystander.pid
        request.cancel()
        until(request.done)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


# Closing


def test_closing_ends_the_worker_and_cancels_what_has_not_ended(client):
    request = client.request("steps", {"steps": 1000, "seconds": 0.02})
    until(lambda: request.fraction > 0)
    pid = client.pid
    started = time.monotonic()
    client.close(timeout=2.0)
    assert not is_alive(pid) and not client.running and client.info is None
    assert time.monotonic() - started < 4
    with pytest.raises(Cancelled):
        request.result(1)
    assert not [t for t in threading.enumerate() if t.name == "worker supervisor" and t.is_alive()]


def test_a_worker_that_does_not_obey_is_killed_on_closing(client):
    request = client.request("hang")
    until(lambda: request.message)
    pid, child = client.pid, int(request.message.split()[1])
    client.close(timeout=0.2)
    assert not is_alive(pid) and not is_alive(child)


def test_closing_what_never_ran_or_twice_is_nothing(client):
    client.close()
    client.start()
    client.close()
    client.close()


def test_a_request_after_closing_starts_the_worker_again(client):
    first = client.start()["pid"]
    client.close()
    assert client.request("echo").result(20)["worker"] not in (None, first)


def test_what_is_asked_while_another_thread_closes_ends_in_any_case(client):
    for _ in range(10):
        client.start()
        closing = threading.Thread(target=client.close)
        closing.start()
        requests = [client.request("echo") for _ in range(20)]
        closing.join()
        assert all(isinstance(request.exception(20), (Cancelled, type(None))) for request in requests)


def test_a_client_that_goes_with_its_process_leaves_no_worker():
    code = f"""
        import sys
        from SSLFewShotLib.worker.client import WorkerClient
        client = WorkerClient({toy()!r})
        print(client.start()["pid"], flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, check=True, timeout=30
    )
    until(lambda: not is_alive(int(done.stdout)))


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


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (137, "SIGKILL"),
        (-11, "crashed (SIGSEGV)"),
        (3221225477, "access violation"),
        (-1073741819, "access violation"),
        (255, "exit code 255"),
        (0, "exit code 0"),
        (None, "went away"),
    ],
)
def test_an_exit_code_is_put_into_words(code, said):
    what, remedy = explain_exit(code)
    assert said in what and "again" in remedy
