"""A worker that dies, and what started it: who is told what, and what is done again."""

import os
import signal
import subprocess
import sys
import time

import pytest
from SSLFewShotLib.worker import process_tree, protocol
from SSLFewShotLib.worker.client import WorkerError
from SSLFewShotLib.worker.exit_reason import explain_exit
from toy_clients import TOY, loss_of, toy
from waiting import is_alive, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the toy worker is POSIX")


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


# Elsewhere


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
