"""What tests share: where the real scans are, reproducible numerics, phantoms in files, a store of models."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from command_line import COARSE, sslfewshot, write_patients
from SSLFewShotLib.imaging.phantoms import write_cohort
from SSLFewShotLib.worker.client import WorkerClient
from toy_clients import toy


def pytest_configure() -> None:
    """Have Ctrl-C heard: what runs in the background of a shell ignores it, and Python with it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans, from the environment variable SSLFEWSHOT_DATA."""
    folder = os.environ.get("SSLFEWSHOT_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SSLFEWSHOT_DATA does not name a folder of real scans")
    return Path(folder)


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """pt_0 to pt_2 with labels; not to be changed."""
    return write_patients(tmp_path_factory.mktemp("scans"))


@pytest.fixture
def support(scans) -> tuple:
    return "--support", scans / "pt_0_ct.nrrd", scans / "pt_0.seg.nrrd"


@pytest.fixture
def target(scans) -> Path:
    return scans / "pt_1_ct.nrrd"


@pytest.fixture
def own_store(tmp_path, monkeypatch) -> Path:
    """The user's models lie in a folder of the test's own."""
    monkeypatch.setenv("SSLFEWSHOT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture(scope="session")
def three_small_scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_cohort(folder, 3, labelled=0, size=(20, 16, 18))
    return folder


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """A folder for trainings and a store of the test's own; whatever still runs at the end is ended."""
    from SSLFewShotLib.worker import process_tree
    from SSLFewShotLib.worker.detached import is_alive
    from SSLFewShotLib.worker.training_folder import all_trainings

    monkeypatch.setenv("SSLFEWSHOT_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("SSLFEWSHOT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield tmp_path / "jobs"
    for folder in all_trainings(tmp_path / "jobs"):
        process = folder.read("process")
        if process and is_alive(process):
            process_tree.kill_tree(process["pid"], process["started"])


@pytest.fixture(scope="session")
def model(three_small_scans, tmp_path_factory) -> Path:
    """A model after very few iterations; not to be changed."""
    folder = tmp_path_factory.mktemp("model") / "tiny-ct"
    outcome = sslfewshot("pretrain", three_small_scans, "--output", folder, "--iterations", 4, *COARSE)
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture(scope="module")
def one_torch_thread():
    """Computing in one thread, which comes out the same to the last bit in every process."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def connect():
    """Make clients that are closed in the end; of a toy that obeys unless another command is given."""
    made = []

    def make(command=None, **settings) -> WorkerClient:
        made.append(WorkerClient(command or toy(), **{"start_timeout": 20.0, "cancel_grace": 0.3, **settings}))
        return made[-1]

    yield make
    for client in made:
        client.close(timeout=0.2)


@pytest.fixture
def client(connect) -> WorkerClient:
    """Of a toy that obeys."""
    return connect()
