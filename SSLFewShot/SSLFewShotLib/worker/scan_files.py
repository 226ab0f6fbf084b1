"""Which files make up a scan, so that all of them can be carried. Pure standard library of Python 3.9."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from SSLFewShotLib.errors import InputError

_IMAGES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
_BESIDE = (".raw", ".zraw", ".raw.gz", ".json")
"""What images of two files keep their voxels in, and the names of labels."""


def files_of_scan(path: Path) -> list[tuple[str, Path]]:
    """(name, file) of all that belongs to a path; names are relative to the folder of the path, joined by "/".

    A file comes first, then what its header names (.mhd, .nhdr) and the names of its labels; of a folder, every
    image and DICOM file at or below it. Hidden files are left out.
    Raises InputError when there is no such file, a folder has no scan, or a header names a file that is not there.
    """
    if path.is_dir():
        found = [(f"{_name(path)}/{name}", file) for name, file in _files_below(path, path, set())]
        if not found:
            raise InputError(f"{path}: no scan lies in this folder; image or DICOM files were expected")
        return found
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; check the name")
    lower = path.name.lower()
    beside = list(_named_in_header(path)) if lower.endswith((".mhd", ".nhdr")) else []
    stem = next((path.name[: -len(end)] for end in (".seg.nrrd", *_IMAGES) if lower.endswith(end)), path.name)
    names = (path.with_name(f"{stem}_labels.json"), path.with_name("labels.json"))
    beside += [file for file in names if file.is_file()]
    return [(path.name, path), *((file.name, file) for file in beside)]


def _name(folder: Path) -> str:
    """The name of a folder, also of "." and "..": the scan in it is called so."""
    return folder.name if folder.name not in ("", "..") else (Path(os.path.abspath(folder)).name or "folder")


def _files_below(folder: Path, top: Path, above: set[str]) -> Iterator[tuple[str, Path]]:
    real = os.path.realpath(folder)
    if real in above:  # a link back to a folder above would go round for ever
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}); check the permissions") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files_below(entry, top, above | {real})
        elif entry.is_file() and _may_be_of_a_scan(entry):
            yield entry.relative_to(top).as_posix(), entry


def _may_be_of_a_scan(file: Path) -> bool:
    if file.name.lower().endswith((*_IMAGES, *_BESIDE)):
        return True
    try:
        with open(file, "rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _named_in_header(header: Path) -> Iterator[Path]:
    """The files that the header of an image of several files names."""
    lines = _lines(header)
    key = re.compile(r"\s*ElementDataFile\s*=|\s*data ?file\s*:", re.IGNORECASE)
    row = next((number for number, line in enumerate(lines) if key.match(line)), None)
    if row is None:
        return
    named = [lines[row][key.match(lines[row]).end() :].strip()]
    if named[0].upper() == "LOCAL":
        return
    if named[0].upper().split(" ")[0] == "LIST":
        named = [line.strip() for line in lines[row + 1 :] if line.strip()]
    for name in named:
        if "%" in name or os.path.basename(name) != name:
            raise InputError(
                f"{header}: its voxels lie in numbered files or in another folder; save it as .nrrd or .nii.gz"
            )
        if not header.with_name(name).is_file():
            raise InputError(f"{header}: the file '{name}' that it names is not there; copy it beside")
        yield header.with_name(name)


def _lines(header: Path) -> list[str]:
    """The lines of a header of text, up to the empty one or the voxels."""
    try:
        with open(header, "rb") as stream:
            text = stream.read(1 << 16).decode("latin-1")
    except OSError as error:
        raise InputError(f"{header}: cannot be read ({error.strerror}); check the permissions") from None
    return [line.rstrip("\r") for line in text.split("\n\n")[0].split("\n")]
