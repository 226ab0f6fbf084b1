"""What the exit code of a worker says: what happened to it, and what its user can do."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

_AGAIN = "try again; the worker is started anew by itself"
_CRASH = (
    "a library of compiled code crashed: try again (the worker is started anew by itself), and with the device "
    "'cpu' when it happens once more"
)
_MEMORY = (
    "most often the system does so when memory runs out: close other programs or take a coarser spacing or a "
    "smaller scan, then try again; the worker is started anew by itself"
)
_WINDOWS = {
    0xC0000005: ("crashed (access violation)", _CRASH),
    0xC0000017: ("ran out of memory", _MEMORY),
    0xC000001D: ("crashed (illegal instruction)", _CRASH),
    0xC00000FD: ("crashed (stack overflow)", _CRASH),
    0xC0000135: ("could not be started (a DLL was not found)", "install the worker's Python anew"),
    0xC000013A: ("was stopped (Ctrl-C)", _AGAIN),
    0xC0000409: ("crashed (abort)", _CRASH),
}
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([^']+)'")
_OF_A_TRACEBACK = re.compile(r'Traceback \(most recent call last\)|\s+File ".*", line \d+')
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE")


def explain_exit(code: int | None) -> tuple[str, str]:
    """Return (what happened, what to do) for an exit code as `subprocess` gives it; None: not known.

    Launchers and shells pass a signal on as 128 + its number; Windows gives an NTSTATUS.
    """
    if code is None:
        return "went away", _AGAIN
    name = signal_name(code)
    if name == "SIGKILL":
        return "was killed (SIGKILL; out of memory?)", _MEMORY
    if name in _CRASHES:
        return f"crashed ({name})", _CRASH
    if name is not None:
        return f"was stopped ({name})", _AGAIN
    if code & 0xFFFFFFFF in _WINDOWS:
        return _WINDOWS[code & 0xFFFFFFFF]
    return f"ended with exit code {code}", _AGAIN


def remedy_at_start(code: int | None, said: Sequence[str] = ()) -> str:
    """What to do about a worker that has ended before it was ready; said: the last lines of its log."""
    missing = _NO_MODULE.match(said[-1]) if said else None
    if missing:
        return (
            f"the Python that it was started with lacks the package {missing[1].split('.')[0]}: install it there"
        )
    if code == 127:
        return "the program was not found there: check its name, or give its whole path"
    if code == 255:
        return "for ssh this means no connection: check that `ssh` reaches the machine without asking for anything"
    return "try the same command in a terminal to see why"


def last_words(lines: Sequence[str], most: int = 3) -> list[str]:
    """The last lines of a log as far as they tell a user something: of a traceback the last line alone."""
    lines = list(lines)
    return lines[-1:] if any(map(_OF_A_TRACEBACK.match, lines[-2 * most :])) else lines[-most:]


def signal_name(code: int) -> str | None:
    """The signal that an exit code stands for, or None when it stands for none."""
    number = -code if code < 0 else code - 128
    try:
        return signal.Signals(number).name
    except ValueError:
        return None
