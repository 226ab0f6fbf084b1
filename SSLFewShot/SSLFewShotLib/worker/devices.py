"""Where this machine can compute, and how much memory is free there."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any


def devices() -> list[dict[str, Any]]:
    """The processor, then graphics cards: name, title, memory_total and memory_free (bytes).

    The name is one that `choose_device` takes. A number that the system does not tell is None; a card that fails
    to answer is left out.
    """
    total, free = machine_memory()
    found = [_device("cpu", _processor(), total, free)]
    with contextlib.suppress(ImportError, RuntimeError, AssertionError):
        import torch

        for number in range(torch.cuda.device_count()):
            with contextlib.suppress(RuntimeError):
                free, total = torch.cuda.mem_get_info(number)
                found.append(_device(f"cuda:{number}", torch.cuda.get_device_name(number), total, free))
        if torch.backends.mps.is_available():
            total = torch.mps.recommended_max_memory()
            found.append(_device("mps", "Apple GPU", total, total - torch.mps.driver_allocated_memory()))
    return found


def machine_memory() -> tuple[int | None, int | None]:
    """(total, free) bytes of the machine's memory, or of the container that this process is confined to."""
    try:
        if sys.platform == "win32":
            return _windows_memory()
        if sys.platform == "darwin":
            return _mac_memory()
        return _linux_memory()
    except (OSError, ValueError, KeyError, AttributeError, subprocess.SubprocessError):
        return None, None


def _device(name: str, title: str, total: int | None, free: int | None) -> dict[str, Any]:
    return {"name": name, "title": title, "memory_total": total, "memory_free": free}


def _linux_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    lines = (line.split() for line in (proc / "meminfo").read_text().splitlines())
    sizes = {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if len(line) > 1}
    total, free = sizes["MemTotal"], sizes["MemAvailable"]
    with contextlib.suppress(OSError, ValueError):  # no version 2 cgroup here, or no limit ("max")
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        # Pages of files are given up when they are needed.
        files = re.search(r"^inactive_file (\d+)", (cgroup / "memory.stat").read_text(), re.MULTILINE)
        used -= int(files[1]) if files else 0
        total, free = min(total, limit), min(free, max(limit - used, 0))
    return total, free


def _mac_memory() -> tuple[int, int]:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = subprocess.run(["/usr/bin/vm_stat"], capture_output=True, text=True, timeout=5, check=True).stdout
    page = int(re.search(r"page size of (\d+)", text)[1])
    pages = {key: int(count) for key, count in re.findall(r"^(Pages [^:]+):\s+(\d+)", text, re.MULTILINE)}
    free = pages["Pages free"] + pages["Pages inactive"] + pages.get("Pages speculative", 0)
    return total, free * page


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("free", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 5),
    )


def _windows_memory() -> tuple[int, int]:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    if not ctypes.WinDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(status)):
        raise OSError("GlobalMemoryStatusEx failed")
    return int(status.total), int(status.free)


def _processor() -> str:
    cores = f"{os.cpu_count() or 1} cores"
    with contextlib.suppress(OSError):
        model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if model:
            return f"{model[1].strip()}, {cores}"
    return f"{platform.processor() or platform.machine()}, {cores}"
