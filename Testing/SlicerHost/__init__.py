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


def screenshot(shown, path, dark=False, width=480, scale=1):
    """Save a picture of a widget, a section or the panel; see pictures.screenshot."""
    from .pictures import screenshot as take

    return take(shown, path, dark, width, scale)


def slices(volume_node, segmentation_node, path, centre=None, size=300, title=""):
    """Save the three slice views of a volume with its segments; see pictures.slices."""
    from .pictures import slices as take

    return take(volume_node, segmentation_node, path, centre, size, title)


__all__ = [
    "close_module",
    "close_scene",
    "longest_block",
    "open_module",
    "process",
    "reset_block",
    "screenshot",
    "slices",
    "start",
    "stop",
    "wait_until",
]
