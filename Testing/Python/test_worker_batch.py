"""A folder of scans as a job of the worker: gone on with, warm, or handed to a cluster."""

from pathlib import Path

import pytest
from folder_jobs import SETTINGS, a_job, computed, results, write_scans
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.segmentation.job import run
from SSLFewShotLib.worker.batch import HANDLERS
from SSLFewShotLib.worker.handler import checked
from SSLFewShotLib.worker.warm import Warm

COUNT = 4


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Not to be changed."""
    return write_scans(tmp_path_factory.mktemp("scans"), COUNT)


class Asked:
    """What a handler is given, without a server."""

    def __init__(self, folder: Path):
        self.warm, self.folder, self.warnings = Warm(), folder, []

    def progress(self, fraction: float, message: str) -> None:
        pass

    def log(self, level: str, message: str) -> None:
        pass


def batch_params(scans: Path, output: Path, **changes) -> dict:
    handler = HANDLERS["segment/batch"]
    support = {"image": str(scans / "support_ct.nrrd"), "labels": str(scans / "support.seg.nrrd")}
    given = {"supports": [support], "targets": [str(scans / "all")], "output": str(output), "model": "gvdiff",
             "settings": SETTINGS, "device": "cpu", **changes}  # fmt: skip
    return checked(given, handler.params)


def test_the_worker_goes_on_with_a_folder_and_keeps_the_support_warm(scans, tmp_path, monkeypatch):
    run(a_job(scans, tmp_path / "undisturbed"))
    asked, output = Asked(tmp_path), tmp_path / "out"
    first = HANDLERS["segment/batch"].run(batch_params(scans, output), asked)
    assert first["summary"]["done"] == COUNT and first["warm"] == {"support": False, "model": False}
    (output / "pt_2_ct_seg.nii.gz").unlink()
    read = computed(monkeypatch)
    again = HANDLERS["segment/batch"].run(batch_params(scans, output, resume=True), asked)
    assert read == ["pt_2_ct"] and again["warm"] == {"support": True, "model": True}
    assert results(output) == results(tmp_path / "undisturbed")


def test_the_worker_hands_a_folder_to_the_cluster_that_is_named(scans, tmp_path, monkeypatch):
    monkeypatch.setattr("SSLFewShotLib.worker.cluster.CONNECT_SECONDS", 1.0)
    params = batch_params(scans, tmp_path / "out", cluster="tcp://127.0.0.1:1")
    with pytest.raises(InputError, match=r"tcp://127\.0\.0\.1:1: no Dask scheduler answers there"):
        HANDLERS["segment/batch"].run(params, Asked(tmp_path))
