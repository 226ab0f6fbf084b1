"""The command as a script sees it, and phantoms in files for it."""

import contextlib
import functools
import io
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from SSLFewShotLib.cli import main
from SSLFewShotLib.imaging import LabelMap, Volume
from SSLFewShotLib.imaging.files import write_labels, write_volume
from SSLFewShotLib.imaging.phantoms import phantom

SIZE = (40, 32, 36)  # about 10 mm voxels
QUICK = ("--model", "gvdiff", "--spacing", "16")
BOX = ("--method", "box")
"""The quickest method, where the result does not matter."""
COARSE = ("--extent-mm", "400", "--batch-size", "2", "--device", "cpu")
"""A pretraining that is soon over."""


@dataclass(frozen=True)
class Outcome:
    """What a call of the command came to."""

    code: int
    out: str
    err: str

    @property
    def result(self):
        return json.loads(self.out, parse_constant=_no_json)

    @property
    def error(self) -> str:
        """The one line that says why it was refused."""
        lines = self.err.splitlines()
        assert self.code == 2 and self.out == "", self
        assert lines[-1].startswith("sslfewshot: error: "), self
        assert sum("error" in line for line in lines) == 1, "an error is one line"
        assert "Traceback" not in self.err
        return lines[-1].removeprefix("sslfewshot: error: ")


def _no_json(constant: str):
    raise ValueError(f"{constant} is no JSON")


def sslfewshot(*arguments: object) -> Outcome:
    """Call the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            try:
                code = main([str(argument) for argument in arguments])
            except SystemExit as stop:
                code = stop.code
    finally:
        signal.signal(signal.SIGTERM, before)
    return Outcome(code, out.getvalue(), err.getvalue())


def started(*arguments: object, **options) -> subprocess.Popen:
    """Start the command as a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("environment", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "SSLFewShotLib", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        # What runs in the background of a shell ignores Ctrl-C, and would hand that on.
        preexec_fn=None if sys.platform == "win32" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def finished(process: subprocess.Popen) -> Outcome:
    out, err = process.communicate(timeout=120)
    return Outcome(process.returncode, out.decode(), err.decode())


@functools.cache
def patient(seed: int, modality: str = "CT", geometry: str = "axial") -> tuple[Volume, LabelMap]:
    """Not to be changed."""
    return phantom(seed, modality, SIZE, geometry=geometry, name=f"pt_{seed}")


def write_patient(
    folder: Path, seed: int, name: str | None = None, ending: str = ".nrrd", labelled: bool = True, **kind: str
) -> tuple[Path, Path]:
    """Write a phantom as <name>_ct<ending> and <name>.seg.nrrd; returns both paths."""
    volume, labels = patient(seed, **kind)
    name = name or f"pt_{seed}"
    image, segmentation = folder / f"{name}_ct{ending}", folder / f"{name}.seg.nrrd"
    write_volume(volume, image)
    if labelled:
        write_labels(labels, segmentation)
    return image, segmentation


def write_patients(folder: Path, count: int = 3) -> Path:
    """Write pt_0, pt_1, … with their labels; returns the folder."""
    for seed in range(count):
        write_patient(folder, seed)
    return folder


def files_in(folder: Path) -> list[str]:
    """Every file and folder below a folder, hidden ones included; they may come and go meanwhile."""
    found = (Path(place, name) for place, folders, files in os.walk(folder) for name in [*folders, *files])
    return sorted(path.relative_to(folder).as_posix() for path in found)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / max(1, one.sum() + other.sum())


@contextlib.contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """A disk that fills up, as far as one process can have it (POSIX)."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
