"""Closing the client ends its worker, whatever that does, and so does the end of its process."""

import subprocess
import sys
import textwrap
import threading
import time

import pytest
from SSLFewShotLib.errors import Cancelled
from toy_clients import toy
from waiting import is_alive, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the toy worker is POSIX")


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
