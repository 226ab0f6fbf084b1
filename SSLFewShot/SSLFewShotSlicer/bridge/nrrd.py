"""NRRD files as the worker and the application exchange them. numpy only; safe in any thread.

Written raw, so that nothing is spent on compression; raw and gzip are read. Geometry is kept as a whole matrix,
sheared or not, with every digit of its numbers. Source of the format: Teem, "Definition of NRRD File Format".
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import numpy as np

from SSLFewShotLib.outputs import written_atomically
from SSLFewShotSlicer.bridge.errors import ResultError

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

_TYPES = {
    "i1": "signed char", "u1": "unsigned char", "i2": "short", "u2": "unsigned short", "i4": "int",
    "u4": "unsigned int", "i8": "long long int", "u8": "unsigned long long int", "f4": "float", "f8": "double",
}  # fmt: skip
_KINDS = {
    **{name: kind for kind, name in _TYPES.items()},
    "int8": "i1", "int8_t": "i1", "uchar": "u1", "uint8": "u1", "uint8_t": "u1",
    "short int": "i2", "int16": "i2", "int16_t": "i2", "ushort": "u2", "uint16": "u2", "uint16_t": "u2",
    "unsigned short int": "u2", "signed int": "i4", "int32": "i4", "int32_t": "i4", "uint": "u4", "uint32": "u4",
    "longlong": "i8", "long long": "i8", "int64": "i8", "ulonglong": "u8", "uint64": "u8",
}  # fmt: skip
# Small parts: copying one keeps Python's lock, and the application waits for it.
_PART, _PACKED = 1 << 22, 1 << 20


@dataclass
class NrrdImage:
    """Voxels with their place and their file's key-value pairs.

    array: (K, J, I), or (K, J, I, L) layers; ijk_to_ras: (4, 4), mm.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray
    keys: dict[str, str] = field(default_factory=dict)


def storable(dtype: np.dtype) -> bool:
    """Whether NRRD has a name for numbers of that type."""
    return dtype.kind + str(dtype.itemsize) in _TYPES


def write_nrrd(image: NrrdImage, path: Path, check: Callable[[np.ndarray], None] | None = None) -> None:
    """Write raw NRRD: whole or not at all.

    check: called with every slice (J, I[, L]) before it is written; what it raises stops the writing.

    Raises OutputError when the disk is full or the folder cannot be written.
    """
    array = image.array
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    with written_atomically(Path(path)) as temporary, open(temporary, "wb") as file:
        file.write(_header(array, image.ijk_to_ras, image.keys))
        for plane in array:
            if check is not None:
                check(plane)
            file.write(np.ascontiguousarray(plane, plane.dtype.newbyteorder("<")).data)


def read_nrrd(path: Path) -> NrrdImage:
    """Read raw or gzip NRRD of three axes, or of four whose first is a list.

    Raises ResultError when the file is missing, cut short or of another kind.
    """
    try:
        with open(path, "rb") as file:
            fields, keys = _parsed(file, path)
            kind, sizes, matrix = _shape(fields, path)
            array = np.empty(sizes[::-1], kind)
            _fill(array, file, fields.get("encoding", "raw").lower(), path)
    except OSError as error:
        raise ResultError(f"{path}: could not be read ({error.strerror or error}); run it again") from error
    return NrrdImage(array.astype(array.dtype.newbyteorder("="), copy=False), matrix, keys)


def _header(array: np.ndarray, ijk_to_ras: np.ndarray, keys: dict[str, str]) -> bytes:
    several = array.ndim == 4
    matrix = RAS_TO_LPS @ np.asarray(ijk_to_ras, dtype=np.float64)
    sizes = [*([array.shape[3]] if several else []), *array.shape[2::-1]]
    directions = " ".join(_vector(matrix[:3, axis]) for axis in range(3))
    lines = [
        "NRRD0004",
        f"type: {_TYPES[array.dtype.kind + str(array.dtype.itemsize)]}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in sizes)}",
        f"space directions: {'none ' if several else ''}{directions}",
        f"kinds: {'list ' if several else ''}domain domain domain",
        "endian: little",
        "encoding: raw",
        f"space origin: {_vector(matrix[:3, 3])}",
    ]
    escaped = (f"{key}:={_escaped(value)}" for key, value in keys.items())
    return "\n".join([*lines, *escaped, "", ""]).encode()


def _vector(numbers: np.ndarray) -> str:
    return "(" + ",".join(repr(float(number)) for number in numbers) + ")"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "")


def _unescaped(value: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in value.split("\\\\"))


def _parsed(file, path: Path) -> tuple[dict[str, str], dict[str, str]]:
    if not file.readline(64).startswith(b"NRRD"):
        raise ResultError(f"{path}: is not a NRRD file; run it again")
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    while True:
        line = file.readline(1 << 24)
        if not line:
            raise ResultError(f"{path}: is cut short; run it again")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            return fields, keys
        if text.startswith("#"):
            continue
        key, mark, value = text.partition(":")
        if value.startswith("="):
            keys[key] = _unescaped(value[1:])
        elif mark:
            fields[key.strip().lower()] = value.strip()


def _shape(fields: dict[str, str], path: Path) -> tuple[np.dtype, list[int], np.ndarray]:
    try:
        kind = np.dtype(_KINDS[fields["type"].lower()])
        sizes = [int(n) for n in fields["sizes"].split()]
        directions = [part.strip(" ()") for part in fields["space directions"].split(")") if part.strip()]
        several = directions[0].startswith("none")
        directions[0] = directions[0].replace("none", "").strip(" (")
        matrix = np.eye(4)
        for axis, direction in enumerate(directions):
            matrix[:3, axis] = [float(n) for n in direction.split(",")]
        matrix[:3, 3] = [float(n) for n in fields["space origin"].strip("()").split(",")]
        to_ras = {"left-posterior-superior": RAS_TO_LPS, "lps": RAS_TO_LPS}.get(
            fields.get("space", "").lower(), np.eye(4)
        )
        if len(sizes) != 3 + several or len(directions) != 3 or min(sizes) < 1:
            raise ValueError(fields["sizes"])
    except (KeyError, ValueError, IndexError):
        raise ResultError(f"{path}: is not an image of three axes; run it again") from None
    return kind.newbyteorder(">" if fields.get("endian") == "big" else "<"), sizes, to_ras @ matrix


def _fill(array: np.ndarray, file, encoding: str, path: Path) -> None:
    """Read the voxels into `array`, decompressing as they come."""
    room = memoryview(array.reshape(-1).view(np.uint8))
    inflate = zlib.decompressobj(wbits=47) if encoding in ("gzip", "gz") else None
    if inflate is None and encoding != "raw":
        raise ResultError(f"{path}: its encoding {encoding} is not one that is read here; run it again")
    filled, left = 0, b""
    try:
        while filled < len(room):
            if inflate is None:
                count = file.readinto(room[filled : filled + _PART])
            else:
                packed = left or file.read(_PACKED)
                data = inflate.decompress(packed, _PART)
                left = inflate.unconsumed_tail
                count = min(len(data), len(room) - filled)
                room[filled : filled + count] = data[:count]
                if not count and packed:
                    continue  # the file goes on, with nothing to show for it yet
            if not count:
                raise ResultError(f"{path}: is cut short; run it again")
            filled += count
    except zlib.error:
        raise ResultError(f"{path}: is damaged; run it again") from None
