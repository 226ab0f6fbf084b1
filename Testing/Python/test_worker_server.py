"""The worker's server: whatever is sent to it, it answers, lives on, and ends when it is no longer wanted."""

import contextlib
import json
import signal
import sys
import time
from pathlib import Path

import pytest
from SSLFewShotLib.errors import OutputError
from SSLFewShotLib.worker import protocol
from SSLFewShotLib.worker.own_folder import OwnFolder, remove_leftovers
from worker_process import WORKER, WorkerProcess


@pytest.fixture
def worker(tmp_path):
    with WorkerProcess(tmp_path / "temporary") as process:
        yield process


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """One worker for all tests that must leave it alive."""
    with WorkerProcess(tmp_path_factory.mktemp("temporary")) as process:
        yield process


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A worker with its own methods."""
    with WorkerProcess(tmp_path_factory.mktemp("temporary"), WORKER) as process:
        yield process


def code_of(answer: dict) -> int:
    return answer["error"]["code"]


def test_the_first_line_says_who_is_there(lasting):
    first = json.loads(lasting.lines[0]) if lasting.lines else lasting.until(lambda message: True)
    assert first["method"] == "hello"
    assert first["params"]["pid"] == lasting.process.pid
    assert {"sslfewshot", "torch", "numpy", "SimpleITK"} <= first["params"]["versions"].keys()
    assert first["params"]["python"] == sys.version.split()[0]


def test_hello_comes_although_torch_cannot_be_loaded_and_the_worker_stays_alive(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no such library: libcudart')")
    with WorkerProcess(tmp_path / "temporary", WORKER, {"PYTHONPATH": str(tmp_path)}) as worker:
        worker.until(lambda message: message.get("method") == "hello")
        answer = worker.ask("initialize", protocol=1, client="test")
        assert code_of(answer) == protocol.INTERNAL_ERROR and "libcudart" in answer["error"]["message"]
        assert "could not be loaded: ImportError" in worker.log
        assert isinstance(worker.ask("models/list")["result"], list)


def test_initialize_tells_what_the_worker_can_do(real, tmp_path):
    info = real.ask("initialize", protocol=1, client="test")["result"]
    assert info["protocol"] == 1 and info["pid"] == real.process.pid and info["shares_disk"] is False
    cpu = info["devices"][0]
    assert cpu["name"] == "cpu" and 0 < cpu["memory_free"] <= cpu["memory_total"]
    assert Path(info["folder"]).is_dir()
    assert {"initialize", "models/list", "support/set", "segment", "evaluate", "compare", "shutdown"} <= {
        *info["methods"]
    }
    assert info["segmenters"] == ["auto", "aligned", "knn", "box"] and info["default_model"] == "xavier+gvdiff"


@pytest.mark.parametrize(("content", "shared"), [("abc", True), ("ab", False), ("abcd", False), ("xyz", False)])
def test_the_disk_is_shared_when_the_file_of_the_client_can_be_read(real, tmp_path, content, shared):
    probe = tmp_path / "probe 'ü' 文.txt"
    probe.write_text("abc")
    info = real.ask("initialize", protocol=1, client="t", probe={"path": str(probe), "content": content})["result"]
    assert info["shares_disk"] is shared
    missing = real.ask("initialize", protocol=1, client="t", probe={"path": f"{probe}.no", "content": content})
    assert missing["result"]["shares_disk"] is False


def test_another_version_of_the_protocol_is_refused_with_what_to_do(real):
    answer = real.ask("initialize", protocol=99, client="t")
    assert code_of(answer) == protocol.WRONG_INPUT
    assert "protocol 99" in answer["error"]["message"] and "same version" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("line", "code", "id"),
    [
        (b"{nonsense", protocol.PARSE_ERROR, None),
        (b"\xff\xfe", protocol.PARSE_ERROR, None),
        (b"[" * 100_000, protocol.PARSE_ERROR, None),
        (b"[]", protocol.INVALID_REQUEST, None),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "folder"}]', protocol.INVALID_REQUEST, None),
        (b"17", protocol.INVALID_REQUEST, None),
        (b'{"jsonrpc": "2.0", "id": 41, "method": "folder", "params": [1]}', protocol.INVALID_PARAMS, 41),
        (b'{"jsonrpc": "2.0", "id": null, "method": "folder"}', protocol.INVALID_REQUEST, None),
        (b'{"jsonrpc": "2.0", "id": 42, "method": "no/such"}', protocol.METHOD_NOT_FOUND, 42),
        (b'{"jsonrpc": "2.0", "id": 43, "method": "count", "params": {}}', protocol.INVALID_PARAMS, 43),
        (
            b'{"jsonrpc": "2.0", "id": 44, "method": "count", "params": {"seconds": "1"}}',
            protocol.INVALID_PARAMS,
            44,
        ),
        (
            b'{"jsonrpc": "2.0", "id": 45, "method": "count", "params": {"seconds": true}}',
            protocol.INVALID_PARAMS,
            45,
        ),
        (
            b'{"jsonrpc": "2.0", "id": 46, "method": "count", "params": {"seconds": 0, "minutes": 1}}',
            protocol.INVALID_PARAMS,
            46,
        ),
    ],
)
def test_a_bad_message_gets_its_error_and_the_next_one_is_answered(lasting, line, code, id):
    lasting.write(line + b"\n")
    answer = lasting.until(lambda message: "error" in message)
    assert (code_of(answer), answer["id"]) == (code, id)
    assert "result" in lasting.ask("folder")


def test_wrong_parameters_are_named_with_what_was_expected(lasting):
    def message(method, **params):
        return lasting.ask(method, **params)["error"]["message"]

    assert message("count") == "'seconds' is missing: a number was expected"
    assert message("count", seconds="1") == "'seconds': a number was expected"
    assert "'minutes' is no parameter" in message("count", seconds=1, minutes=1)
    assert "no method is called 'nothing'" in message("nothing")


def test_a_message_of_100_mb_is_refused_and_the_next_one_answered(lasting):
    lasting.write(
        b'{"jsonrpc": "2.0", "id": 9, "method": "folder", "params": {"x": "' + b"x" * 100_000_000 + b'"}}\n'
    )
    answer = lasting.until(lambda message: "error" in message)
    assert code_of(answer) == protocol.INVALID_REQUEST and "at most 67108864" in answer["error"]["message"]
    assert "result" in lasting.ask("folder")


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("input", protocol.WRONG_INPUT, "scan.nrrd: is not a scan; give another"),
        ("output", protocol.NOT_WRITTEN, "scan.nrrd: no space left on the disk"),
        ("disk", protocol.NOT_WRITTEN, "scan.nrrd: no space left on the disk; free some"),
        ("memory", protocol.OUT_OF_MEMORY, "the memory did not suffice"),
        ("bug", protocol.INTERNAL_ERROR, "ZeroDivisionError: in the middle of scan.nrrd"),
        ("recursion", protocol.INTERNAL_ERROR, "RecursionError: maximum recursion depth exceeded"),
        ("exit", protocol.INTERNAL_ERROR, "SystemExit: 3"),
        ("cancelled", protocol.REQUEST_CANCELLED, "cancelled"),
    ],
)
def test_a_request_that_fails_says_so_and_leaves_the_worker_alive(lasting, what, code, message):
    error = lasting.ask("raise", what=what, text="scan.nrrd")["error"]
    assert error["code"] == code and error["message"].startswith(message)
    assert error["data"]["type"]
    assert lasting.ask("raise", what="input", text="next")["error"]["code"] == protocol.WRONG_INPUT


def test_memory_that_torch_could_not_get_is_told_as_such():
    from SSLFewShotLib.worker.failures import described

    error = RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")
    import torch

    for problem in (error, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")):
        code, message, data = described(problem)
        assert code == protocol.OUT_OF_MEMORY and "memory did not suffice" in message and data["remedy"]


def test_a_result_that_cannot_be_sent_is_an_error(lasting):
    assert code_of(lasting.ask("set")) == protocol.INTERNAL_ERROR
    answer = lasting.ask("large", size=protocol.LONGEST_LINE)
    assert "longer than" in answer["error"]["message"]
    assert lasting.ask("nan")["result"] == {"dice": None, "name": "Größe"}


def test_what_is_printed_goes_to_standard_error_and_not_into_the_protocol(worker):
    answer = worker.ask("print", text="a library says 'Größe'")
    assert answer["result"] == {"read": ""}, "nobody else reads the client's messages"
    worker.ask("print", text="again")
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in worker.lines)
    assert "a library says" in worker.errors.read_text() and "native output" in worker.errors.read_text()


def test_warnings_come_with_the_answer_and_the_log_names_no_scan(lasting):
    name = "/data/Mustermann, Erika/ct 1966.nii.gz"
    answer = lasting.ask("warn", text=name)
    assert answer["result"]["warnings"] == [f"{name}: resampled"]
    answer = lasting.ask("warn", text=name, what="bug")
    assert answer["error"]["data"]["warnings"] == [f"{name}: resampled"]
    lasting.ask("raise", what="bug", text=name)
    levels = {entry["level"] for entry in lasting.told("log")}
    assert levels == {"info", "warning", "error"}
    log = lasting.log + lasting.errors.read_text()
    for expected in (
        "InputWarning",
        "RuntimeWarning: odd numbers in …",
        "library: cannot like …",
        "faulty_worker.py",
    ):
        assert expected in log
    assert "did what it was told" in log and "ZeroDivisionError" in log
    assert "Mustermann" not in log and "1966" not in log


def test_a_warning_belongs_to_its_own_request_only(lasting):
    lasting.ask("warn", text="a.nrrd")
    assert "warnings" not in lasting.ask("count", seconds=0)["result"]


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
    first, second, third = (worker.send("count", seconds=0.7) for _ in range(3))
    worker.running(first)
    worker.cancel(second)
    assert code_of(worker.answer(second, timeout=0.6)) == protocol.REQUEST_CANCELLED
    assert "result" in worker.answer(first) and "result" in worker.answer(third)
    assert not any(r["id"] == second and r["elapsed"] > 0.3 for r in worker.told("progress"))
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
