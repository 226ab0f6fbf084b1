"""What a job needs of the memory is told before it starts, near enough to what it takes, and is given back."""

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from command_line import write_patient
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.segmentation.job import SegmentationJob
from SSLFewShotLib.worker import memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured with Linux's own account")
GIB = 1 << 30

MEASURED = """
import json, os, sys
from pathlib import Path
from SSLFewShotLib.segmentation.job import SegmentationJob, run
from SSLFewShotLib.worker.memory import give_back
import faiss, torch

def resident(what="VmRSS"):
    # The peak of getrusage would count what the process that started this one held.
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(what))

given = json.loads(sys.argv[1])
job = SegmentationJob(
    [Path(given["target"])], [tuple(map(Path, given["support"]))], Path(given["output"]),
    method=given["method"], model=given["model"],
)
before = resident()
run(job)
peak = resident("VmHWM")
after = resident()
give_back()
print(json.dumps({"peak": peak - before, "after": after - before, "given_back": resident() - before}))
"""


def large_scan_benchmark():
    path = Path(__file__).parents[1] / "Benchmarks" / "large_scan.py"
    spec = importlib.util.spec_from_file_location("large_scan", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def estimated_and_measured(
    folder: Path, size: tuple[int, int, int], method: str, model: str | None
) -> tuple[int, dict]:
    """The estimate, and what a process of its own took beyond what it held with the libraries loaded."""
    large_scan_benchmark().write_scans(folder, size, "axial")
    support = (folder / "support_ct.nii.gz", folder / "support.seg.nrrd")
    target = folder / "target_ct.nii.gz"
    job = SegmentationJob([target], [support], folder / "out", method=method, model=model)
    given = {"target": str(target), "support": [str(path) for path in support], "output": str(folder / "out")}
    told = subprocess.run(
        [sys.executable, "-c", MEASURED, json.dumps({**given, "method": method, "model": model})],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return memory.needed_for(job), json.loads(told.stdout.splitlines()[-1])


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "method", "model"),
    [
        ((128, 128, 100), "knn", "mind"),
        ((128, 128, 100), "box", None),
        ((256, 256, 200), "knn", "gvdiff"),
        ((256, 256, 200), "knn", "dense-head-neck-ct"),
        ((256, 256, 200), "aligned", "dense-head-neck-ct"),
        ((512, 512, 400), "knn", "gvdiff"),
    ],
)
def test_the_estimate_is_within_a_factor_of_two_of_what_a_job_takes(tmp_path, size, method, model):
    estimate, told = estimated_and_measured(tmp_path, size, method, model)
    assert told["peak"] / 2 < estimate < told["peak"] * 2, (estimate, told)
    assert told["given_back"] < 0.3 * told["peak"], "after the job the memory goes back"


def job_on(folder: Path, **changes) -> SegmentationJob:
    image, labels = folder / "pt_0_ct.nrrd", folder / "pt_0.seg.nrrd"
    if not image.exists():
        write_patient(folder, 0)
    given = {"targets": [image], "supports": [(image, labels)], "output": folder / "out", "model": "gvdiff"}
    return SegmentationJob(**{**given, **changes})


def test_warm_supports_larger_points_and_fewer_numbers_need_less(tmp_path):
    job = job_on(tmp_path, targets=[])
    assert memory.needed_for(job, supports=False) < memory.needed_for(job)
    job = job_on(tmp_path)
    assert memory.needed_for(job_on(tmp_path, settings={"spacing": 2.0})) > memory.needed_for(job)
    assert memory.needed_for(job_on(tmp_path, model="xavier+gvdiff")) > memory.needed_for(job)


