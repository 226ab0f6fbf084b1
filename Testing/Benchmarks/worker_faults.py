"""Requests to a worker with faults thrown in at random: is any lost without an error, or any result wrong?

Small phantoms are segmented, up to three requests at a time by one client, in an order drawn from a seed. Most
requests are to succeed; into the others one of these faults is thrown, at a random moment after the request began:

- kill: SIGKILL for the worker; hang: SIGSTOP for the worker, then the request is cancelled
- cancel: the request is cancelled
- bad file: the target is cut off, empty, no scan, a folder without scans, or vanishes
- full disk: the worker may write no file above 100 to 3000 bytes (RLIMIT_FSIZE), or the results go to a full file
  system that --full names (`mount -t tmpfs -o size=16k tmpfs FOLDER; cat /dev/zero > FOLDER/full` makes one)
- wrong call: an unknown method, a missing or a wrong parameter

Every result is compared, byte by byte, with that of an undisturbed run. Counted as failures of the worker: no
answer within --patience seconds; a result that differs; an error that nothing thrown in explains; after a request
that did not succeed, anything in its output folder but the whole and right results that were finished before; an
unfinished file anywhere, or a process left in the end. A request that was killed by what was meant for another
one, which had just ended, has to say so and counts as told.

    python Testing/Benchmarks/worker_faults.py [--requests 500] [--seed 0] [--full FOLDER] > faults.md

Linux (prlimit). Needs the installed library and nothing else; one to two seconds a request. Exit code 1 after
failures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.imaging.files import write_labels, write_volume
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.worker import process_tree, protocol
from SSLFewShotLib.worker.client import Request, WorkerClient, WorkerError, WorkerLost

COMMAND = [sys.executable, "-u", "-m", "SSLFewShotLib.worker"]
SIZE = (24, 20, 22)
SCANS = 4
KINDS = {
    "knn": {"model": "gvdiff", "settings": {"spacing": 16.0}},
    "knn, finer": {"model": "gvdiff", "settings": {"spacing": 10.0}},
    "box": {"method": "box"},
}
FAULTS = {"none": 50, "kill": 10, "hang": 4, "cancel": 14, "bad file": 10, "full disk": 6, "wrong call": 6}
MAY_FAIL = {
    "bad file": {protocol.WRONG_INPUT},
    "full disk": {protocol.NOT_WRITTEN},
    "wrong call": {protocol.METHOD_NOT_FOUND, protocol.INVALID_PARAMS},
}
AT_ONCE = 3
FULL = (100, 3000)


@dataclass
class Case:
    """One request: what is asked for, what is thrown in and when (seconds after it began), and how it ended."""

    number: int
    fault: str
    kind: str
    scan: int
    method: str
    params: dict
    output: Path
    moment: float
    asked: float = 0.0
    began: float | None = None
    thrown: bool = False
    request: Request | None = None
    outcome: str = ""
    failures: list[str] = field(default_factory=list)


class Run:
    """All requests of one client."""

    def __init__(self, folder: Path, seed: int, patience: float, full: Path | None):
        self.folder = folder
        self.random = random.Random(seed)
        self.patience = patience
        self.full = full
        self.client = WorkerClient(COMMAND, environment={"OMP_NUM_THREADS": "1"})
        self.pids: set[int] = set()
        self.kills = 0
        self.supports = []
        for number in range(SCANS):
            volume, labels = phantom(number, "CT", SIZE, name=f"scan_{number}")
            write_volume(volume, folder / f"scan_{number}.nrrd")
            write_labels(labels, folder / f"scan_{number}.seg.nrrd")
        pair = {"image": str(folder / "scan_0.nrrd"), "labels": str(folder / "scan_0.seg.nrrd")}
        self.pairs = [pair]
        self.expected: dict[tuple[str, int], dict[str, bytes]] = {}

    def prepare(self) -> None:
        """Compute every result once, by a worker that nobody disturbs, and set the support of the others."""
        client = WorkerClient(COMMAND, environment={"OMP_NUM_THREADS": "1"})
        try:
            for kind, settings in KINDS.items():
                for scan in range(1, SCANS):
                    output = self.folder / f"expected-{kind}-{scan}"
                    params = {"supports": self.pairs, "targets": [self.scan(scan)], "output": str(output)}
                    client.request("segment", {**params, **settings}).result(self.patience)
                    self.expected[kind, scan] = results_in(output)
        finally:
            client.close()
        answer = self.client.request("support/set", {"supports": self.pairs}).result(self.patience)
        self.support = answer["support"]

    def scan(self, number: int) -> str:
        return str(self.folder / f"scan_{number}.nrrd")

    def draw(self, number: int) -> Case:
        """The next request and what is to happen to it."""
        fault = self.random.choices(list(FAULTS), list(FAULTS.values()))[0]
        kind, scan = self.random.choice(list(KINDS)), self.random.randrange(1, SCANS)
        output = self.folder / f"out-{number}"
        params = {"targets": [self.scan(scan)], "output": str(output), **KINDS[kind]}
        params.update({"support": self.support} if self.random.random() < 0.7 else {"supports": self.pairs})
        method = "segment"
        if fault == "bad file":
            params["targets"] = [str(self._bad_file(number))]
        elif fault == "full disk" and self.full is not None:
            output = self.full / f"out-{number}"
            params["output"] = str(output)
        elif fault == "wrong call":
            wrong = self.random.choice(["method", "missing", "unknown", "type"])
            method = "segmant" if wrong == "method" else method
            if wrong == "missing":
                del params["output"]
            if wrong == "unknown":
                params["colour"] = "red"
            if wrong == "type":
                params["targets"] = 7
        return Case(number, fault, kind, scan, method, params, output, self.random.uniform(0, 0.5))

    def _bad_file(self, number: int) -> Path:
        path = self.folder / f"bad-{number}.nrrd"
        whole = Path(self.scan(1)).read_bytes()
        how = self.random.choice(["cut off", "empty", "text", "folder", "vanished"])
        if how == "folder":
            path.mkdir()
        elif how != "vanished":
            path.write_bytes({"cut off": whole[: len(whole) // 2], "empty": b"", "text": b"no scan\n" * 99}[how])
        return path

    def go(self, requests: int) -> list[Case]:
        """Send all requests, some at a time, throw in their faults, and judge how they end."""
        done: list[Case] = []
        open_cases: list[Case] = []
        drawn = 0
        while drawn < requests or open_cases:
            alone = any(self._is_alone(case) for case in open_cases)
            while drawn < requests and len(open_cases) < AT_ONCE and not alone:
                case = self.draw(drawn)
                if self._is_alone(case):
                    done += self._finish_all(open_cases)
                    self._limit_files(self.random.randrange(*FULL))
                    alone = True
                drawn += 1
                case.asked = time.monotonic()
                case.request = self.client.request(case.method, case.params)
                open_cases.append(case)
            ended = self._step(open_cases)
            done += ended
            if alone and not open_cases:
                self._limit_files(resource.RLIM_INFINITY)
            if ended and len(done) % 25 == 0:
                print(f"{len(done)} of {requests}", file=sys.stderr)
        return sorted(done, key=lambda case: case.number)

    def _is_alone(self, case: Case) -> bool:
        """Whether it bears no others: the limit on files is the whole worker's."""
        return case.fault == "full disk" and self.full is None

    def _finish_all(self, open_cases: list[Case]) -> list[Case]:
        done = []
        while open_cases:
            done += self._step(open_cases)
        return done

    def _step(self, open_cases: list[Case]) -> list[Case]:
        """Wait a little; throw in what is due; take out and judge what has ended."""
        self.client.drain(0.005)
        now = time.monotonic()
        if self.client.pid is not None:
            self.pids.add(self.client.pid)
        for case in open_cases:
            if case.request.state == "running" and case.request.message and case.began is None:
                case.began = now
            if case.began is not None and not case.thrown and now - case.began >= case.moment:
                self._throw(case)
        ended = [case for case in open_cases if case.request.done() or now - case.asked > self.patience]
        for case in ended:
            open_cases.remove(case)
            self._judge(case)
        return ended

    def _throw(self, case: Case) -> None:
        case.thrown = True
        if case.request.done():
            return
        if case.fault == "cancel":
            case.request.cancel()
        elif case.fault in ("kill", "hang") and self.client.pid is not None:
            self.kills += 1
            os.kill(self.client.pid, signal.SIGKILL if case.fault == "kill" else signal.SIGSTOP)
            if case.fault == "hang":
                case.request.cancel()

    def _limit_files(self, size: int) -> None:
        self.client.start()
        _, hard = resource.prlimit(self.client.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.client.pid, resource.RLIMIT_FSIZE, (size, hard))

    def _judge(self, case: Case) -> None:
        """Write down how it ended, and what about that must not be."""
        if not case.request.done():
            case.outcome = "no answer"
            case.failures.append(f"no answer within {self.patience:g} s")
            return
        error = case.request.exception()
        if error is None:
            case.outcome = "result"
            expected = None if case.fault in MAY_FAIL else self.expected[case.kind, case.scan]
            if expected is None:
                case.failures.append("succeeded though it could not")
            elif results_in(case.output) != expected:
                case.failures.append("its result differs")
            return
        if isinstance(error, Cancelled):
            case.outcome = "cancelled"
            if case.fault not in ("cancel", "hang"):
                case.failures.append("was cancelled, though nobody asked for that")
        elif isinstance(error, WorkerLost):
            case.outcome = "told of the loss"
            if self.kills == 0:
                case.failures.append(f"lost without a kill: {error}")
        else:
            case.outcome = "error"
            if not isinstance(error, WorkerError) or error.code not in MAY_FAIL.get(case.fault, set()):
                case.failures.append(f"{type(error).__name__}: {error}")
        expected = self.expected[case.kind, case.scan]
        for path in sorted(case.output.rglob("*")) if case.output.exists() else []:
            if path.name == "report.json" and json.loads(path.read_text())["targets"]:
                continue
            if case.fault == "bad file" or path.read_bytes() != expected.get(path.name):
                case.failures.append(f"left {path.name}, which is not whole or not right")

    def end(self) -> list[str]:
        """Close the client; returns what is left that should not be."""
        self.client.close()
        left = [f"process {pid}" for pid in self.pids if is_alive(pid)]
        places = [self.folder, *([self.full] if self.full else [])]
        return left + [str(path) for place in places for path in place.rglob(".writing-*")]


