"""Peak memory and time of `sslfewshot segment` on a large scan: 512 × 512 × 800 voxels must go through on 8 GB.

Two synthetic CTs of 0.8 × 0.8 × 1 mm (int16, another patient each) are written as .nii.gz, one of them with its
labels as the support, and the command runs on them as a user would run it, in a process of its own. Measured are
the most memory that the process has held (the kernel's own count, which `os.wait4` returns), the most that was
seen in each stage (sampled), and the time of each stage. A stage is what the command's own progress says; reading
a scan and writing the results count to the message before. Ends with exit code 1 above the limit.

    python Testing/Benchmarks/large_scan.py [--model gvdiff] [--geometry oblique] > large.md

Linux or macOS (a pseudo-terminal; memory by stage on Linux only), 4 GB of disk. About three minutes on two cores
with gvdiff, more with a network.
"""

from __future__ import annotations

import argparse
import os
import platform
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from SSLFewShotLib.imaging.files import write_labels, write_volume
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.imaging.volume import Volume

SPACING = np.array([0.8, 0.8, 1.0])
BLOCK = 4
_SHOWN = re.compile(rb"\]\s+\d+% ([^\r\n]*?) \(\d+:")  # "[███   ] 12% describing x.nii.gz (0:10, 1:05 left)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gvdiff")
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 800), metavar=("I", "J", "K"))
    parser.add_argument("--geometry", choices=("axial", "oblique"), default="axial")
    parser.add_argument("--limit-gb", type=float, default=8.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--format", default="nii.gz", help="of the result, as for the command")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own, so that what it takes is free again.
        process = os.fork()
        if not process:
            write_scans(folder, tuple(arguments.size), arguments.geometry)
            os._exit(0)
        if os.waitpid(process, 0)[1]:
            sys.exit("the scans could not be made")
        command = [sys.executable, "-m", "SSLFewShotLib", "segment", str(folder / "target_ct.nii.gz"), "--support"]
        command += [str(folder / "support_ct.nii.gz"), str(folder / "support.seg.nrrd")]
        command += ["--model", arguments.model, "--output", str(folder / "out"), "--format", arguments.format]
        peak, seconds, stages = watched(command, arguments.threads)
        found = sorted(path.name for path in (folder / "out").iterdir())
    size = " × ".join(map(str, arguments.size))
    print(f"`sslfewshot segment` with {arguments.model}, support and target of {size} voxels each,")
    print(f"{arguments.geometry}: peak memory {peak / 1e9:.2f} GB (limit {arguments.limit_gb:g} GB),")
    print(f"{seconds:.0f} s on {arguments.threads} threads, {platform.system()}. Written: {', '.join(found)}.\n")
    print("| stage | seconds | most memory seen, GB |\n| --- | --- | --- |")
    for stage, (took, memory) in stages.items():
        print(f"| {stage} | {took:.1f} | {memory / 1e9:.2f} |" if memory else f"| {stage} | {took:.1f} | — |")
    sys.exit(peak > arguments.limit_gb * 1e9)


def write_scans(folder: Path, size: tuple[int, int, int], geometry: str) -> None:
    """A target, and a support with its labels: coarse phantoms, each voxel repeated, with noise over it."""
    coarse = tuple(-(-n // BLOCK) for n in size)
    for seed, name in enumerate(("support", "target")):
        volume, labels = phantom(seed, size=coarse, spacing=tuple(BLOCK * SPACING), geometry=geometry)
        matrix = volume.ijkToLps.copy()
        matrix[:3, :3] /= BLOCK
        matrix[:3, 3] -= matrix[:3, :3] @ np.full(3, (BLOCK - 1) / 2)
        fine = blocked_up(volume.array, size)
        rng = np.random.default_rng(seed)
        noise = np.rint(rng.normal(0, 10, fine.shape[1:])).astype(np.int16)
        for k, plane in enumerate(fine):
            plane += np.roll(noise, 97 * k)
        write_volume(Volume(fine, matrix, name, "CT"), folder / f"{name}_ct.nii.gz")
        if name == "support":
            marked = LabelMap(blocked_up(labels.array, size), matrix, name, segments=labels.segments)
            write_labels(marked, folder / f"{name}.seg.nrrd")


def blocked_up(array: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """Every voxel repeated along each axis, cut to `size` (i, j, k)."""
    fine = np.empty(size[::-1], array.dtype)
    for k, plane in enumerate(fine):
        plane[:] = array[k // BLOCK].repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[: size[1], : size[0]]
    return fine


def watched(command: list[str], threads: int) -> tuple[int, float, dict[str, tuple[float, int]]]:
    """Run a command; returns its peak memory in bytes, its seconds, and both for each stage."""
    # The command shows ten messages a second on a terminal, and one in five seconds anywhere else.
    terminal, its_end = pty.openpty()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=sys.stderr, stderr=its_end, env=environment)
    os.close(its_end)
    stages: dict[str, tuple[float, int]] = {}
    stage, last, said = "starting", began, b""
    while True:
        ready = select.select([terminal], [], [], 0.1)[0]
        ended = False
        if ready:
            try:
                new = os.read(terminal, 65536)
            except OSError:  # so Linux says that the other end is closed
                new = b""
            ended = not new
            said = said[-400:] + new
        now = time.monotonic()
        took, memory = stages.get(stage, (0.0, 0))
        stages[stage] = took + now - last, max(memory, resident(process.pid))
        last = now
        if shown := _SHOWN.findall(said):
            stage = shown[-1].decode("utf-8", "replace")
        if ended:
            break
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    os.close(terminal)
    if process.returncode:
        sys.exit(f"the command failed ({process.returncode}): {said.decode('utf-8', 'replace')[-300:]}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), time.monotonic() - began, stages


def resident(pid: int) -> int:
    """Bytes that a process holds now; 0 where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)


if __name__ == "__main__":
    main()
