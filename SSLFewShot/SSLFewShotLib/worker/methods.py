"""All methods of the worker, by name."""

from __future__ import annotations

import importlib
import importlib.util

from SSLFewShotLib.worker.handler import Handler

_MODULES = (
    "session_methods",
    "models_methods",
    "segment_methods",
    "batch",
    "evaluation_methods",
    "inspection",
    "pretraining",
    "carrying",
)


def all_methods() -> dict[str, Handler]:
    """The handlers of every module of methods."""
    methods: dict[str, Handler] = {}
    for name in _MODULES:
        path = f"SSLFewShotLib.worker.{name}"
        if importlib.util.find_spec(path) is not None:
            methods |= importlib.import_module(path).HANDLERS
    return methods
