"""A place where no disk is shared: the client, what is asked of it, and what it is asked about."""

import sys
import tempfile
from pathlib import Path

import pytest
from command_line import write_patient
from elsewhere import LIBRARY, WORKER, in_another_view
from SSLFewShotLib.worker.carried_jobs import CarriedJobs
from SSLFewShotLib.worker.client import WorkerClient
from SSLFewShotLib.worker.handshake import Handshake

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="the ways to be elsewhere are POSIX")
START = 120.0


class Place:
    """A worker's client, what is asked of it, and the folder with this side's files."""

    def __init__(self, command: list[str], here: Path):
        self.here = here
        self.log: list[str] = []
        self.client = WorkerClient(command, start_timeout=START, on_log=self.log.append)
        self.jobs = CarriedJobs(self.client)
        self.asked: list[tuple[str, dict]] = []
        plain = self.client.request
        self.client.request = lambda method, params=None, *rest: (
            self.asked.append((method, params)) or plain(method, params, *rest)
        )

    def sent(self) -> int:
        """Bytes of text that files were sent in, since last asked."""
        count = sum(len(params["data"]) for method, params in self.asked if method == "files/put")
        self.asked.clear()
        return count


@pytest.fixture(scope="module", params=["another mount view", "another folder"])
def place(request, tmp_path_factory):
    """Where no disk is shared: files are hidden from the worker, or it only believes so, from a failing probe."""
    here = tmp_path_factory.mktemp("client")
    patch = pytest.MonkeyPatch()
    if request.param == "another mount view":
        # The probe as well must lie where the worker does not see it.
        (here / "temporary").mkdir()
        patch.setattr(tempfile, "tempdir", str(here / "temporary"))
        command = in_another_view(here)
    else:
        away = tmp_path_factory.mktemp("worker")
        patch.setattr(Handshake, "greeted", with_a_probe_that_fails(Handshake.greeted))
        command = ["env", "-C", str(away), f"TMPDIR={away}", f"PYTHONPATH={LIBRARY}", "OMP_NUM_THREADS=1", *WORKER]
    for seed in range(3):
        write_patient(here, seed)
    made = Place(command, here)
    yield made
    made.client.close()
    patch.undo()


def with_a_probe_that_fails(greeted):
    """As if the file that the client wrote were another one there."""

    def failing(self, params):
        question = greeted(self, params)
        if question is not None:
            question["params"]["probe"]["content"] += " is not there"
        return question

    return failing


def pair(here: Path, seed: int = 0) -> dict[str, str]:
    return {"image": str(here / f"pt_{seed}_ct.nrrd"), "labels": str(here / f"pt_{seed}.seg.nrrd")}
