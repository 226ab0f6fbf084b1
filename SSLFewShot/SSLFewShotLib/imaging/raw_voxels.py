"""Where in which file the uncompressed voxels of an NRRD or MetaImage lie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging import itk_images
from SSLFewShotLib.imaging.files import file_format
from SSLFewShotLib.imaging.volume import Volume

_LONGEST_HEADER = 1 << 20
_NRRD_TYPES = {
    "signed char": "i1", "int8": "i1", "int8_t": "i1", "uchar": "u1", "unsigned char": "u1", "uint8": "u1",
    "uint8_t": "u1", "short": "i2", "short int": "i2", "signed short": "i2", "int16": "i2", "int16_t": "i2",
    "ushort": "u2", "unsigned short": "u2", "uint16": "u2", "uint16_t": "u2", "int": "i4", "signed int": "i4",
    "int32": "i4", "int32_t": "i4", "uint": "u4", "unsigned int": "u4", "uint32": "u4", "uint32_t": "u4",
    "float": "f4", "double": "f8",
}  # fmt: skip
_META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip


@dataclass(frozen=True)
class RawVoxels:
    """(K, J, I) voxels of `dtype`, byte order included, from `offset` on in `file`; the rest as in `Volume`."""

    file: Path
    offset: int
    shape: tuple[int, int, int]
    dtype: np.dtype
    ijkToLps: np.ndarray
    name: str
    modality: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def raw_voxels(path: Path) -> RawVoxels | None:
    """Where the voxels of a scalar 3D image lie; None when they are compressed, or the format is another one.

    Raises InputError when the file is cut short, or its header cannot be read.
    """
    ending = file_format(path)
    read = {".nrrd": _nrrd, ".nhdr": _nrrd, ".mha": _meta, ".mhd": _meta}.get(ending)
    found = None if read is None else read(path)
    if found is None:
        return None
    header = itk_images.read_header(path)
    file, offset, kind, size = found
    # What ITK sees otherwise is for ITK to read.
    if tuple(header.GetSize()) != size or header.GetNumberOfComponents() != 1:
        return None
    modality = header.GetMetaData("modality") if header.HasMetaDataKey("modality") else ""
    # Checked for a geometry that can be used, as every volume's.
    matrix = Volume(np.zeros((1, 1, 1), np.uint8), itk_images.matrix_of(header), path.name).ijkToLps
    voxels = RawVoxels(file, offset, size[::-1], np.dtype(kind), matrix, path.name, modality)
    there = _size_of(file, path)
    if offset < 0:
        voxels = RawVoxels(file, there - voxels.nbytes, *_rest(voxels))
    if voxels.offset < 0 or there < voxels.offset + voxels.nbytes:
        raise InputError(
            f"{path}: the file is cut short ({there} bytes, {max(offset, 0) + voxels.nbytes} were expected); "
            "copy or export it again"
        )
    return voxels


def _rest(voxels: RawVoxels) -> tuple:
    return voxels.shape, voxels.dtype, voxels.ijkToLps, voxels.name, voxels.modality


def _size_of(file: Path, header: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        raise InputError(f"{header}: the file '{file.name}' that it names is not there; copy it beside") from None


def _nrrd(path: Path) -> tuple[Path, int, str, tuple[int, ...]] | None:
    lines, end = _header(path, lambda line: not line.strip())
    if not lines or not lines[0].startswith("NRRD"):
        return None
    fields = {
        key.strip().lower().replace(" ", ""): value.strip()
        for key, found, value in (line.partition(":") for line in lines[1:])
        if found and not value.startswith("=")
    }
    kind = _NRRD_TYPES.get(fields.get("type", "").lower())
    size = _numbers(fields.get("sizes", ""))
    if kind is None or len(size) != 3 or fields.get("encoding", "").lower() != "raw":
        return None
    if int(fields.get("lineskip", "0")) != 0:
        return None
    order = ">" if fields.get("endian", "little").lower() == "big" else "<"
    skip = int(fields.get("byteskip", "0"))
    named = fields.get("datafile")
    if named is None:
        return path, end + max(skip, 0), order + kind, size
    if "%" in named or named.upper().startswith("LIST"):
        return None
    return path.parent / named, skip, order + kind, size


def _meta(path: Path) -> tuple[Path, int, str, tuple[int, ...]] | None:
    lines, end = _header(path, lambda line: line.split("=")[0].strip().lower() == "elementdatafile")
    fields = {key.strip().lower(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    kind = _META_TYPES.get(fields.get("elementtype", "").upper())
    size = _numbers(fields.get("dimsize", ""))
    channels = fields.get("elementnumberofchannels", "1")
    if kind is None or len(size) != 3 or channels != "1" or fields.get("compresseddata", "").lower() == "true":
        return None
    if fields.get("binarydata", "true").lower() != "true":
        return None
    msb = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "false")).lower() == "true"
    order = ">" if msb else "<"
    named = fields.get("elementdatafile", "")
    if named.upper() == "LOCAL":
        return path, end, order + kind, size
    if not named or "%" in named or named.upper().startswith("LIST"):
        return None
    return path.parent / named, int(fields.get("headersize", "0")), order + kind, size


def _header(path: Path, is_last) -> tuple[list[str], int]:
    """The lines of a header of text, up to the last one, and the byte after it."""
    lines: list[str] = []
    with open(path, "rb") as file:
        while file.tell() < _LONGEST_HEADER and (line := file.readline(1 << 16)):
            text = line.decode("latin-1").rstrip("\r\n")
            lines.append(text)
            if is_last(text):
                break
        return lines, file.tell()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))
