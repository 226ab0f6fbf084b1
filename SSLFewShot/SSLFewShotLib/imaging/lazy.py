"""Scans that stay on the disk: opened by their header, read a few slices at a time.

A tomogram of 6100 × 2000 × 2000 voxels is 24 GB. Where its voxels lie uncompressed in one file (NRRD, MetaImage,
and raw files that a header of either kind names), in a folder of TIFF slices or in a TIFF file of many pages, only
what is needed is read, when it is needed; every other scan is read as a whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.files import read_volume
from SSLFewShotLib.imaging.raw_voxels import RawVoxels, raw_voxels
from SSLFewShotLib.imaging.tiff_pages import TiffPages, is_tiff_file
from SSLFewShotLib.imaging.tiff_stack import TiffStack, is_tiff_stack
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion

LAZILY_FROM = 1 << 29
"""Bytes of voxels; smaller scans are read as a whole, with all checks of `read_volume`."""

_SLAB_BYTES = 64 << 20


class Scan(ABC):
    """A scan whose slices are read when they are needed.

    shape: (K, J, I); dtype: of the voxels; ijkToLps, name, modality: as of a `Volume`.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    ijkToLps: np.ndarray
    name: str
    modality: str = ""

    @abstractmethod
    def slab(self, start: int, stop: int) -> np.ndarray:
        """(stop − start, J, I) voxels of slices along k."""

    @property
    def size(self) -> tuple[int, int, int]:
        """Number of voxels along i, j, k."""
        return self.shape[::-1]

    @property
    def voxels(self) -> int:
        """How many they are."""
        return int(np.prod(self.shape, dtype=object))

    def slabs(
        self, start: int = 0, stop: int | None = None, thick: int | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(first slice, voxels) of one slab after another; `thick` slices each, or as many as 64 MB hold."""
        stop = self.shape[0] if stop is None else stop
        thick = thick or max(1, _SLAB_BYTES // max(1, self.shape[1] * self.shape[2] * self.dtype.itemsize))
        for first in range(start, stop, thick):
            yield first, self.slab(first, min(first + thick, stop))

    def whole(self) -> Volume | None:
        """The scan itself, where it is in memory anyway."""
        return None

    def reduced(self, most_voxels: int = 1 << 24, progress: Progress = ignore_progress) -> Volume:
        """The scan, or where it has more than `most_voxels` voxels, means over blocks of them as float32.

        Blocks are as cubic, in mm, as whole voxels allow. Non-finite voxels count as 0.
        """
        whole = self.whole()
        if whole is not None and self.voxels <= most_voxels:
            return whole
        steps = _steps(self, most_voxels)
        starts = [np.arange(0, n, s) for n, s in zip(self.shape, steps, strict=True)]
        means = np.empty([len(s) for s in starts], np.float32)
        for row, (first, slab) in enumerate(self.slabs(thick=steps[0])):
            progress(first / self.shape[0], f"reading {self.name}")
            plane = np.nan_to_num(slab.mean(axis=0, dtype=np.float32), posinf=0, neginf=0)
            for axis in (0, 1):
                sums = np.add.reduceat(plane, starts[axis + 1], axis=axis)
                counts = np.diff(np.append(starts[axis + 1], plane.shape[axis])).astype(np.float32)
                plane = sums / (counts[:, None] if axis == 0 else counts)
            means[row] = plane
        matrix = np.array(self.ijkToLps)
        matrix[:3, 3] += matrix[:3, :3] @ ((np.array(steps[::-1]) - 1) / 2)
        matrix[:3, :3] *= steps[::-1]
        return Volume(means, matrix, self.name, self.modality)


class WholeScan(Scan):
    """A scan that is in memory."""

    def __init__(self, volume: Volume):
        self._volume = volume
        self.shape, self.dtype = volume.array.shape, volume.array.dtype
        self.ijkToLps, self.name, self.modality = volume.ijkToLps, volume.name, volume.modality

    def slab(self, start: int, stop: int) -> np.ndarray:
        return self._volume.array[start:stop]

    def whole(self) -> Volume | None:
        return self._volume


class MappedScan(Scan):
    """Uncompressed voxels in a file, mapped into memory a slab at a time, so that what was read is let go."""

    def __init__(self, voxels: RawVoxels):
        self._voxels = voxels
        self.shape, self.dtype = voxels.shape, voxels.dtype
        self.ijkToLps, self.name, self.modality = voxels.ijkToLps, voxels.name, voxels.modality

    def slab(self, start: int, stop: int) -> np.ndarray:
        plane = self.shape[1] * self.shape[2] * self.dtype.itemsize
        shape = (stop - start, *self.shape[1:])
        offset = self._voxels.offset + start * plane
        mapped = np.memmap(self._voxels.file, self.dtype, "r", offset, shape)
        return np.array(mapped, dtype=self.dtype.newbyteorder("="))


class StackScan(Scan):
    """A folder of TIFF slices, or the pages of a TIFF file, read one by one."""

    def __init__(self, stack: TiffStack | TiffPages):
        self._stack = stack
        self.shape, self.dtype = stack.shape, stack.dtype
        self.ijkToLps, self.name = stack.ijkToLps, stack.name

    def slab(self, start: int, stop: int) -> np.ndarray:
        return np.stack([self._stack.plane(number) for number in range(start, stop)])


def open_scan(path: Path | str, progress: Progress = ignore_progress, lazily_from: int = LAZILY_FROM) -> Scan:
    """Open a scan of any format that `read_volume` reads, a folder of TIFF slices or a TIFF file of many pages.

    lazily_from: bytes of voxels from which on they stay on the disk, where their file allows it.

    Raises InputError as `read_volume` does, and when the file is shorter than its header promises.
    """
    path = Path(path)
    if is_tiff_stack(path) or is_tiff_file(path):
        scan = StackScan(TiffStack(path) if path.is_dir() else TiffPages(path, lazily_from))
        if scan.voxels * scan.dtype.itemsize >= lazily_from:
            return scan
        array = np.empty(scan.shape, scan.dtype)
        for first, slab in scan.slabs():
            progress(first / scan.shape[0], f"reading {scan.name}")
            array[first : first + len(slab)] = slab
        return WholeScan(Volume(array, scan.ijkToLps, scan.name))
    raw = raw_voxels(path) if path.is_file() else None
    if raw is not None and raw.nbytes >= lazily_from:
        return MappedScan(raw)
    volume = read_volume(path, portion(progress, 0.0, 1.0))
    if volume.array.ndim != 3:
        raise InputError(f"{path}: one value a voxel was expected")
    return WholeScan(volume)


def _steps(scan: Scan, most_voxels: int) -> list[int]:
    """Voxels of each array axis in a block."""
    spacing = np.linalg.norm(scan.ijkToLps[:3, :3], axis=0)[::-1]
    shape = np.array(scan.shape)
    wanted = float(spacing.min())
    while True:
        steps = np.clip(np.round(wanted / spacing), 1, shape).astype(int)
        if np.prod(np.ceil(shape / steps)) <= most_voxels or (steps >= shape).all():
            return steps.tolist()
        wanted *= 1.05
