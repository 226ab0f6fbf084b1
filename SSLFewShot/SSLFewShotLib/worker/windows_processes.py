"""The processes of a Windows machine: their numbers, their parents' and when they were started."""

from __future__ import annotations

import ctypes
from ctypes import wintypes

_SNAPSHOT_OF_PROCESSES = 0x2
_QUERY_LIMITED_INFORMATION = 0x1000
_NO_HANDLE = ctypes.c_void_p(-1).value


class _Entry(ctypes.Structure):
    """PROCESSENTRY32W of tlhelp32.h."""

    _fields_ = (
        ("size", wintypes.DWORD),
        ("usage", wintypes.DWORD),
        ("pid", wintypes.DWORD),
        ("heap", ctypes.c_size_t),
        ("module", wintypes.DWORD),
        ("threads", wintypes.DWORD),
        ("parent", wintypes.DWORD),
        ("priority", wintypes.LONG),
        ("flags", wintypes.DWORD),
        ("file", wintypes.WCHAR * 260),
    )


def listed() -> list[tuple[int, int, str]]:
    """(number, parent's number, start) of every process; the start is '' for one that may not be asked."""
    kernel = _kernel()
    snapshot = kernel.CreateToolhelp32Snapshot(_SNAPSHOT_OF_PROCESSES, 0)
    if snapshot in (None, _NO_HANDLE):
        return []
    found = []
    try:
        entry = _Entry(size=ctypes.sizeof(_Entry))
        more = kernel.Process32FirstW(snapshot, ctypes.byref(entry))
        while more:
            found.append((entry.pid, entry.parent, _started(kernel, entry.pid)))
            more = kernel.Process32NextW(snapshot, ctypes.byref(entry))
    finally:
        kernel.CloseHandle(snapshot)
    return found


def _kernel() -> ctypes.CDLL:
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateToolhelp32Snapshot.argtypes = (wintypes.DWORD, wintypes.DWORD)
    kernel.CreateToolhelp32Snapshot.restype = wintypes.HANDLE
    for name in ("Process32FirstW", "Process32NextW"):
        getattr(kernel, name).argtypes = (wintypes.HANDLE, ctypes.POINTER(_Entry))
        getattr(kernel, name).restype = wintypes.BOOL
    kernel.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
    kernel.OpenProcess.restype = wintypes.HANDLE
    kernel.GetProcessTimes.argtypes = (wintypes.HANDLE, *[ctypes.POINTER(wintypes.FILETIME)] * 4)
    kernel.GetProcessTimes.restype = wintypes.BOOL
    kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    return kernel


def _started(kernel: ctypes.CDLL, pid: int) -> str:
    handle = kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid)
    if not handle:
        return ""
    try:
        created, ended, in_kernel, in_user = (wintypes.FILETIME() for _ in range(4))
        times = (ctypes.byref(part) for part in (created, ended, in_kernel, in_user))
        if not kernel.GetProcessTimes(handle, *times):
            return ""
        return str((created.dwHighDateTime << 32) + created.dwLowDateTime)
    finally:
        kernel.CloseHandle(handle)
