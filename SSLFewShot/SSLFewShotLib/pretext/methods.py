"""The self-supervised methods by the name that the command, the panel and the cards use."""

from __future__ import annotations

from collections.abc import Callable

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.pretext.doersch import Doersch
from SSLFewShotLib.pretext.heatmap import Heatmap
from SSLFewShotLib.pretext.reg2d import Reg2d
from SSLFewShotLib.pretext.task import PretextTask
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity

METHODS: dict[str, Callable[[Extent, Intensity, int], PretextTask]] = {
    task.name: task for task in (Heatmap, Reg2d, Doersch)
}


def make_task(method: str, extent: Extent, intensity: Intensity, batch_size: int) -> PretextTask:
    """Make a task with fresh networks. Raises InputError for an unknown method or a batch size below 1."""
    if method not in METHODS:
        raise InputError(f"method '{method}' is not known; choose one of {', '.join(sorted(METHODS))}")
    if batch_size < 1:
        raise InputError(f"batch size {batch_size}: at least 1 was expected")
    return METHODS[method](extent, intensity, batch_size)
