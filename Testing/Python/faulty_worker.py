"""The worker's real server with methods that fail, hang, print and warn as they are told.

    python faulty_worker.py

Run as a program; what every request needs is not loaded, so that it starts at once.
"""

import ctypes
import errno
import logging
import os
import sys
import time
import warnings

from SSLFewShotLib.errors import Cancelled, InputError, InputWarning, OutputError
from SSLFewShotLib.worker import methods, server
from SSLFewShotLib.worker.handler import NUMBER, TEXT, WHOLE, Handler, optional, required


def _raise(params, context):
    text = params["text"]
    raise {
        "input": InputError(f"{text}: is not a scan; give another"),
        "output": OutputError(errno.ENOSPC, f"{text}: no space left on the disk"),
        "disk": OSError(errno.ENOSPC, "No space left on device", text),
        "memory": MemoryError(),
        "torch": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        "bug": ZeroDivisionError(f"in the middle of {text}"),
        "exit": SystemExit(3),
        "recursion": RecursionError("maximum recursion depth exceeded"),
        "cancelled": Cancelled(),
    }[params["what"]]


def _count(params, context):
    """Report progress as often as possible for so many seconds."""
    end = time.monotonic() + params["seconds"]
    told = 0
    while time.monotonic() < end:
        told += 1
        context.progress(0.5, f"counting {told}")
        time.sleep(0.001)
    return {"told": told}


def _hurry(params, context):
    """Report many times within the blink of an eye."""
    for number in range(1, 101):
        context.progress(number / 100, f"counted {number} of 100")
    return {}


def _deaf(params, context):
    """Compute without asking whether it is cancelled."""
    (context.folder / "half").write_text("a carried scan")
    context.progress(0.1, "deaf")
    time.sleep(params["seconds"])
    return {}


def _print(params, context):
    print(params["text"])
    os.write(1, b"native output\n")
    ctypes.CDLL(None).puts(b"C output")
    return {"read": sys.stdin.read()}


def _warn(params, context):
    warnings.warn(f"{params['text']}: resampled", InputWarning, stacklevel=1)
    warnings.warn(f"{params['text']}: resampled", InputWarning, stacklevel=1)
    warnings.warn(f"odd numbers in {params['text']}", RuntimeWarning, stacklevel=1)
    logging.getLogger("library").error("cannot like %s", params["text"])
    context.log("info", "did what it was told")
    if params["what"]:
        _raise(params, context)
    return {}


TOLD = {
    "raise": Handler(_raise, {"what": required(TEXT), "text": optional(TEXT, "")}),
    "count": Handler(_count, {"seconds": required(NUMBER)}),
    "hurry": Handler(_hurry),
    "deaf": Handler(_deaf, {"seconds": required(NUMBER)}),
    "print": Handler(_print, {"text": required(TEXT)}),
    "warn": Handler(_warn, {"text": required(TEXT), "what": optional(TEXT)}),
    "large": Handler(lambda params, context: {"text": "x" * params["size"]}, {"size": required(WHOLE)}),
    "set": Handler(lambda params, context: {1, 2}),
    "nan": Handler(lambda params, context: {"dice": float("nan"), "name": "Größe"}),
    "folder": Handler(lambda params, context: str(context.folder), light=True),
}

if __name__ == "__main__":
    server.LOADED_AT_START = "json"
    methods.all_methods = lambda: TOLD
    os._exit(server.main())