def results_in(folder: Path) -> dict[str, bytes]:
    """Every result by its name; the report has times in it."""
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


def is_alive(pid: int) -> bool:
    found = process_tree.find(pid)
    return found is not None and not found.ended


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--patience", type=float, default=120.0, help="seconds for one request, its queueing included"
    )
    parser.add_argument("--full", type=Path, help="a folder on a file system that has no room")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="worker-faults-") as folder:
        run = Run(Path(folder), arguments.seed, arguments.patience, arguments.full)
        started = time.monotonic()
        try:
            run.prepare()
            cases = run.go(arguments.requests)
        finally:
            left = run.end()
        seconds = time.monotonic() - started
    outcomes = ("result", "cancelled", "told of the loss", "error", "no answer")
    print(
        f"{len(cases)} requests, seed {arguments.seed}, {seconds / 60:.1f} minutes, {platform.platform()}, ",
        end="",
    )
    print(f"Python {platform.python_version()}; {len(run.pids)} workers, {run.kills} of them killed or stopped.\n")
    print(f"| thrown in | requests | {' | '.join(outcomes)} | failures |")
    print("|---|" + "---:|" * (len(outcomes) + 2))
    for fault in FAULTS:
        of_fault = [case for case in cases if case.fault == fault]
        counts = Counter(case.outcome for case in of_fault)
        row = [len(of_fault), *(counts[outcome] for outcome in outcomes), sum(bool(c.failures) for c in of_fault)]
        print(f"| {fault} | {' | '.join(str(cell) for cell in row)} |")
    failed = [case for case in cases if case.failures]
    succeeded = sum(case.outcome == "result" for case in cases)
    print(f"\nIdentical, byte by byte, to an undisturbed run: {succeeded - len(failed_results(failed))} ", end="")
    print(f"of {succeeded} results. Failures: {len(failed)}. Left in the end: {', '.join(left) or 'nothing'}.")
    for case in failed:
        print(f"- request {case.number} ({case.fault}, {case.kind}): {'; '.join(case.failures)}")
    return 1 if failed or left else 0


def failed_results(failed: list[Case]) -> list[Case]:
    return [case for case in failed if case.outcome == "result"]


if __name__ == "__main__":
    sys.exit(main())
