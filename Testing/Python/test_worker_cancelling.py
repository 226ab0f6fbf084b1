"""What is cancelled ends soon, and takes nothing with it that was not."""

import sys
import time

import pytest
from SSLFewShotLib.errors import Cancelled
from waiting import is_alive, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the toy worker is POSIX")


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
    first = client.request("steps", {"steps": 30, "seconds": 0.1})
    second = client.request("echo")
    until(lambda: second.message.startswith("waiting"))
    second.cancel()
    with pytest.raises(Cancelled):
        second.result(20)
    assert not first.done()
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
