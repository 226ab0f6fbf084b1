"""What a method of the worker is: a function, the parameters that it takes, and what it is given to work with.

A module of methods exports `HANDLERS: dict[str, Handler]` and imports what is heavy within its functions: the
worker says hello before torch is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SSLFewShotLib.progress import Progress
from SSLFewShotLib.worker.protocol import INVALID_PARAMS, ProtocolError

if TYPE_CHECKING:
    from SSLFewShotLib.worker.warm import Warm


@dataclass(frozen=True)
class Context:
    """What a request is run with.

    progress: (fraction, message); raises `Cancelled` once the request is cancelled.
    folder: the worker's own, removed at its end; only what lies in it may be sent or removed by a request.
    warm: what stays loaded between requests.
    log: (level, message) to the client's log: "info", "warning" or "error". No names of scans, no voxel data.
    warnings: the texts of the InputWarnings so far, which the answer will hold.
    """

    progress: Progress
    folder: Path
    warm: Warm
    log: Callable[[str, str], None]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Kind:
    """What a value must be, in words and as a test."""

    expected: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True)
class Param:
    """One parameter; one that is not required may be null as well, and is `default` then."""

    kind: Kind
    required: bool = True
    default: Any = None


@dataclass(frozen=True)
class Handler:
    """A method.

    run: takes the checked parameters (every one that `params` names is there) and the `Context`; returns plain
        JSON values. Its InputErrors, OutputErrors and Cancelled become the error that the client gets.
    light: takes no more than some tenths of a second, and is answered while another request is being worked on.
    """

    run: Callable[[dict[str, Any], Context], Any]
    params: Mapping[str, Param] = field(default_factory=dict)
    light: bool = False


def is_whole(value: Any) -> bool:
    """Whether a JSON value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


TEXT = Kind("a text", lambda value: isinstance(value, str))
PATH = Kind("a path", lambda value: isinstance(value, str) and value != "" and "\0" not in value)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
WHOLE = Kind("a whole number", is_whole)
NUMBER = Kind("a number", is_number)
OBJECT = Kind("an object", lambda value: isinstance(value, dict))


def list_of(kind: Kind, least: int = 0) -> Kind:
    """A list of at least so many values of a kind."""
    expected = f"a list, each entry {kind.expected}" + (f", at least {least}" if least else "")
    return Kind(expected, lambda value: _is_list(value, kind, least))


def one_of(*values: str) -> Kind:
    """One of several texts."""
    return Kind(f"one of {', '.join(values)}", lambda value: isinstance(value, str) and value in values)


def object_with(**kinds: Kind) -> Kind:
    """An object that holds exactly these keys."""
    expected = "{" + ", ".join(f"{key}: {kind.expected}" for key, kind in kinds.items()) + "}"
    return Kind(expected, lambda value: _holds(value, kinds))


def required(kind: Kind) -> Param:
    """A parameter that must be there."""
    return Param(kind)


def optional(kind: Kind, default: Any = None) -> Param:
    """A parameter that may be left out."""
    return Param(kind, False, default)


def checked(params: Mapping[str, Any], expected: Mapping[str, Param]) -> dict[str, Any]:
    """The parameters with defaults filled in.

    Raises ProtocolError, INVALID_PARAMS, that says which one is missing, unknown or wrong, and what was expected.
    """
    unknown = sorted(set(params) - set(expected))
    if unknown:
        there = ", ".join(expected) or "none"
        raise ProtocolError(INVALID_PARAMS, f"'{unknown[0]}' is no parameter of this method, which has {there}")
    values: dict[str, Any] = {}
    for name, param in expected.items():
        value = params.get(name)
        if value is None:
            if param.required:
                raise ProtocolError(INVALID_PARAMS, f"'{name}' is missing: {param.kind.expected} was expected")
            value = param.default
        elif not param.kind.accepts(value):
            raise ProtocolError(INVALID_PARAMS, f"'{name}': {param.kind.expected} was expected")
        values[name] = value
    return values


def _is_list(value: Any, kind: Kind, least: int) -> bool:
    return isinstance(value, list) and len(value) >= least and all(kind.accepts(entry) for entry in value)


def _holds(value: Any, kinds: Mapping[str, Kind]) -> bool:
    if not isinstance(value, dict) or set(value) != set(kinds):
        return False
    return all(kind.accepts(value[key]) for key, kind in kinds.items())
