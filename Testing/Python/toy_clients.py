"""How the toy worker is started, and how its loss must read."""

import sys
from pathlib import Path

import pytest
from SSLFewShotLib.worker import protocol
from SSLFewShotLib.worker.client import WorkerLost

TOY = Path(__file__).with_name("toy_worker.py")


def toy(*behaviour: str) -> list[str]:
    return [sys.executable, "-u", str(TOY), *(behaviour or ("obey",))]


def loss_of(request, timeout: float = 20.0) -> WorkerLost:
    with pytest.raises(WorkerLost) as caught:
        request.result(timeout)
    assert request.state == "failed" and caught.value.code == protocol.WORKER_LOST
    assert "\n" not in caught.value.message
    return caught.value
