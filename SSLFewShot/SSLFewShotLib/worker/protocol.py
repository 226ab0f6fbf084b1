"""What worker and client say to each other: JSON-RPC 2.0, one ASCII JSON object a line.

Pure standard library of Python 3.9: the application imports this file too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

PROTOCOL_VERSION = 1
LONGEST_LINE = 64 * 1024 * 1024

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
REQUEST_CANCELLED = -32800
WRONG_INPUT = -32001
NOT_WRITTEN = -32002
OUT_OF_MEMORY = -32003
WORKER_LOST = -32010
"""Said by the client only: the process that had the request is gone."""

_DISCARDED_AT_ONCE = 1024 * 1024


class ProtocolError(Exception):
    """A message that cannot be used; `code` and `message` are those of the answer, `id` the sender's if known."""

    def __init__(self, code: int, message: str, id: int | str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id


class TooLong:
    """Stands for a line longer than `LONGEST_LINE`; `length` is what was thrown away, in bytes."""

    def __init__(self, length: int) -> None:
        self.length = length


def request(id: int | str | None, method: str, params: dict | None = None) -> dict:
    """Build a request; it is answered by a `result` or an `error` with the same id."""
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}


def notification(method: str, params: dict | None = None) -> dict:
    """Build a message that is not answered."""
    return {"jsonrpc": "2.0", "method": method, "params": params or {}}


def result(id: int | str | None, value: Any) -> dict:
    """Build the answer to a request that succeeded."""
    return {"jsonrpc": "2.0", "id": id, "result": value}


def error(id: int | str | None, code: int, message: str, data: dict | None = None) -> dict:
    """Build the answer to a request that failed."""
    described: dict = {"code": code, "message": message}
    if data is not None:
        described["data"] = data
    return {"jsonrpc": "2.0", "id": id, "error": described}


def encode(message: dict) -> bytes:
    """Return the line of a message, its end included; numbers that JSON lacks (NaN, infinity) become null.

    Raises ProtocolError when the line would be longer than `LONGEST_LINE`, TypeError for what JSON cannot hold.
    """
    try:
        text = json.dumps(message, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(message), allow_nan=False, separators=(",", ":"))
    line = text.encode("ascii") + b"\n"
    if len(line) > LONGEST_LINE:
        raise ProtocolError(
            INVALID_REQUEST,
            f"a message of {len(line)} bytes is longer than the {LONGEST_LINE} that are allowed",
            message.get("id"),
        )
    return line


def decode(line: bytes) -> dict:
    """Read a line: a request, a notification or an answer. Params that are left out are `{}`.

    Raises ProtocolError: PARSE_ERROR when it is no JSON, INVALID_REQUEST when it is no single JSON-RPC message.
    """
    try:
        message = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as reason:
        raise ProtocolError(PARSE_ERROR, f"one JSON object a line was expected: {reason}") from None
    if isinstance(message, list):
        raise ProtocolError(INVALID_REQUEST, "one object a line was expected, not an array of several")
    if not isinstance(message, dict):
        raise ProtocolError(INVALID_REQUEST, f"a JSON object was expected, not {_kind(message)}")
    id = message.get("id")
    if isinstance(id, bool) or not isinstance(id, (int, str, type(None))):
        raise ProtocolError(INVALID_REQUEST, f"'id' is {_kind(id)}; a whole number or a text was expected")
    if message.get("jsonrpc") != "2.0":
        raise ProtocolError(INVALID_REQUEST, "'jsonrpc' must be \"2.0\"", id)
    if "method" in message:
        if not isinstance(message["method"], str):
            raise ProtocolError(INVALID_REQUEST, "'method' must be a text", id)
        message.setdefault("params", {})
        if not isinstance(message["params"], dict):
            raise ProtocolError(INVALID_PARAMS, "'params' must be an object with named values", id)
        return message
    described = message.get("error")
    if "result" in message and described is None:
        return message
    if isinstance(described, dict) and isinstance(described.get("message"), str):
        code = described.get("code")
        if isinstance(code, int) and not isinstance(code, bool):
            return message
    raise ProtocolError(INVALID_REQUEST, "neither a method, a result nor an error was found", id)


def is_request(message: dict) -> bool:
    """Whether a decoded message asks for something and expects an answer."""
    return "method" in message and "id" in message


def read_lines(stream: BinaryIO) -> Iterator[bytes | TooLong]:
    """Yield the lines of a buffered binary stream until it ends, without their ends; empty ones are left out.

    A line longer than `LONGEST_LINE` is read to its end without being kept, and comes as `TooLong`.
    """
    while True:
        line = stream.readline(LONGEST_LINE + 1)
        if not line:
            return
        if len(line) > LONGEST_LINE and not line.endswith(b"\n"):
            length = len(line)
            while line and not line.endswith(b"\n"):
                line = stream.readline(_DISCARDED_AT_ONCE)
                length += len(line)
            yield TooLong(length)
            continue
        line = line.strip()
        if line:
            yield line


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _kind(value: Any) -> str:
    kinds = {str: "a text", bool: "true or false", int: "a number", float: "a number", dict: "an object"}
    return kinds.get(type(value), "null" if value is None else "an array")
