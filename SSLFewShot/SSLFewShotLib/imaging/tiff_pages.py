"""One TIFF file of many pages as one scan, its pages read one by one.

TIFF revision 6.0 (Adobe, 1992) and BigTIFF (for files over 4 GB), both byte orders; also what ImageJ writes for
large stacks: one page's entry, "images=N" in its description, the voxels of all of them one after another. Pages
are read from where their strips lie, without compression; other kinds by ITK, as a whole, where they are small.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name it goes by

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging import itk_images

ENDINGS = (".tif", ".tiff")

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_DESCRIPTION, _OFFSETS, _SAMPLES, _COUNTS, _RESOLUTION, _UNIT = 270, 273, 277, 279, 282, 296
_TILES, _FORMAT = 322, 339
_READ = {_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _DESCRIPTION, _OFFSETS, _SAMPLES, _COUNTS}
_READ |= {_RESOLUTION, _UNIT, _TILES, _FORMAT}
_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I"}
_TYPES |= {16: "Q", 17: "q", 18: "Q"}
_KINDS = {1: "u", 2: "i", 3: "f"}
_MM = {2: 25.4, 3: 10.0}
_MOST_PAGES = 1_000_000
_MOST_VALUES = 1 << 22

Tags = dict[int, Any]


@dataclass(frozen=True)
class _Page:
    """size: (J, I); strips: (offset, bytes) of its voxels one after another, or why they cannot be read so."""

    size: tuple[int, int]
    dtype: np.dtype
    strips: tuple[tuple[int, int], ...]
    hindrance: str


class TiffPages:
    """The pages of a TIFF file in their order.

    TIFF does not say how far apart pages are: the first one's pixel spacing, when it has one, else 1 mm, is taken
    along all three axes, and an `InputWarning` says so.

    in_memory_up_to: bytes of voxels; up to there, compressed and tiled pages are read by ITK, all at once.

    Raises InputError when it is not a TIFF file or is cut short, has colours or pages of several sizes, and for
    compressed or tiled pages of more than `in_memory_up_to`.
    """

    def __init__(self, file: Path, in_memory_up_to: int = 1 << 29):
        self.file, self.name = file, file.name
        pages, spacing = _read_pages(file)
        first = pages[0]
        for number, page in enumerate(pages, 1):
            if (page.size, page.dtype) != (first.size, first.dtype):
                raise InputError(
                    f"{file}: page {number} is not of the size and type of the first one; save the slices of one "
                    "scan alone"
                )
        self.shape, self.dtype = (len(pages), *first.size), first.dtype.newbyteorder("=")
        self._pages, self._array = pages, None
        if hindrance := next((page.hindrance for page in pages if page.hindrance), ""):
            nbytes = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
            if nbytes > in_memory_up_to:
                raise InputError(
                    f"{file}: {nbytes / 1e9:.1f} GB of pages that are {hindrance} cannot be read one by one; save "
                    "them uncompressed in strips, as .nrrd, or as a folder of TIFF slices"
                )
            self._array = _read_by_itk(file, self.shape)
            self.dtype = self._array.dtype
        self.ijkToLps = np.diag([spacing, spacing, spacing, 1.0])
        warnings.warn(
            f"{file}: the pages of a TIFF file do not say where they lie; their voxels are taken for cubes of "
            f"{spacing:g} mm",
            InputWarning,
            stacklevel=3,
        )

    def plane(self, number: int) -> np.ndarray:
        """(J, I) pixels of a page."""
        if self._array is not None:
            return self._array[number]
        page = self._pages[number]
        runs = list(_joined(page.strips))
        if len(runs) == 1:
            mapped = np.memmap(self.file, page.dtype, "r", runs[0][0], page.size)
            return np.array(mapped, dtype=self.dtype)
        with open(self.file, "rb") as file:
            content = b"".join(_bytes(file, offset, count, self.file) for offset, count in runs)
        return np.frombuffer(content, page.dtype).reshape(page.size).astype(self.dtype)


def is_tiff_file(path: Path) -> bool:
    """Whether a path is a file that is called TIFF."""
    return path.suffix.lower() in ENDINGS and path.is_file()


def _read_pages(path: Path) -> tuple[list[_Page], float]:
    """All pages but smaller copies of others, and the pixel spacing in mm."""
    length = path.stat().st_size
    with open(path, "rb") as file:
        every = [tags for tags in _directories(file, path) if not int(_one(tags, _SUBFILE, 0)) & 1]
    if not every:
        raise InputError(f"{path}: no page is in this TIFF file; export it again")
    pages = [page for tags in every for page in _pages_of(tags, path, alone=len(every) == 1)]
    for page in pages:
        if page.strips and max(offset + count for offset, count in page.strips) > length:
            raise InputError(f"{path}: the file is cut short ({length} bytes); copy or export it again")
    return pages, _spacing(every[0])


def _directories(file: BinaryIO, path: Path) -> Iterator[Tags]:
    """The tags of one page after another."""
    head = _bytes(file, 0, 16, path, least=8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order}H", head[2:4])[0] if order else 0
    if version not in (42, 43) or (version == 43 and len(head) < 16):
        raise InputError(f"{path}: not a TIFF file, whatever its name says; export it again")
    # Of an offset, of how many entries there are, and of an entry: classic and BigTIFF.
    place, entries, size = ("I", "H", 12) if version == 42 else ("Q", "Q", 20)
    wide = struct.calcsize(place)
    at = struct.unpack(order + place, head[wide : 2 * wide] if version == 43 else head[4:8])[0]
    seen: set[int] = set()
    while at:
        if at in seen or len(seen) >= _MOST_PAGES:
            raise InputError(f"{path}: its pages go round in a circle, the file is damaged; export it again")
        seen.add(at)
        counted = struct.calcsize(entries)
        count = struct.unpack(order + entries, _bytes(file, at, counted, path))[0]
        table = _bytes(file, at + counted, count * size + wide, path)
        yield dict(
            found
            for number in range(count)
            if (found := _entry(file, table[number * size : (number + 1) * size], order, place, path))
        )
        at = struct.unpack(order + place, table[-wide:])[0]


def _entry(file: BinaryIO, entry: bytes, order: str, place: str, path: Path) -> tuple[int, Any] | None:
    """(tag, its values) of those that are read."""
    wide = struct.calcsize(place)
    tag, kind = struct.unpack(f"{order}HH", entry[:4])
    count = struct.unpack(order + place, entry[4 : 4 + wide])[0]
    if tag not in _READ or kind not in _TYPES:
        return None
    code = _TYPES[kind]
    nbytes = count * struct.calcsize("=" + code.replace("s", "B"))
    if count > _MOST_VALUES:
        raise InputError(f"{path}: the file is damaged (an entry of {count} values); export it again")
    content = entry[4 + wide :][:nbytes]
    if nbytes > wide:
        content = _bytes(file, struct.unpack(order + place, entry[4 + wide :])[0], nbytes, path)
    if code == "s":
        return tag, content
    return tag, struct.unpack(f"{order}{count * len(code)}{code[0]}", content)


def _pages_of(tags: Tags, path: Path, alone: bool) -> list[_Page]:
    """What an entry stands for: a page, or all of a large ImageJ stack."""
    width, height = int(_one(tags, _WIDTH, 0)), int(_one(tags, _HEIGHT, 0))
    bits, form = int(_one(tags, _BITS, 1)), int(_one(tags, _FORMAT, 1))
    if int(_one(tags, _SAMPLES, 1)) != 1 or int(_one(tags, _PHOTOMETRIC, 1)) not in (0, 1):
        raise InputError(f"{path}: one value a pixel was expected, this is a colour picture; convert it to grey")
    if min(width, height) < 1 or form not in _KINDS or (bits, form) not in _voxel_types():
        raise InputError(f"{path}: pages of {width} × {height} pixels of {bits} bits cannot be read; convert them")
    with open(path, "rb") as file:
        order = "<" if file.read(1) == b"I" else ">"
    dtype = np.dtype(f"{order}{_KINDS[form]}{bits // 8}")
    nbytes = width * height * dtype.itemsize
    strips = tuple(zip(tags.get(_OFFSETS, ()), tags.get(_COUNTS, ()), strict=False))
    hindrance = ""
    if _TILES in tags:
        hindrance = "in tiles"
    elif int(_one(tags, _COMPRESSION, 1)) != 1:
        hindrance = "compressed"
    elif int(_one(tags, _PHOTOMETRIC, 1)) == 0:
        hindrance = "of reversed grey"
    elif sum(count for _, count in strips) != nbytes:
        raise InputError(f"{path}: its strips do not hold {width} × {height} pixels; export it again")
    if hindrance:
        strips = ()
    page = _Page((height, width), dtype, strips, hindrance)
    said = re.search(rb"images=(\d+)", tags.get(_DESCRIPTION, b"")) if alone else None
    if said is None or not strips or int(said[1]) < 2:
        return [page]
    if not tags[_DESCRIPTION].startswith(b"ImageJ") or len(list(_joined(strips))) > 1:
        return [page]
    start = strips[0][0]
    return [_Page(page.size, dtype, ((start + n * nbytes, nbytes),), "") for n in range(int(said[1]))]


def _voxel_types() -> set[tuple[int, int]]:
    """(bits, sample format) that numpy and ITK have."""
    return {(bits, form) for bits in (8, 16, 32) for form in (1, 2)} | {(32, 3), (64, 3)}


def _joined(strips: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    """Strips that follow each other in the file, as one."""
    start, length = strips[0]
    for offset, count in strips[1:]:
        if offset == start + length:
            length += count
        else:
            yield start, length
            start, length = offset, count
    yield start, length


def _spacing(tags: Tags) -> float:
    """mm between pixels; 1 where the file does not say."""
    above, below = (*tags.get(_RESOLUTION, ()), 0, 0)[:2]
    unit = _MM.get(int(_one(tags, _UNIT, 2)))
    return unit * below / above if unit and above and below and _UNIT in tags else 1.0


def _one(tags: Tags, tag: int, usual: float) -> float:
    values = tags.get(tag)
    return usual if not values else values[0]


def _bytes(file: BinaryIO, offset: int, count: int, path: Path, least: int | None = None) -> bytes:
    file.seek(offset)
    content = file.read(count)
    if len(content) < (count if least is None else least):
        raise InputError(f"{path}: the file is cut short; copy or export it again")
    return content


def _read_by_itk(file: Path, shape: tuple[int, int, int]) -> np.ndarray:
    image = itk_images.read_image(file)
    array = sitk.GetArrayFromImage(image)
    array = array[None] if array.ndim == 2 else array
    if array.shape != shape:
        raise InputError(f"{file}: its pages cannot be read; save them uncompressed, or as .nrrd")
    return array
