"""Compressing an image file that was written without, a piece at a time, so that it can be followed and cancelled.

ITK compresses in one call: a large scan's confidence takes it half a minute, in which nothing is heard of it.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO

from SSLFewShotLib.progress import Progress, ignore_progress

_CHUNK = 1 << 20
_LEVEL = 6  # zlib's own choice, and ITK's


def raw_name(path: Path) -> Path | None:
    """The name of the uncompressed file that `compress` makes `path` of; None for other formats."""
    name = path.name.lower()
    if name.endswith(".nii.gz"):
        return path.with_name(f"raw-{path.name[:-3]}")
    return path.with_name(f"raw-{path.name}") if name.endswith(".nrrd") else None


def compress(raw: Path, path: Path, progress: Progress = ignore_progress) -> None:
    """Write `path` (.nii.gz or .nrrd) with the content of `raw`, the same file uncompressed.

    The same content gives the same bytes: neither a name nor a time is in them.
    """
    total = max(raw.stat().st_size, 1)
    with open(raw, "rb") as source, open(path, "wb") as target:
        if path.name.lower().endswith(".nrrd"):
            _copy_nrrd_header(source, target)
        with gzip.GzipFile(filename="", fileobj=target, mode="wb", compresslevel=_LEVEL, mtime=0) as stream:
            while chunk := source.read(_CHUNK):
                stream.write(chunk)
                progress(source.tell() / total, f"writing {path.name}")


def _copy_nrrd_header(source: BinaryIO, target: BinaryIO) -> None:
    while (line := source.readline()).strip():
        target.write(b"encoding: gzip\n" if line.startswith(b"encoding:") else line)
    target.write(line)
