"""How long the application is kept waiting while the panel segments scans: the longest blocks of its main thread.

A real CT, made finer to the sizes of large scans, is segmented from another one by the panel in the test host. A
timer of 5 ms in the event loop tells how long nothing else could run. Beside the time stands the processor time
that the main thread itself took in it: the rest is waiting for other threads or programs. A second thread looks
every 5 ms at what the main thread does, so that a long block can be named; what Python's garbage collection took
of it is told too. Own time includes waiting for the kernel: while another thread of the program frees arrays of
hundreds of MB, a few small allocations can take 50 ms.

    python Testing/Benchmarks/slicer_blocks.py [--repeats 3] [--sizes small,fine,large] [--who]

Needs what the test host needs (SlicerHost/README.md), a worker and SSLFEWSHOT_DATA. Prints Markdown.
"""

import argparse
import collections
import gc
import os
import sys
import threading
import time
import traceback
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING / "Slicer")]

from panel_scene import apply, choose  # noqa: E402 - finds the module
from real_scans import add_real  # noqa: E402

SIZES = {"small": None, "fine": (440, 252, 416), "large": (512, 512, 200)}
TICK = 0.005


class Watch:
    """Blocks of the event loop: (seconds, the main thread's own, those of garbage collection, what it did)."""

    def __init__(self, qt):
        self.blocks = []
        self._main = threading.get_ident()
        self._last = self._cpu = None
        self._seen = collections.deque(maxlen=1000)
        self._timer = qt.QTimer()
        self._timer.setTimerType(qt.Qt.PreciseTimer)
        self._timer.interval = int(1000 * TICK)
        self._timer.connect("timeout()", self._tick)
        self._running = False
        self._collected = self._collecting = 0.0
        gc.callbacks.append(self._collect)
        threading.Thread(target=self._look, daemon=True).start()

    def start(self):
        self.blocks, self._last, self._running = [], None, True
        self._timer.start()

    def stop(self):
        self._running = False
        self._timer.stop()

    def _tick(self):
        now, cpu = time.perf_counter(), time.thread_time()
        if self._last is not None and now - self._last > 4 * TICK:
            seen = collections.Counter(list(self._seen)).most_common(1)
            self.blocks.append((now - self._last - TICK, cpu - self._cpu, self._collected, seen))
        self._last, self._cpu, self._collected = now, cpu, 0.0
        self._seen.clear()

    def _collect(self, phase, _info):
        """Every thread waits while one of them collects garbage."""
        if phase == "start":
            self._collecting = time.perf_counter()
        else:
            self._collected += time.perf_counter() - self._collecting

    def _look(self):
        while True:
            time.sleep(TICK)
            if self._running and self._last is not None and time.perf_counter() - self._last > 4 * TICK:
                frames = traceback.extract_stack(sys._current_frames()[self._main])
                ours = [
                    f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames if "SSLFewShot" in f.filename
                ]
                self._seen.append(" < ".join(reversed(ours[-3:])))


def measure(panel, host, watch, size, repeats, who):
    """Segment `repeats` times; print the longest block of each, and of all what they were."""
    import slicer

    support, target = add_real("013", True, size), add_real("004", False, size)
    choose(panel, host, support, target)
    shape = " × ".join(map(str, target.GetImageData().GetDimensions()))
    told = []
    for _ in range(repeats):
        panel.session.support_files.forget()
        host.process(1.0)
        watch.start()
        began = time.perf_counter()
        job = apply(panel, host, 900)
        host.process(0.5)
        watch.stop()
        assert job.state == "done", job.sentence
        longest = sorted(watch.blocks, reverse=True)[:5]
        told.append((longest[0] if longest else (0.0, 0.0, 0.0, []), time.perf_counter() - began))
        if who:
            for block, own, collecting, seen in longest:
                named = seen[0][0] if seen else "not seen"
                parts = f"own {1000 * own:.0f} ms, garbage collection {1000 * collecting:.0f} ms"
                print(f"<!-- {1000 * block:.0f} ms, {parts}: {named} -->", flush=True)
        panel.ui.undoButton.click()
        host.process(0.5)
    blocks = ", ".join(f"{1000 * block:.0f} ({1000 * own:.0f})" for (block, own, *_), _seconds in told)
    print(f"| {shape} | {blocks} | {min(seconds for _, seconds in told):.0f} |", flush=True)
    slicer.mrmlScene.Clear(0)
    host.process(0.5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--who", action="store_true", help="name the five longest blocks of each")
    arguments = parser.parse_args()
    import SlicerHost as host  # noqa: N813

    host.start()
    import qt

    panel = host.open_module("SSLFewShot").panel
    panel.setup.ask_devices()
    host.wait_until(lambda: panel.session.info is not None, 60)
    watch = Watch(qt)
    print("| voxels | longest block of each run, ms (own processor time of the main thread) | s a run |")
    print("|---|---|---|")
    for name in arguments.sizes.split(","):
        measure(panel, host, watch, SIZES[name], arguments.repeats, arguments.who)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
