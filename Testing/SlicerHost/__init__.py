"""A host for Slicer modules: real MRML and slicer.util, Qt as PythonQt shows it. See README.md.

import SlicerHost as host

host.start()
panel = host.open_module("SSLFewShot")
"""

from .running import (
    close_module,
    close_scene,
    longest_block,
    open_module,
    process,
    reset_block,
    start,
    stop,
    wait_until,
)

__all__ = [
    "close_module",
    "close_scene",
    "longest_block",
    "open_module",
    "process",
    "reset_block",
    "start",
    "stop",
    "wait_until",
]
