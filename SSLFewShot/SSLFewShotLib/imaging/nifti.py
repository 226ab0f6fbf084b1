"""The header of a NIfTI file: its own affine, and what its voxels are.

ITK keeps neither a sheared affine (it falls back to the qform or refuses), nor notices that voxels are missing,
and it reads NaN and infinite voxels as 0. Source: the NIfTI-1 header, https://nifti.nimh.nih.gov.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.progress import Progress, ignore_progress

# Metres and micrometres in mm; everything else, unknown included, is taken for mm (low bits of xyzt_units).
_MILLIMETRES = {1: 1000.0, 3: 0.001}
_FLOATS = {16: "f4", 64: "f8"}


@dataclass(frozen=True)
class NiftiHeader:
    """What is needed of a NIfTI header.

    shape: number of voxels along i, j, k, …
    start, end: the bytes (of the uncompressed file) between which the voxels lie.
    floats: the voxels' type when they are real floating point numbers, else None.
    sform: (4, 4) ijkToLps in mm from the sform, or None when the file has none.
    """

    shape: tuple[int, ...]
    start: int
    end: int
    floats: np.dtype | None
    sform: np.ndarray | None


def _opened(path: Path) -> BinaryIO:
    """The file's uncompressed bytes, whether or not it is compressed."""
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else open(path, "rb")


def read_nifti_header(path: Path) -> NiftiHeader | None:
    """Read the header of a single-file NIfTI-1 (.nii, .nii.gz); None when it is not one or is cut short.

    Raises InputError for NIfTI-2, which ITK does not read.
    """
    try:
        with _opened(path) as file:
            start = file.read(348)
    except (OSError, EOFError, zlib.error):
        return None
    if start[4:8] == b"n+2\0":
        raise InputError(f"{path}: NIfTI-2 cannot be read; convert it to NIfTI-1 or .nrrd")
    for order in "<>":
        if len(start) == 348 and struct.unpack_from(order + "i", start)[0] == 348:
            return _parsed(start, order)
    return None


def _parsed(start: bytes, order: str) -> NiftiHeader:
    def take(kind: str, offset: int) -> tuple:
        return struct.unpack_from(order + kind, start, offset)

    dimensions, (kind, bits), (offset,) = take("8h", 40), take("2h", 70), take("f", 108)
    (code,), rows, units = take("h", 254), take("12f", 280), start[123]
    shape = tuple(dimensions[1 : 1 + min(max(dimensions[0], 0), 7)])
    voxels = int(np.prod([max(n, 0) for n in shape], dtype=object)) if shape else 0
    sform = None
    if code > 0:
        to_ras = np.vstack([np.reshape(rows, (3, 4)), [0, 0, 0, 1]])
        to_ras[:3] *= _MILLIMETRES.get(units & 7, 1.0)
        sform = np.diag([-1.0, -1.0, 1.0, 1.0]) @ to_ras
    first = int(offset) if np.isfinite(offset) else 0
    floats = np.dtype(order + _FLOATS[kind]) if kind in _FLOATS else None
    return NiftiHeader(shape, first, first + voxels * bits // 8, floats, sform)


def count_nonfinite(path: Path, header: NiftiHeader, progress: Progress = ignore_progress) -> int:
    """The number of NaN and infinite voxels in a complete file."""
    if header.floats is None:
        return 0
    bad, left = 0, header.end - header.start
    with _opened(path) as file:
        file.seek(header.start)
        while left > 0 and (chunk := file.read(min(left, 1 << 22))):
            progress(1 - left / (header.end - header.start), f"checking {path.name}")
            values = np.frombuffer(chunk, header.floats)
            bad += int(values.size - np.isfinite(values).sum())
            left -= len(chunk)
    return bad


def is_sheared(matrix: np.ndarray, size: tuple[int, int, int], tolerance: float = 0.01) -> bool:
    """Whether making the axes orthogonal, as NIfTI's qform and ITK do, would move a voxel.

    matrix: (4, 4) ijkToLps; size: voxels along i, j, k; tolerance: in voxels, at the farthest corner.
    """
    axes = matrix[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    left, _, right = np.linalg.svd(axes / spacing)
    nearest = (left @ right) * spacing
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(size) - 1)
    moved = np.linalg.solve(axes, (nearest - axes) @ corners.T)
    return bool(np.abs(moved).max() > tolerance)


@contextlib.contextmanager
def sform_tolerated() -> Iterator[None]:
    """Let ITK read the voxels of a file whose sheared sform it refuses; take the geometry from elsewhere."""
    name = "ITK_NIFTI_SFORM_PERMISSIVE"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
