"""Requests to the worker: their progress, their turn, and cancelling them."""

import time

import pytest
from SSLFewShotLib.worker import protocol
from worker_process import WorkerProcess, code_of


@pytest.fixture
def worker(tmp_path):
    with WorkerProcess(tmp_path / "temporary") as process:
        yield process


def test_the_last_report_is_told_however_fast_it_came_and_before_the_answer(worker):
    id = worker.send("hurry")
    assert worker.answer(id)["result"] == {}
    reports = [report for report in worker.told("progress") if report["id"] == id]
    assert (reports[-1]["fraction"], reports[-1]["message"]) == (1.0, "counted 100 of 100")
    assert len(reports) < 10


def test_progress_is_told_about_ten_times_a_second(worker):
    id = worker.send("count", seconds=1.0)
    told = worker.answer(id)["result"]["told"]
    reports = [report for report in worker.told("progress") if report["id"] == id]
    assert told > 100 and 5 <= len(reports) <= 13
    assert all(set(r) == {"id", "fraction", "message", "elapsed", "remaining"} for r in reports)
    assert reports[-1]["fraction"] == 0.5
    assert abs(reports[-1]["elapsed"] - reports[-1]["remaining"]) < 0.1


def test_two_requests_are_done_one_after_the_other_and_the_second_is_told_so(worker):
    first = worker.send("count", seconds=0.5)
    second = worker.send("count", seconds=0.2)
    third = worker.send("count", seconds=0)
    assert [worker.answer(id)["id"] for id in (first, second, third)] == [first, second, third]
    waited = [r for r in worker.told("progress") if r["message"] == "waiting for count to end"]
    assert [r["id"] for r in waited] == [second, third]
    assert waited[0]["fraction"] == 0 and waited[0]["remaining"] is None


def test_a_light_request_is_answered_while_a_heavy_one_is_worked_on(worker):
    worker.ask("count", seconds=0)
    long = worker.send("count", seconds=5)
    worker.running(long)
    began = time.monotonic()
    assert "result" in worker.ask("folder")
    assert time.monotonic() - began < 1.0
    worker.cancel(long)
    assert code_of(worker.answer(long)) == protocol.REQUEST_CANCELLED


def test_a_running_request_can_be_cancelled_and_the_next_one_runs(worker):
    long = worker.send("count", seconds=60)
    worker.running(long)
    began = time.monotonic()
    worker.cancel(long)
    assert code_of(worker.answer(long)) == protocol.REQUEST_CANCELLED
    assert time.monotonic() - began < 1.0
    assert "result" in worker.ask("count", seconds=0)


def test_a_waiting_request_is_cancelled_at_once_and_never_runs(worker):
    first, second, third = (worker.send("count", seconds=seconds) for seconds in (60, 60, 0))
    worker.running(first)
    worker.cancel(second)
    assert code_of(worker.answer(second)) == protocol.REQUEST_CANCELLED
    worker.cancel(first)
    assert code_of(worker.answer(first)) == protocol.REQUEST_CANCELLED and "result" in worker.answer(third)
    assert {r["message"] for r in worker.told("progress") if r["id"] == second} == {"waiting for count to end"}
    assert sum(message.get("id") == second for message in worker.messages) == 1


def test_a_cancel_of_what_is_finished_unknown_or_nonsense_is_ignored(worker):
    done = worker.send("count", seconds=0)
    worker.answer(done)
    for id in (done, 12345, "x", None, [1], {"a": 1}, True, 0.5):
        worker.cancel(id)
    worker.write(b'{"jsonrpc": "2.0", "method": "$/cancelRequest"}\n')
    before = len(worker.messages)
    assert "result" in worker.ask("count", seconds=0)
    assert not any("error" in message for message in worker.messages[before:])


def test_an_id_that_is_being_worked_on_cannot_be_used_again(worker):
    worker.send("count", id="a", seconds=0.5)
    worker.send("count", id="a", seconds=0)
    refused = worker.answer("a")
    assert code_of(refused) == protocol.INVALID_REQUEST and "already" in refused["error"]["message"]
    assert "result" in worker.answer("a")
    worker.send("count", id="a", seconds=0)
    assert "result" in worker.answer("a")


def test_a_notification_other_than_cancel_is_left_alone(worker):
    worker.write(b'{"jsonrpc": "2.0", "method": "count", "params": {"seconds": 60}}\n')
    worker.write(b'{"jsonrpc": "2.0", "id": 3, "result": null}\n')
    assert "result" in worker.ask("count", seconds=0)
    assert "without an id" in worker.log
