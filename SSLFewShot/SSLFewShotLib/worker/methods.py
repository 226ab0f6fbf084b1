"""All methods of the worker, by name. Not to be imported before the worker has said hello."""

from __future__ import annotations

from SSLFewShotLib.worker import (
    batch,
    carrying,
    evaluation_methods,
    inspection,
    localise_methods,
    models_methods,
    pretraining,
    segment_methods,
    session_methods,
)
from SSLFewShotLib.worker.handler import Handler

_GROUPS = (
    session_methods,
    models_methods,
    segment_methods,
    batch,
    localise_methods,
    evaluation_methods,
    inspection,
    pretraining,
    carrying,
)


def all_methods() -> dict[str, Handler]:
    """The handlers of every group of methods."""
    return {name: handler for group in _GROUPS for name, handler in group.HANDLERS.items()}
