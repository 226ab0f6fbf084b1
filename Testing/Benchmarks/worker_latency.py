"""How long a worker lets its user wait: for an answer, for a scan, for a cancel; and whether it gives memory back.

- protocol: time from request to answer of a call that computes nothing (an unknown method, refused by the worker),
  in ms: idle, and while a scan is being segmented.
- scans: seconds from request to result for a support and a scan of --size voxels: cold (the worker is started, and
  reads torch, model and support), the next scan warm, and that scan by the plain command line, a process of its
  own each time. Medians of --repeats; every cold worker is a new one.
- cancel: seconds from `cancel()` until the request has ended, at --cancels moments spread over the length of a
  job, half of them of jobs of which nothing is warm; by what the job said last. "ended by force": the worker did
  not stop by itself within the client's patience, was killed, and had to be started again.
- memory: resident memory of the worker (and used memory of its GPU) before the cancelled jobs and after them; and,
  for comparison, after as many jobs that were not cancelled. Linux.

    python Testing/Benchmarks/worker_latency.py [--model gvdiff] [--size 120 90 100] [--device cuda] > latency.md

Needs the installed library and nothing else. Let nothing else run beside it.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.imaging.files import write_labels, write_volume
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.worker.client import Request, WorkerClient, WorkerError

COMMAND = [sys.executable, "-u", "-m", "SSLFewShotLib.worker"]
CALLS = 500
MB = 1 << 20


class Bench:
    """One machine, model and size of scan."""

    def __init__(self, folder: Path, arguments: argparse.Namespace):
        self.folder = folder
        self.arguments = arguments
        self.random = random.Random(arguments.seed)
        self.jobs = 0
        for number in range(3):
            volume, labels = phantom(number, "CT", tuple(arguments.size), name=f"scan_{number}")
            write_volume(volume, folder / f"scan_{number}.nrrd")
            write_labels(labels, folder / f"scan_{number}.seg.nrrd")

    def new_client(self) -> WorkerClient:
        return WorkerClient(COMMAND)

    def segment(self, client: WorkerClient, scan: int = 1, cold: bool = False) -> Request:
        """Ask for a scan; cold: with a seed that nothing is warm for."""
        self.jobs += 1
        supports = [{"image": str(self.folder / "scan_0.nrrd"), "labels": str(self.folder / "scan_0.seg.nrrd")}]
        params = {
            "supports": supports,
            "targets": [str(self.folder / f"scan_{scan}.nrrd")],
            "output": str(self.folder / f"out-{self.jobs}"),
            "model": self.arguments.model,
            "device": self.arguments.device,
            "settings": {"seed": self.jobs} if cold else {},
        }
        return client.request("segment", params)

    def protocol(self, client: WorkerClient) -> dict[str, list[float]]:
        """ms of each call: idle, and while a scan is segmented."""
        idle = [call(client) for _ in range(CALLS)]
        running = self.segment(client)
        while not running.message:
            client.drain(0.01)
        busy = []
        while not running.done() and len(busy) < CALLS:
            busy.append(call(client))
            time.sleep(0.005)
        running.result()
        return {"idle": idle, "while a scan is segmented": busy}

    def scans(self) -> dict[str, list[float]]:
        """Seconds of each way to a result."""
        seconds: dict[str, list[float]] = defaultdict(list)
        for number in range(self.arguments.repeats):
            client = self.new_client()
            try:
                seconds["worker, first scan (cold start)"].append(timed(self.segmented, client, 1))
                seconds["worker, second scan (warm)"].append(timed(self.segmented, client, 2, True))
            finally:
                client.close()
            seconds["plain command line"].append(timed(self.plain, number))
        return seconds

    def segmented(self, client: WorkerClient, scan: int, warm: bool = False) -> None:
        report = self.segment(client, scan).result()
        assert report["warm"] == {"support": warm, "model": warm}, report["warm"]

    def plain(self, number: int) -> None:
        support = [self.folder / "scan_0.nrrd", self.folder / "scan_0.seg.nrrd"]
        options = ["--output", self.folder / f"plain-{number}", "--device", self.arguments.device]
        options += ["--model", self.arguments.model] if self.arguments.model else []
        command = [sys.executable, "-m", "SSLFewShotLib", "segment", self.folder / "scan_2.nrrd", "--support"]
        subprocess.run(list(map(str, [*command, *support, *options])), check=True, capture_output=True)

    def cancels(self, client: WorkerClient) -> list[tuple[str, float, bool]]:
        """(what the job said last, seconds, whether the worker was ended by force) of each cancel."""
        length = {cold: timed(self.segment(client, cold=cold).result) for cold in (True, False)}
        found = []
        count = self.arguments.cancels
        for number in self.random.sample(range(count), count):
            cold = number % 2 == 0
            pid = client.start()["pid"]
            request = self.segment(client, cold=cold)
            time.sleep(length[cold] * (number + self.random.random()) / count)
            stage = request.message
            begun = time.perf_counter()
            request.cancel()
            ended = request.exception()
            seconds = time.perf_counter() - begun
            if isinstance(ended, Cancelled):
                found.append((without_names(stage), seconds, client.pid != pid))
            elif ended is not None:
                raise ended
        return found


def call(client: WorkerClient) -> float:
    """ms of a call that is refused at once."""
    begun = time.perf_counter()
    error = client.request("nothing").exception()
    assert isinstance(error, WorkerError)
    return (time.perf_counter() - begun) * 1000


def timed(work: Callable[..., object], *arguments: object) -> float:
    """Seconds that a call takes."""
    begun = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begun


def without_names(stage: str) -> str:
    return " ".join(word for word in stage.split() if not word.startswith("scan_")) or "(nothing yet)"


def memory(client: WorkerClient) -> tuple[float, float | None]:
    """MB: resident memory of the worker (Linux), used memory of its GPU."""
    text = Path(f"/proc/{client.pid}/status").read_text()
    resident = int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) / 1024
    devices = client.request("initialize", {"protocol": 1, "client": "benchmark"}).result()["devices"]
    gpus = [d["memory_total"] - d["memory_free"] for d in devices if d["name"].startswith("cuda")]
    return resident, sum(gpus) / MB if gpus else None


def print_memory(rows: dict[str, tuple[float, float | None]]) -> None:
    print("\n| memory of the worker, MB | resident | GPU |\n|---|---:|---:|")
    for name, (resident, gpu) in rows.items():
        print(f"| {name} | {resident:.0f} | {'–' if gpu is None else f'{gpu:.0f}'} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="default: the library's")
    parser.add_argument("--size", type=int, nargs=3, default=[120, 90, 100], help="voxels of a scan")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cancels", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="worker-latency-") as folder:
        bench = Bench(Path(folder), arguments)
        client = bench.new_client()
        try:
            info = client.start()
            device = next((d["title"] for d in info["devices"] if d["name"] == arguments.device), None)
            title = device or ", ".join(d["title"] for d in info["devices"])
            model = arguments.model or info["default_model"]
            print(f"{platform.platform()}, {title}, torch {info['versions']['torch']}; ", end="")
            print(f"model {model}, scans of {' × '.join(map(str, arguments.size))} voxels.\n")

            print("| a call that computes nothing | n | median, ms | 99th percentile, ms | worst, ms |")
            print("|---|---:|---:|---:|---:|")
            for name, times in bench.protocol(client).items():
                ordered = sorted(times)
                late = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
                print(
                    f"| {name} | {len(times)} | {statistics.median(times):.2f} | {late:.2f} | {ordered[-1]:.2f} |"
                )

            print("\n| from request to result | median, s | all, s |\n|---|---:|---|")
            for name, times in bench.scans().items():
                print(f"| {name} | {statistics.median(times):.2f} | {', '.join(f'{t:.2f}' for t in times)} |")

            bench.segment(client, cold=True).result()
            levels = {"before": memory(client)}
            found = bench.cancels(client)
            levels[f"after {len(found)} cancelled jobs"] = memory(client)
            for number in range(arguments.cancels):
                bench.segment(client, scan=1 + number % 2, cold=number % 2 == 0).result()
            levels[f"after {arguments.cancels} jobs more, not cancelled"] = memory(client)
        finally:
            client.close()
    print("\n| cancelled while | n | median, s | worst, s | ended by force |\n|---|---:|---:|---:|---:|")
    stages = defaultdict(list)
    for stage, seconds, forced in found:
        stages[stage].append((seconds, forced))
    stages["**any of these**"] = [entry for entries in list(stages.values()) for entry in entries]
    for stage, entries in stages.items():
        times = [seconds for seconds, _ in entries]
        forced = sum(forced for _, forced in entries)
        print(f"| {stage} | {len(times)} | {statistics.median(times):.3f} | {max(times):.3f} | {forced} |")
    print_memory(levels)


if __name__ == "__main__":
    main()
