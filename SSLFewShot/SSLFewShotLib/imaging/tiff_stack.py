"""A folder of TIFF slices as one scan."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name it goes by

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging import itk_images
from SSLFewShotLib.imaging.tiff_pages import ENDINGS


def is_tiff_stack(path: Path) -> bool:
    """Whether a path is a folder that holds TIFF slices."""
    return path.is_dir() and any(_slices(path))


class TiffStack:
    """Slices in the order of the numbers in their names, "s_9.tif" before "s_10.tif".

    TIFF says nothing of where a slice lies: the first one's pixel spacing, when it has one, else 1 mm, is taken
    along all three axes, and an `InputWarning` says so.

    Raises InputError when there is no slice, or the slices differ in size or are not of one value a pixel.
    """

    def __init__(self, folder: Path):
        self.name = folder.name
        self.files = _slices(folder)
        if not self.files:
            raise InputError(f"{folder}: no TIFF slice lies in this folder")
        first = _read(self.files[0])
        self._plane_shape = first.shape
        self.dtype = first.dtype
        self.shape = (len(self.files), *first.shape)
        spacing = float(itk_images.read_header(self.files[0]).GetSpacing()[0])
        self.ijkToLps = np.diag([spacing, spacing, spacing, 1.0])
        warnings.warn(
            f"{folder}: TIFF slices do not say where they lie; their voxels are taken for cubes of {spacing:g} mm",
            InputWarning,
            stacklevel=3,
        )

    def plane(self, number: int) -> np.ndarray:
        """(J, I) pixels of a slice."""
        plane = _read(self.files[number])
        if plane.shape != self._plane_shape or plane.dtype != self.dtype:
            raise InputError(
                f"{self.files[number]}: not of the size and type of {self.files[0].name}; leave other pictures "
                "out of the folder"
            )
        return plane


def _slices(folder: Path) -> list[Path]:
    there = (file for file in folder.iterdir() if not file.name.startswith("."))
    files = [file for file in there if file.suffix.lower() in ENDINGS]
    return sorted(files, key=lambda file: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", file.name)])


def _read(file: Path) -> np.ndarray:
    image = itk_images.read_image(file)
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{file}: one value a pixel was expected, this is a colour picture; convert it to grey")
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2:
        raise InputError(
            f"{file}: one slice a file was expected in a folder of them, this one has {array.shape[0]}; name a "
            "file of many pages itself"
        )
    return array
