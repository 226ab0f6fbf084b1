"""Time and memory of ALPNET's training, and of segmenting one scan of 512 × 512 × 200 voxels by prototypes.

The training's part is one process for each setting: seconds of processor and of clock for an iteration, and the
most memory that the process has held, on scans that the script makes. The scan's part is the command as a user
would run it, in a process of its own.

    python Testing/Benchmarks/prototype_training.py [--threads 2] [--model alpnet-head-neck-ct] [--paper] > out.md

--paper measures an iteration of the paper's setting too (32 features, 128 × 128 × 24 voxels), which takes about a
minute on two cores and several gigabytes. Linux or macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = {
    "usual (12 features, 40 × 40 × 40, 8 regions)": {},
    "one region": {"regions": 1},
    "8 features": {"features": 8},
    "without alignment loss": {"alignment": 0.0},
}
PAPER = {"features": 32, "crop": [24, 128, 128], "window": [6, 16, 16], "regions": 1}
SIZE, SPACING = (512, 512, 200), (0.8, 0.8, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--model", default="alpnet-head-neck-ct")
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(measured(json.loads(arguments.one), arguments.iterations, arguments.threads)))
        return
    settings = {
        **SETTINGS,
        **({"paper (32 features, 128 × 128 × 24, 1 region)": PAPER} if arguments.paper else {}),
    }
    print(f"{arguments.threads} threads, {platform.system()}.\n")
    print(
        "| training | seconds of processor an iteration | seconds | peak memory, GB |\n| --- | --- | --- | --- |"
    )
    for name, options in settings.items():
        command = [sys.executable, __file__, "--one", json.dumps(options), "--threads", str(arguments.threads)]
        found = json.loads(
            subprocess.run(
                [*command, "--iterations", str(arguments.iterations)], check=True, capture_output=True, text=True
            ).stdout
        )
        print(f"| {name} | {found['processor']:.2f} | {found['clock']:.2f} | {found['memory'] / 1e9:.2f} |")
    with tempfile.TemporaryDirectory() as folder:
        seconds, processor, memory = segmented(Path(folder), arguments.model, arguments.threads)
    size = " × ".join(map(str, SIZE))
    print(f"\n`sslfewshot segment --method prototype --model {arguments.model}`, support and target of")
    print(f"{size} voxels: {seconds:.0f} s ({processor:.0f} s of processor), peak memory {memory / 1e9:.2f} GB.")


def measured(options: dict, iterations: int, threads: int) -> dict[str, float]:
    """The mean over iterations, the first one left out."""
    import numpy as np
    import torch
    from SSLFewShotLib.imaging.phantoms import phantom
    from SSLFewShotLib.pretext.methods import make_task
    from SSLFewShotLib.sampling.batch import ScanBatch
    from SSLFewShotLib.sampling.extent import Extent
    from SSLFewShotLib.sampling.intensity import Intensity

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SSLFEWSHOT_SUPERVOXELS"] = folder
        task = make_task("alpnet", Extent(), Intensity.for_modality("CT"), None, options)
        scans = ScanBatch([task.preparation(phantom(seed)[0]) for seed in (0, 1)])
        optimiser = torch.optim.AdamW(task.modules().parameters(), 1e-4)
        for number in range(iterations + 1):
            if number == 1:
                processor, clock = time.process_time(), time.perf_counter()
            loss, _ = task.loss(task.sample(scans, np.random.default_rng(number)))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return {
        "processor": (time.process_time() - processor) / iterations,
        "clock": (time.perf_counter() - clock) / iterations,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def segmented(folder: Path, model: str, threads: int) -> tuple[float, float, int]:
    """Seconds of clock and of processor, and the most memory held, of the command on two made patients."""
    # In a process of its own, so that what it takes does not count.
    process = os.fork()
    if not process:
        from SSLFewShotLib.imaging.files import write_labels, write_volume
        from SSLFewShotLib.imaging.phantoms import phantom

        for seed, name in enumerate(("support", "target")):
            volume, labels = phantom(seed, size=SIZE, spacing=SPACING, name=name)
            write_volume(volume, folder / f"{name}_ct.nii.gz")
            write_labels(labels, folder / f"{name}.seg.nrrd")
        os._exit(0)
    if os.waitpid(process, 0)[1]:
        sys.exit("the scans could not be made")
    command = [sys.executable, "-m", "SSLFewShotLib", "segment", str(folder / "target_ct.nii.gz"), "--support"]
    command += [str(folder / "support_ct.nii.gz"), str(folder / "support.seg.nrrd"), "--method", "prototype"]
    command += ["--model", model, "--output", str(folder / "out"), "--device", "cpu"]
    began = time.monotonic()
    running = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, stdout=sys.stderr, stderr=subprocess.PIPE
    )
    said = running.stderr.read()
    _, status, usage = os.wait4(running.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"the command failed: {said.decode(errors='replace')[-300:]}")
    processor = usage.ru_utime + usage.ru_stime
    return time.monotonic() - began, processor, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
