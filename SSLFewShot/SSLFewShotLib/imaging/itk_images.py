"""ITK's images and ours: quiet reading, geometry as a full matrix, paths that ITK can open everywhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name it goes by

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.volume import Volume

_lock = threading.Lock()
_listeners = 0
_saved_stderr: int | None = None
_saved_display = True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep ITK and the C libraries under it from writing to the terminal; every failure becomes an exception.

    They write to the file descriptor itself (MetaIO, nifti_clib), so that redirecting `sys.stderr` does not
    reach them. Nested and concurrent use counts: the first in silences, the last out restores.
    """
    global _listeners, _saved_stderr, _saved_display
    with _lock:
        _listeners += 1
        if _listeners == 1:
            _saved_display = sitk.ProcessObject.GetGlobalWarningDisplay()
            sitk.ProcessObject.SetGlobalWarningDisplay(False)
            _saved_stderr = _silence_stderr()
    try:
        yield
    finally:
        with _lock:
            _listeners -= 1
            if _listeners == 0:
                sitk.ProcessObject.SetGlobalWarningDisplay(_saved_display)
                if _saved_stderr is not None:
                    os.dup2(_saved_stderr, 2)
                    os.close(_saved_stderr)
                    _saved_stderr = None


def _silence_stderr() -> int | None:
    # An application without a terminal (pythonw, a Windows service) has no descriptor 2 to silence.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:
        return None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return saved


@contextlib.contextmanager
def openable(path: Path, writing: bool = False) -> Iterator[str]:
    """Yield a path to the same file that ITK can open.

    On Windows ITK opens files in the ANSI code page, so that a path with other letters goes through a copy
    (SimpleITK issue 795). A header with its voxels in another file is never copied: it would lose them.
    """
    detached = path.suffix.lower() in (".mhd", ".nhdr")
    if not _needs_ascii_path() or str(path).isascii() or detached:
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="sslfewshot-", dir=_ascii_folder()) as folder:
        ascii_name = path.name if path.name.isascii() else "file" + "".join(path.suffixes[-2:])
        copy = Path(folder) / (ascii_name if ascii_name.isascii() else "file" + path.suffix)
        if not writing:
            shutil.copyfile(path, copy)
        yield str(copy)
        if writing:
            shutil.copyfile(copy, path)


def _needs_ascii_path() -> bool:
    return os.name == "nt"


def _ascii_folder() -> str | None:
    candidates = [tempfile.gettempdir(), os.environ.get("PUBLIC", ""), os.environ.get("PROGRAMDATA", "")]
    return next((folder for folder in candidates if folder and folder.isascii()), None)


def matrix_of(image: sitk.Image | sitk.ImageFileReader) -> np.ndarray:
    """(4, 4) ijkToLps of the first three axes of an ITK image, or of a reader that has read its header."""
    dimension = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:3, :3]
    matrix = np.eye(4)
    matrix[:3, :3] = direction * np.array(image.GetSpacing())[:3]
    matrix[:3, 3] = image.GetOrigin()[:3]
    return matrix


def array_of(image: sitk.Image) -> np.ndarray:
    """(K, J, I) voxels of a scalar image, (K, J, I, C) of a vector image, as an array of its own."""
    array = sitk.GetArrayFromImage(image)
    components = image.GetNumberOfComponentsPerPixel()
    is_vector = "vector" in image.GetPixelIDTypeAsString()
    return array.reshape(*image.GetSize()[::-1], components) if is_vector else array


def image_of(volume: Volume) -> sitk.Image:
    """The ITK image of a volume, sheared geometry included."""
    array = itk_array(volume.array)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=array.ndim == 4)
    image.SetSpacing(volume.spacing.tolist())
    image.SetDirection(volume.direction.ravel().tolist())
    image.SetOrigin(volume.origin.tolist())
    return image


def itk_array(array: np.ndarray) -> np.ndarray:
    """The same numbers in a type that ITK and every program that reads its files knows.

    Truth values become uint8, half floats float32, and 64-bit integers the smallest type that holds them all.
    """
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        low, high = int(array.min()), int(array.max())
        for kind in (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return array.astype(kind)
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    return array


def read_image(path: Path, image_io: str = "") -> sitk.Image:
    """Read a file with ITK; InputError in one line when it cannot be read."""
    try:
        with quiet(), openable(path) as name:
            return sitk.ReadImage(name, imageIO=image_io)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise InputError(f"{path}: too large for this computer's memory; crop or resample it first") from None
        raise unreadable(path) from None


def read_header(path: Path, image_io: str = "") -> sitk.ImageFileReader:
    """Read the header alone (size, type, geometry, tags); InputError in one line when it cannot be read."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    try:
        with quiet(), openable(path) as name:
            reader.SetFileName(name)
            reader.ReadImageInformation()
    except RuntimeError:
        raise unreadable(path) from None
    return reader


def unreadable(path: Path) -> InputError:
    """The one sentence for a file that is not what its name promises, or is damaged."""
    return InputError(
        f"{path}: could not be read; the file is damaged, cut short, or not what its ending promises: "
        "copy or export it again"
    )
