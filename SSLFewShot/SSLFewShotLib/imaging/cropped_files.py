"""Writing a part of a scan, also of one that does not fit into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.crop import CropRange
from SSLFewShotLib.imaging.files import file_format, write_volume
from SSLFewShotLib.imaging.lazy import Scan
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.outputs import refuse_existing, written_atomically
from SSLFewShotLib.progress import Progress, ignore_progress, portion

IN_MEMORY_UP_TO = 1 << 30
"""Bytes of a part; a larger one is written slice by slice, uncompressed."""


def write_cropped(
    scan: Scan,
    part: CropRange,
    path: Path,
    overwrite: bool = False,
    compress: bool = True,
    progress: Progress = ignore_progress,
    in_memory_up_to: int = IN_MEMORY_UP_TO,
) -> None:
    """Write the voxels of a part of a scan, as they are, with the geometry that they have in it.

    Raises InputError as `write_volume` does, and for a large part in another format than .nrrd; OutputError when
    it cannot be written.
    """
    matrix = part.matrix(scan.ijkToLps)
    if int(np.prod(part.size, dtype=object)) * scan.dtype.itemsize > in_memory_up_to:
        _write_slabs(scan, part, matrix, path, overwrite, progress)
        return
    k, j, i = part.slices
    array = np.empty(part.size[::-1], scan.dtype.newbyteorder("="))
    for first, slab in scan.slabs(k.start, k.stop):
        progress(0.5 * (first - k.start) / part.size[2], f"reading {scan.name}")
        array[first - k.start : first - k.start + len(slab)] = slab[:, j, i]
    volume = Volume(array, matrix, scan.name, scan.modality)
    write_volume(volume, path, overwrite, compress, portion(progress, 0.5, 1.0))


def _write_slabs(
    scan: Scan, part: CropRange, matrix: np.ndarray, path: Path, overwrite: bool, progress: Progress
) -> None:
    if file_format(path) != ".nrrd":
        raise InputError(f"{path}: so large a part is written as .nrrd only; choose that format")
    refuse_existing(path, overwrite)
    k, j, i = part.slices
    with written_atomically(path) as temporary, open(temporary, "wb") as file:
        file.write(_nrrd_header(scan, part, matrix))
        for first, slab in scan.slabs(k.start, k.stop):
            progress((first - k.start) / part.size[2], f"writing {path.name}")
            np.ascontiguousarray(slab[:, j, i]).astype(scan.dtype.newbyteorder("<"), copy=False).tofile(file)


def _nrrd_header(scan: Scan, part: CropRange, matrix: np.ndarray) -> bytes:
    kinds = {"i": "int", "u": "uint"}
    kind = {4: "float", 8: "double"}[scan.dtype.itemsize] if scan.dtype.kind == "f" else None
    columns = [f"({','.join(repr(float(v)) for v in matrix[:3, axis])})" for axis in range(4)]
    lines = [
        "NRRD0005",
        f"type: {kind or f'{kinds[scan.dtype.kind]}{8 * scan.dtype.itemsize}'}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, part.size))}",
        f"space directions: {' '.join(columns[:3])}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: raw",
        f"space origin: {columns[3]}",
        *([f"modality:={scan.modality}"] if scan.modality else []),
    ]
    return ("\n".join(lines) + "\n\n").encode()
