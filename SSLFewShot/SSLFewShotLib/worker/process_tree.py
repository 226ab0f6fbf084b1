"""A process with all that it started: found and ended as a whole.

Pure standard library of Python 3.9. A program such as `PythonSlicer` or `ssh` is only the launcher of the process
that computes: ending it alone would leave the other one with the memory of the GPU.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

if sys.platform == "win32":
    from SSLFewShotLib.worker import windows_processes


class Process(NamedTuple):
    """One process. A number is given again once its process has gone; number and start are not."""

    pid: int
    parent: int
    group: int
    session: int
    started: str
    ended: bool
    """Ended, and not yet asked for its exit code by its parent."""


def find(pid: int) -> Process | None:
    """What the system says of a process, or None when there is none of this number."""
    return _from_proc(pid) if _has_proc() else processes().get(pid)


def is_running(process: Process) -> bool:
    """Whether exactly this process is there still, and not only its number."""
    now = find(process.pid)
    return now is not None and now.started == process.started and not now.ended


def processes() -> dict[int, Process]:
    """Every process that can be seen, by its number."""
    if sys.platform == "win32":
        return {
            pid: Process(pid, parent, 0, 0, started, False) for pid, parent, started in windows_processes.listed()
        }
    if _has_proc():
        found = [_from_proc(int(name)) for name in os.listdir("/proc") if name.isdigit()]
        return {process.pid: process for process in found if process is not None}
    return _from_ps()


def tree(*roots: Process) -> list[Process]:
    """Those of the given processes that are there still, their process groups, and all that they started.

    Left out: what has made itself a session of its own, as a job does that is to outlive its parent, and this very
    process. A root whose number belongs to another process by now has nothing to find.
    """
    table = processes()
    own = os.getpid()
    found: dict[int, Process] = {}
    for root in roots:
        now = table.get(root.pid)
        if now is not None and now.started != root.started:
            continue
        if now is not None:
            found[root.pid] = now
        if root.group == root.pid:
            found.update({p.pid: p for p in table.values() if p.group == root.pid and p.session == root.session})
    found.pop(own, None)
    grown = True
    while grown:
        grown = False
        for process in table.values():
            parent = found.get(process.parent)
            if parent is None or process.pid in found or process.pid == own:
                continue
            # A child cannot be older than its parent: the parent's number would have been another's then.
            if process.session == parent.session and _age_order(parent, process):
                found[process.pid] = process
                grown = True
    return list(found.values())


def kill_tree(
    pid: int, started: str | None = None, also: Iterable[Process] = (), timeout: float = 2.0
) -> list[int]:
    """End a process, its group and all that they started, at once; returns the numbers of those that were ended.

    started: what `find(pid).started` said when the process was known to be the right one; None: it is the right
    one. also: further processes that belong to it, found earlier (a launcher that has gone names no children any
    more). Nothing outside the tree is touched, see `tree`. Waits up to `timeout` seconds until they are gone.
    """
    root = find(pid)
    if root is not None and started is not None and root.started != started:
        root = None
    roots = [process for process in (root, *also) if process is not None]
    killed: set[int] = set()
    deadline = time.monotonic() + timeout
    seen_none = False
    while roots:
        # Once more each time: one that was just being started is in the next list. A list takes a while to make,
        # and one that starts another and ends meanwhile hides both, so that the first without any may be wrong.
        alive = [process for process in tree(*roots) if not process.ended]
        if not alive and seen_none:
            break
        seen_none = not alive
        if sys.platform == "win32":
            _taskkill(alive)
        else:
            for root in roots:
                _kill_group(root)
            for process in alive:
                _kill(process)
        killed.update(process.pid for process in alive)
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return sorted(killed)


def _kill(process: Process) -> None:
    if is_running(process):
        try:
            os.kill(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def _kill_group(root: Process) -> None:
    """End all of the group that a process leads, at once: those too that are being started and in no list."""
    now = find(root.pid)
    if root.group == root.pid and (now is None or now.started == root.started):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(root.pid, signal.SIGKILL)


def _taskkill(alive: list[Process]) -> None:
    numbers = [part for process in alive for part in ("/PID", str(process.pid))]
    subprocess.run(
        ["taskkill", "/T", "/F", *numbers],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        check=False,
    )


def _age_order(parent: Process, child: Process) -> bool:
    """Whether the child was started no earlier, as far as the system's times can be compared."""
    if parent.started.isdigit() and child.started.isdigit():
        return int(child.started) >= int(parent.started)
    return True


def _has_proc() -> bool:
    return sys.platform.startswith("linux") and os.path.exists("/proc/self/stat")


def _from_proc(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name stands in brackets and may hold anything, brackets too.
    fields = text[text.rindex(b")") + 2 :].split()
    state, parent, group, session = fields[0], int(fields[1]), int(fields[2]), int(fields[3])
    return Process(pid, parent, group, session, fields[19].decode(), state in (b"Z", b"X"))


def _from_ps() -> dict[int, Process]:
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "pgid=", "-o", "stat=", "-o", "lstart="],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    ).stdout.decode("ascii", "replace")
    found = {}
    for line in listing.splitlines():
        fields = line.split(None, 4)
        if len(fields) < 5:
            continue
        pid, parent, group = (int(field) for field in fields[:3])
        found[pid] = Process(pid, parent, group, _session(pid), fields[4].strip(), fields[3].startswith("Z"))
    return found


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0
