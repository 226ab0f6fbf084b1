"""Processes that outlive the one that started them, and telling later whether they still run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import OutputError
from SSLFewShotLib.worker import process_tree

# Started by a process that ends at once, so that it is nobody's child: whoever ends the worker with all that it
# has started does not find it.
_LAUNCHER = """
import json, os, subprocess, sys
given = json.loads(sys.argv[1])
kind = {"start_new_session": True}
if os.name == "nt":
    kind = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
with open(given["log"], "ab") as log:
    process = subprocess.Popen(
        given["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=given["directory"], **kind
    )
print(process.pid, flush=True)
os._exit(0)
"""
_LAUNCH_SECONDS = 60.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def start_detached(module: str, arguments: Sequence[str], log: Path, directory: Path) -> int:
    """Start `python -m module arguments` in a session of its own; returns its process number.

    log: the file that its output is added to. Raises OutputError when it cannot be started.
    """
    command = [sys.executable, "-m", module, *arguments]
    given = json.dumps({"command": command, "log": str(log), "directory": str(directory)})
    try:
        launched = subprocess.run(
            [sys.executable, "-c", _LAUNCHER, given],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_environment(),
            timeout=_LAUNCH_SECONDS,
            check=True,
        )
        return int(launched.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode("utf-8", "replace").strip().splitlines()
        reason = said[-1] if said else str(error)
        raise OutputError(getattr(error, "errno", None), f"a process could not be started ({reason})") from error


def identity(pid: int) -> dict[str, Any] | None:
    """What tells a process from every other one, on any machine, now and later; None when it is gone."""
    process = process_tree.find(pid)
    if process is None or process.ended:
        return None
    return {"pid": pid, "started": process.started, "boot": _boot(), "host": platform.node()}


def is_alive(known: Mapping[str, Any]) -> bool | None:
    """Whether the process of an `identity` runs; None when that cannot be told, on another machine."""
    if known.get("host") != platform.node():
        return None
    if known.get("boot") != _boot() or not isinstance(known.get("pid"), int):
        return False
    process = process_tree.find(known["pid"])
    return process is not None and process.started == known.get("started") and not process.ended


def _boot() -> str:
    """Numbers and starts of processes repeat after a restart of the machine where starts are counted from it."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _environment() -> dict[str, str]:
    """This process's, with this very library found first."""
    library = str(Path(__file__).resolve().parents[2])
    paths = [library, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
