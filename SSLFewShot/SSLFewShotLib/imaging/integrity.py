"""Whether a file holds all of its voxels.

ITK reads a NIfTI that was cut short, and a compressed NRRD or MetaImage with damaged bytes, without a word
and leaves the rest of the image as it finds it. A scan that is half noise must not reach a model.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import BinaryIO

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.nifti import read_nifti_header
from SSLFewShotLib.progress import Progress, ignore_progress

# A chunk inflates to at most a thousand times its length: 64 MiB of memory at the worst.
_CHUNK = 1 << 16


def check_complete(path: Path, voxel_bytes: int, progress: Progress = ignore_progress) -> None:
    """Raise InputError when voxels are missing or the compressed data are damaged.

    voxel_bytes: bytes of voxels that the header promises (NIfTI's own header is used for NIfTI).
    Files whose voxels lie in another file (.mhd, .nhdr) are left to ITK.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        _check_nifti(path, progress)
    elif name.endswith(".nrrd"):
        _check_nrrd(path, voxel_bytes, progress)
    elif name.endswith(".mha"):
        _check_metaimage(path, voxel_bytes, progress)


def _incomplete(path: Path, there: int, promised: int) -> InputError:
    return InputError(
        f"{path}: the file is cut short or damaged ({there} of {promised} bytes are sound); "
        "copy or export it again"
    )


def _check_nifti(path: Path, progress: Progress) -> None:
    header = read_nifti_header(path)
    if header is None:
        raise InputError(f"{path}: a NIfTI file was expected, but its header is damaged; copy or export it again")
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if compressed:
            _check_stream(path, file, header.end, progress)
        elif path.stat().st_size < header.end:
            raise _incomplete(path, path.stat().st_size, header.end)


def _check_nrrd(path: Path, voxel_bytes: int, progress: Progress) -> None:
    with open(path, "rb") as file:
        header = bytearray()
        while (line := file.readline(1 << 20)) and line.strip():
            header += line
        if re.search(rb"(?im)^data ?file:", header):
            return
        encoding = re.search(rb"(?im)^encoding: *(\w+)", header)
        if encoding and encoding[1].lower() in (b"gzip", b"gz"):
            _check_stream(path, file, voxel_bytes, progress)


def _check_metaimage(path: Path, voxel_bytes: int, progress: Progress) -> None:
    with open(path, "rb") as file:
        compressed = False
        while line := file.readline(1 << 16):
            key, _, value = line.partition(b"=")
            compressed |= key.strip().lower() == b"compresseddata" and value.strip().lower() == b"true"
            if key.strip().lower() == b"elementdatafile":
                if compressed and value.strip().upper() == b"LOCAL":
                    _check_stream(path, file, voxel_bytes, progress)
                return


def _check_stream(path: Path, file: BinaryIO, promised: int, progress: Progress) -> None:
    """Decompress a gzip or zlib stream, of several members if need be, checksums included."""
    there = 0
    inflate = zlib.decompressobj(wbits=47)  # 47: zlib or gzip, whichever the stream begins with
    data = b""
    try:
        while there < promised or not inflate.eof:
            progress(min(there / max(promised, 1), 1.0), f"checking {path.name}")
            if inflate.eof:
                data, inflate = inflate.unused_data, zlib.decompressobj(wbits=47)
            data = data or file.read(_CHUNK)
            if not data:
                raise _incomplete(path, min(there, promised - 1), promised)
            there += len(inflate.decompress(data))
            data = b""
    except zlib.error:
        raise _incomplete(path, min(there, promised - 1), promised) from None
