"""A folder of scans: killed half-way and resumed against undisturbed, and on a Dask cluster against one process.

Small phantoms (each another patient) are written, one of them with its labels. The command runs on them as a user
would run it, four times: undisturbed; killed (SIGKILL) each time another share of the scans is done, and resumed
with `--resume` until all are done; and, on a Dask cluster of two worker processes on this machine, with cold and
with warm workers. The results of all are compared byte by byte. Both one process and each Dask worker compute
with `--threads` threads, so that the ratio of the times tells what a second process gives. Ends with exit code 1
when any byte differs.

    python Testing/Benchmarks/batch.py [--scans 200] [--kills 3] [--model gvdiff] > batch.md

Linux or macOS; needs `distributed`. The times mean something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from SSLFewShotLib.imaging.files import write_labels, write_volume
from SSLFewShotLib.imaging.phantoms import phantom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--kills", type=int, default=1, help="times that the job is killed on its way (default 1)")
    parser.add_argument("--size", type=int, nargs=3, default=(64, 56, 72), metavar=("I", "J", "K"))
    parser.add_argument("--model", default="gvdiff")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = written_scans(folder, arguments.scans, tuple(arguments.size), arguments.model)
        print(f"{arguments.scans} scans were written", file=sys.stderr)
        seconds = {"one process, undisturbed": timed([*command, "--output", folder / "whole"])}
        begun = time.monotonic()
        taken_over = killed_and_resumed(command, folder / "parts", arguments.scans, arguments.kills)
        seconds["one process, killed and resumed"] = time.monotonic() - begun
        with cluster(arguments.workers, arguments.threads) as address:
            for kind in ("cold", "warm"):
                key = f"Dask cluster of {arguments.workers} processes, {kind}"
                seconds[key] = timed([*command, "--output", folder / kind, "--cluster", address])
        whole = results(folder / "whole")
        different = {
            other: [file for file in whole if results(folder / other).get(file) != whole[file]]
            for other in ("parts", "cold", "warm")
        }
        reported = json.loads((folder / "whole" / "report.json").read_text(encoding="utf-8"))
        size_of_report = (folder / "whole" / "report.json").stat().st_size
    first = seconds["one process, undisturbed"]
    load, mean = os.getloadavg()[0], reported["summary"]["seconds"] / arguments.scans
    print(f"{arguments.scans} phantoms of {' × '.join(map(str, arguments.size))} voxels, {arguments.model},")
    print(f"{arguments.threads} thread(s) a process, {os.cpu_count()} cores, {platform.system()},")
    print(
        f"load {load:.1f} at the end. Mean of one scan {mean:.2f} s, report.json {size_of_report / 1000:.0f} kB.\n"
    )
    print("| run | seconds | of the undisturbed one's |\n| --- | --- | --- |")
    for run, took in seconds.items():
        print(f"| {run} | {took:.1f} | {took / first:.2f} |")
    print(
        f"\nKilled {len(taken_over)} times; taken over by the run after each: {', '.join(map(str, taken_over))}."
    )
    for other, what in (("parts", "killed and resumed"), ("cold", "cluster, cold"), ("warm", "cluster, warm")):
        verdict = "byte-identical" if not different[other] else f"{len(different[other])} DIFFERENT"
        print(f"{what}: {len(whole)} result files, {verdict}.")
    sys.exit(any(different.values()))


def written_scans(folder: Path, count: int, size: tuple[int, int, int], model: str) -> list[object]:
    """Write a support and `count` scans; returns the command without its output."""
    (folder / "scans").mkdir()
    for seed in range(count + 1):
        volume, labels = phantom(seed, "CT", size, name=f"pt_{seed:03d}")
        if seed == 0:
            write_volume(volume, folder / "support_ct.nii.gz")
            write_labels(labels, folder / "support.seg.nrrd")
        else:
            write_volume(volume, folder / "scans" / f"pt_{seed:03d}_ct.nii.gz")
    support = ["--support", folder / "support_ct.nii.gz", folder / "support.seg.nrrd"]
    python = [sys.executable, "-m", "SSLFewShotLib"]
    return [*python, "segment", folder / "scans", *support, "--model", model, "--device", "cpu"]


def timed(command: list[object]) -> float:
    """Seconds that a command takes."""
    begun = time.monotonic()
    done = subprocess.run([str(part) for part in command], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"the command failed ({done.returncode})")
    return time.monotonic() - begun


def killed_and_resumed(command: list[object], output: Path, count: int, kills: int) -> list[int]:
    """Kill the job `kills` times on its way and let it finish; returns how many scans each run took over."""
    taken_over = []
    for number in range(kills):
        process = subprocess.Popen(
            [str(part) for part in (*command, "--output", output, "--resume")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Two files a scan: as likely between them as not.
        while process.poll() is None and len(results_there(output)) < 2 * count * (number + 1) / (kills + 1):
            time.sleep(0.002)
        if process.poll() is not None:
            sys.exit("the job was over before it could be killed; take more scans")
        process.kill()
        process.wait()
        targets = json.loads((output / "report.json").read_text(encoding="utf-8"))["targets"]
        taken_over.append(len(targets))
        print(f"killed with {len(targets)} of {count} scans done", file=sys.stderr)
    timed([*command, "--output", output, "--resume"])
    told = json.loads((output / "report.json").read_text(encoding="utf-8"))["summary"]
    if told["taken_over"] != taken_over[-1] or told["failed"]:
        sys.exit(
            f"{told['taken_over']} scans were taken over, {taken_over[-1]} were done; {told['failed']} failed"
        )
    return taken_over


def results_there(folder: Path) -> list[Path]:
    """The result files in a folder."""
    return list(folder.glob("*.nii.gz"))


def results(folder: Path) -> dict[str, bytes]:
    """Name → content of every result."""
    return {path.name: path.read_bytes() for path in results_there(folder)}


class cluster:  # noqa: N801 - a context manager that reads as a noun
    """A Dask cluster of processes on this machine, in a process of its own; gives its scheduler's address."""

    def __init__(self, workers: int, threads: int):
        self._script = (
            "import sys, dask, distributed\n"
            "if __name__ == '__main__':\n"
            f"    dask.config.set({{'distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS': {threads}}})\n"
            f"    started = distributed.LocalCluster(n_workers={workers}, threads_per_worker=1,\n"
            "        dashboard_address=None, host='127.0.0.1')\n"
            "    print(started.scheduler_address, flush=True)\n"
            "    sys.stdin.read()\n"
            "    started.close()\n"
        )

    def __enter__(self) -> str:
        with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as file:
            file.write(self._script)
        self._file = Path(file.name)
        self._process = subprocess.Popen(
            [sys.executable, file.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self._process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._file.unlink()


if __name__ == "__main__":
    main()