def test_a_dense_model_needs_room_for_its_field_beside_another_one_and_for_an_alignment(tmp_path):
    def needed(model: str, method: str = "knn") -> int:
        return memory.needed_for(job_on(tmp_path, model=model, method=method))

    alone = needed("dense-head-neck-ct")
    assert needed("dense-head-neck-ct+mind") > alone > needed("gvdiff")
    assert needed("dense-head-neck-ct", "auto") == needed("dense-head-neck-ct", "aligned") > alone
    assert needed("dense-head-neck-ct+any-modality", "aligned") > needed("dense-head-neck-ct", "aligned")


def test_of_many_scans_the_largest_one_counts(tmp_path):
    job = job_on(tmp_path)
    assert memory.needed_for(job_on(tmp_path, targets=job.targets * 50)) == memory.needed_for(job)


def test_what_cannot_be_read_counts_nothing_and_is_left_to_the_job_to_say(tmp_path):
    (tmp_path / "broken.nrrd").write_bytes(b"NRRD0004\nno scan")
    (tmp_path / "empty").mkdir()
    missing = [tmp_path / "broken.nrrd", tmp_path / "none.nrrd", tmp_path / "empty"]
    job = job_on(tmp_path, targets=missing, model="no-such-model")
    assert memory.scan_size(tmp_path / "broken.nrrd") is None and memory.scan_size(tmp_path / "empty") is None
    assert memory.needed_for(job) == memory.needed_for(job_on(tmp_path, targets=[], model="no-such-model")) > 0


def test_a_machine_that_is_too_small_is_an_input_error_with_what_to_do(tmp_path):
    with pytest.raises(InputError) as caught:
        memory.check(job_on(tmp_path), memory=lambda: (50_000_000, 40_000_000))
    for words in ("GB of memory are needed", "the machine has 0.1 GB", "close other programs", "spacing", "crop"):
        assert words in str(caught.value)


@linux
def test_far_more_than_is_free_is_an_input_error_too(tmp_path):
    with pytest.raises(InputError, match="are free"):
        memory.check(job_on(tmp_path), memory=lambda: (64 * GIB, 1_000_000))


def test_a_machine_with_little_left_is_worth_a_warning(tmp_path):
    job = job_on(tmp_path)
    needed = memory.needed_for(job)
    with pytest.warns(InputWarning, match="it may become very slow or fail: about"):
        memory.check(job, memory=lambda: (64 * GIB, int(needed * 0.9)))


def test_what_is_kept_warm_makes_room_before_anything_is_refused(tmp_path):
    free, made = [1_000_000], []

    def make_room():
        made.append(True)
        free[0] = 8 * GIB

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memory.check(job_on(tmp_path), make_room=make_room, memory=lambda: (64 * GIB, free[0]))
        memory.check(job_on(tmp_path), make_room=make_room, memory=lambda: (64 * GIB, free[0]))
        assert memory.check(job_on(tmp_path), memory=lambda: (None, None)) > 0, "a system that does not tell"
    assert made == [True], "only when it is short"


@linux
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_a_heap_full_of_holes_goes_back_to_the_system():
    script = """
import json, numpy as np
from SSLFewShotLib.worker.memory import give_back

def resident(what="VmRSS"):
    # The peak of getrusage would count what the process that started this one held.
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(what))

before = resident()
kept = [np.ones(4096) for _ in range(6000)]
kept = kept[::600] + [np.ones(4096)]
held = resident() - before
give_back()
print(json.dumps([held, resident() - before]))
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    held, left = json.loads(told.stdout)
    assert held > 100e6, "the freed arrays stay in the heap by themselves"
    assert left < 0.1 * held


def test_giving_back_twice_is_harmless_and_loads_no_torch():
    script = "import sys; from SSLFewShotLib.worker.memory import give_back; give_back(); give_back(); "
    script += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_the_size_of_a_scan_is_told_by_its_header(tmp_path):
    image, labels = write_patient(tmp_path, 0)
    size = memory.scan_size(image)
    assert size.voxels == 40 * 32 * 36 and size.itemsize == 2
    assert np.all(size.side > 100) and np.all(size.side < 1000)
    assert memory.scan_size(labels).itemsize in (1, 2)
