"""Knowing when the process that started this one has died, on Linux, macOS and Windows.

The end of standard input tells it too, unless another process has inherited the other end of the pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import sys
import threading
import time
from collections.abc import Callable

POLL_SECONDS = 0.5

_SYNCHRONIZE, _INFINITE = 0x00100000, 0xFFFFFFFF


def watch_parent(on_death: Callable[[], None], parent: int | None = None) -> threading.Thread:
    """Call `on_death` from a thread of its own once the parent process has died.

    parent: its number as read at the start, so that one that dies before this call is noticed; None reads it now.
    """
    parent = os.getppid() if parent is None else parent

    def watch() -> None:
        wait_for_parent(parent)
        on_death()

    thread = threading.Thread(target=watch, name="parent watch", daemon=True)
    thread.start()
    return thread


def wait_for_parent(parent: int) -> None:
    """Return once the process `parent`, this one's parent, has died; waits for the system's word if it gives one.

    Linux's prctl(PR_SET_PDEATHSIG) is not used: it signals the death of the thread that started this process.
    """
    if sys.platform == "win32":
        _wait_on_windows(parent)
        return
    with contextlib.suppress(OSError):
        if hasattr(os, "pidfd_open"):
            _wait_with_pidfd(parent)
        elif hasattr(select, "kqueue"):
            _wait_with_kqueue(parent)
    # An orphan gets another parent; a system without such notices is asked again and again.
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)


def _wait_with_pidfd(parent: int) -> None:
    handle = os.pidfd_open(parent)
    try:
        # What was opened is the parent only if it is so still; numbers of dead processes are used again.
        while os.getppid() == parent and not select.select([handle], [], [], 60.0)[0]:
            pass
    finally:
        os.close(handle)


def _wait_with_kqueue(parent: int) -> None:
    queue = select.kqueue()
    try:
        event = select.kevent(
            parent, select.KQ_FILTER_PROC, select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_NOTE_EXIT
        )
        queue.control([event], 0, 0)
        while os.getppid() == parent and not queue.control(None, 1, 60.0):
            pass
    finally:
        queue.close()


def _wait_on_windows(parent: int) -> None:
    """Windows keeps the number of a dead parent; a handle, once open, is the process's own."""
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.OpenProcess.restype = ctypes.c_void_p
    kernel.OpenProcess.argtypes = [ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32]
    kernel.WaitForSingleObject.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    kernel.CloseHandle.argtypes = [ctypes.c_void_p]
    handle = kernel.OpenProcess(_SYNCHRONIZE, 0, parent)
    if not handle:
        if ctypes.get_last_error() == 87:  # ERROR_INVALID_PARAMETER: there is no such process any more
            return
        threading.Event().wait()  # not allowed to watch it: the end of standard input has to do
    try:
        kernel.WaitForSingleObject(handle, _INFINITE)
    finally:
        kernel.CloseHandle(handle)
