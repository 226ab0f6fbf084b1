"""Peak memory and time of `sslfewshot localise` and `crop` on a tomogram of 2000 x 2000 x 1000 voxels (8 GB).

A synthetic tomogram (`imaging.phantom_tomogram`: an object in a tube, with a holder and bubbles) is written
as an uncompressed .nrrd, and both commands run on it as a user would run them, each in a process of its own.
Measured are the most memory that the process has held (the kernel's own count, which `os.wait4` returns,
pages of the file that are mapped included), the time, and what came out against the known box. Ends with exit
code 1 above the limit.

    python Testing/Benchmarks/tomogram.py [--model NAME_OR_DIR] [--method clustering] > tomogram.md

Without --model a slice-rotation model is pretrained on 40 small tomograms first, for --minutes. Linux or
macOS; needs as much disk as the tomogram and its crop take, in --folder, which is emptied again. A few
minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from SSLFewShotLib.imaging.crop import CropRange, crop_range
from SSLFewShotLib.imaging.cropped_files import write_cropped
from SSLFewShotLib.imaging.files import write_volume
from SSLFewShotLib.imaging.lazy import open_scan
from SSLFewShotLib.imaging.phantom_tomogram import TomogramPhantom
from SSLFewShotLib.imaging.roi_files import read_roi
from SSLFewShotLib.imaging.volume import Volume

SEED = 2026


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=(2000, 2000, 1000), metavar=("I", "J", "K"))
    parser.add_argument("--model")
    parser.add_argument("--method", choices=("certainty", "clustering"), default="clustering")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--limit-gb", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, help="for the files (default: the system's temporary one)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        measure(arguments, Path(name))


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    phantom = TomogramPhantom(SEED, tuple(arguments.size))
    wanted = phantom.voxels * 2
    if shutil.disk_usage(folder).free < 1.6 * wanted:
        sys.exit(f"{folder}: {1.6 * wanted / 1e9:.0f} GB of free disk are needed")
    model = arguments.model or pretrained(folder, arguments.minutes, arguments.threads)
    path = folder / "tomogram.nrrd"
    # In a process of its own, so that what it takes is free again.
    process = os.fork()
    if not process:
        write_cropped(phantom, CropRange((0, 0, 0), phantom.size, phantom.size), path, in_memory_up_to=0)
        os._exit(0)
    if os.waitpid(process, 0)[1]:
        sys.exit("the tomogram could not be written")
    found, cropped = folder / "found", folder / "cropped"
    steps = {
        "localise": [
            *("localise", path, "--method", arguments.method, "--model", model),
            *("--output", found, "--device", "cpu"),
        ],
        "crop": ["crop", path, "--box", found, "--output", cropped],
    }
    size = " × ".join(map(str, arguments.size))
    print(f"A synthetic tomogram of {size} voxels, {path.stat().st_size / 1e9:.2f} GB; {arguments.method}; ")
    print(f"{arguments.threads} threads, {platform.system()}, limit {arguments.limit_gb:g} GB.\n")
    print("| | seconds | peak memory, GB |\n| --- | --- | --- |")
    most = 0
    for name, command in steps.items():
        peak, seconds = watched(list(map(str, command)), arguments.threads)
        most = max(most, peak)
        print(f"| `{name}` | {seconds:.0f} | {peak / 1e9:.2f} |", flush=True)
    print(f"\n{outcome(phantom, found, cropped, path)}")
    sys.exit(most > arguments.limit_gb * 1e9)


def pretrained(folder: Path, minutes: float, threads: int) -> Path:
    """A model of slice-rotation, from small tomograms of other specimens.

    Across the tube's axis only: slices along it show its walls, whose turn is plain to see without any object.
    """
    scans = folder / "scans"
    for seed in range(40):
        small = TomogramPhantom(seed)
        volume = Volume(small.slab(0, small.shape[0]), small.ijkToLps, small.name)
        write_volume(volume, scans / f"t_{seed:03}.nrrd")
    model = folder / "slice-rotation-tomograms"
    command = [
        "pretrain",
        scans,
        "--method",
        "slice-rotation",
        "--axes",
        "S",
        "--minutes",
        minutes,
        "--output",
        model,
    ]
    watched([*map(str, command), "--device", "cpu"], threads)
    return model


def watched(command: list[str], threads: int) -> tuple[int, float]:
    """Run the command; returns its peak memory in bytes and its seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "SSLFewShotLib", *command], stdout=sys.stderr, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"`{' '.join(command)}` failed ({process.returncode})")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), time.monotonic() - began


def outcome(phantom: TomogramPhantom, found: Path, cropped: Path, path: Path) -> str:
    """What was found against the known box, and whether the crop is the tomogram's own voxels."""
    (target,) = json.loads((found / "report.json").read_text())["targets"]
    (made,) = json.loads((cropped / "report.json").read_text())["targets"]
    box, truth = read_roi(found / target["file"]), phantom.box
    low, high = (np.stack([b.centre - b.size / 2, b.centre + b.size / 2]) for b in (box, truth))
    voxel = phantom.ijkToLps[0, 0]
    faces = np.abs(low - high).ravel() / voxel
    shares = faces / np.tile(truth.size / voxel, 2)
    common = np.prod(np.maximum(np.minimum(low[1], high[1]) - np.maximum(low[0], high[0]), 0))
    overlap = common / (box.volume + truth.volume - common)
    part = open_scan(cropped / made["cropped"])
    first, size = made["crop"]["first"], made["crop"]["size"]
    scan = open_scan(path)
    same = all(
        np.array_equal(
            part.slab(k, k + 1)[0],
            scan.slab(first[2] + k, first[2] + k + 1)[
                0, first[1] : first[1] + size[1], first[0] : first[0] + size[0]
            ],
        )
        for k in range(0, size[2], max(1, size[2] // 20))
    )
    true_saving = crop_range(phantom, truth).saved
    return (
        f"Certainty {target['certainty']:.2f}; IoU with the known box {overlap:.3f}; error of a face "
        f"{faces.mean():.1f} voxels on average ({shares.mean():.1%} of the object's side), {faces.max():.1f} at "
        f"most; the crop has {' × '.join(map(str, size))} voxels, {made['crop']['saved']:.1%} of the storage is "
        f"saved (true box: {true_saving:.1%}); its voxels are {'' if same else 'NOT '}those of the tomogram."
    )


if __name__ == "__main__":
    main()
