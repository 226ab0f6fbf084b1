"""The worker's server: whatever is sent to it, it answers, and lives on."""

import json
import sys
from pathlib import Path

import pytest
from SSLFewShotLib.worker import protocol
from worker_process import WORKER, WorkerProcess, code_of


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
    assert {"dense", "heatmap", "reg2d", "doersch"} <= set(info["pretexts"])
    assert (
        info["segmenters"] == ["auto", "aligned", "prototype", "knn", "finetune", "tuned", "box"]
        and info["default_model"] == "xavier+gvdiff"
    )


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
