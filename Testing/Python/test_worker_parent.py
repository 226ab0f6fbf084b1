"""A worker whose parent has died ends itself, even where its input does not end."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from worker_process import FAULTY

# Starts a worker, passes its first line on, and waits.
PARENT = """
import subprocess, sys, time
worker = subprocess.Popen(sys.argv[1:], stdin=0, stdout=1)
time.sleep(600)
"""

WATCHER = """
import os, select, sys, time
for name in sys.argv[1:]:
    [vars(module).pop(name, None) for module in (os, select)]
from SSLFewShotLib.worker.parent import watch_parent
watch_parent(lambda: (os.write(1, b"parent died"), os._exit(0)))
os.write(1, b"watching")
time.sleep(600)
"""


class Orphan:
    """A grandchild; its standard input stays open here, and its output ends when the last of both has died."""

    def __init__(self, command, temporary: Path):
        child_in, self.to_child = os.pipe()
        self.from_child, child_out = os.pipe()
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, *command],
            stdin=child_in,
            stdout=child_out,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        os.close(child_in)
        os.close(child_out)

    def __enter__(self) -> "Orphan":
        return self

    def __exit__(self, *_) -> None:
        self.parent.kill()
        self.parent.wait()
        os.close(self.to_child)
        os.close(self.from_child)

    def read(self, timeout: float = 20.0) -> bytes:
        """What it says next, b"" when it has died."""
        assert select.select([self.from_child], [], [], timeout)[0], "it says nothing, and lives"
        return os.read(self.from_child, 1 << 16)

    def seconds_to_die(self, timeout: float = 10.0) -> float:
        began = time.monotonic()
        while self.read(timeout):
            pass
        return time.monotonic() - began


pytestmark = pytest.mark.skipif(os.name == "nt", reason="the pipes are passed on in POSIX's way")


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_ends_when_its_parent_is_killed(tmp_path, busy):
    with Orphan(FAULTY, tmp_path) as worker:
        assert b"hello" in worker.read()
        os.write(worker.to_child, b'{"jsonrpc": "2.0", "id": 1, "method": "folder"}\n')
        assert str(tmp_path).encode() in worker.read()
        if busy:
            os.write(
                worker.to_child, b'{"jsonrpc": "2.0", "id": 2, "method": "deaf", "params": {"seconds": 60}}\n'
            )
            assert b"progress" in worker.read()
        worker.parent.send_signal(signal.SIGKILL)
        assert worker.seconds_to_die() < 4.0
    assert not list(tmp_path.glob("sslfewshot-worker-*")), "its folder went with it"


@pytest.mark.parametrize("without", [(), ("pidfd_open",), ("pidfd_open", "kqueue")])
def test_the_death_of_the_parent_is_noticed_with_and_without_the_systems_help(tmp_path, without):
    with Orphan([sys.executable, "-c", WATCHER, *without], tmp_path) as watcher:
        assert watcher.read() == b"watching"
        time.sleep(1.0)
        assert not select.select([watcher.from_child], [], [], 0)[0], "the parent lives"
        watcher.parent.kill()
        watcher.parent.wait()
        assert watcher.read(5.0) == b"parent died"


def test_a_parent_that_died_before_it_was_looked_at_is_noticed():
    other = subprocess.Popen([sys.executable, "-c", "pass"])
    other.wait()
    code = f"from SSLFewShotLib.worker.parent import wait_for_parent; wait_for_parent({other.pid})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
