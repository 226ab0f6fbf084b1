"""The self-supervised methods by the name that the command, the panel and the cards use."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.pretext.alpnet import Alpnet
from SSLFewShotLib.pretext.cpc import Cpc
from SSLFewShotLib.pretext.dense import Dense
from SSLFewShotLib.pretext.doersch import Doersch
from SSLFewShotLib.pretext.exemplar import Exemplar
from SSLFewShotLib.pretext.heatmap import Heatmap
from SSLFewShotLib.pretext.jigsaw import Jigsaw
from SSLFewShotLib.pretext.patch_location import PatchLocation
from SSLFewShotLib.pretext.reg2d import Reg2d
from SSLFewShotLib.pretext.rotation import Rotation
from SSLFewShotLib.pretext.sides import Sides
from SSLFewShotLib.pretext.slice_order import SliceOrder
from SSLFewShotLib.pretext.slice_rotation import SliceRotation
from SSLFewShotLib.pretext.task import PretextTask
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity

METHODS: dict[str, type[PretextTask]] = {
    task.name: task
    for task in (
        Heatmap,
        Reg2d,
        Doersch,
        Dense,
        Alpnet,
        SliceOrder,
        SliceRotation,
        Cpc,
        PatchLocation,
        Jigsaw,
        Rotation,
        Exemplar,
        Sides,
    )
}


def options_of(method: str) -> list[str]:
    """The names of a method's own settings, beyond extent, intensity and batch size."""
    return list(inspect.signature(METHODS[method]).parameters)[3:]


def make_task(
    method: str,
    extent: Extent,
    intensity: Intensity,
    batch_size: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> PretextTask:
    """Make a task with fresh networks.

    batch_size: None for the method's usual one; options: the method's own settings, by name.

    Raises InputError for an unknown method or option, or a batch size below 1.
    """
    if method not in METHODS:
        raise InputError(f"method '{method}' is not known; choose one of {', '.join(sorted(METHODS))}")
    if batch_size is None:
        batch_size = METHODS[method].usual_batch
    if batch_size < 1:
        raise InputError(f"batch size {batch_size}: at least 1 was expected")
    known = options_of(method)
    unknown = [name for name in options or {} if name not in known]
    if unknown:
        there = ", ".join(known) or "none"
        raise InputError(f"{', '.join(unknown)}: no option of {method}, which has {there}; leave it out")
    return METHODS[method](extent, intensity, batch_size, **(options or {}))
