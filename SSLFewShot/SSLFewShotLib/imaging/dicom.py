"""DICOM series: one folder, one scan.

Geometry comes from Image Position and Image Orientation (Patient) of the slices (DICOM PS3.3 C.7.6.2), never
from Slice Thickness or Spacing Between Slices, so that a tilted gantry stays what it is: a shear.
Nothing that names a patient is kept or shown.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name it goes by

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging import itk_images
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion

_IO = "GDCMImageIO"
_MODALITY, _SERIES_UID, _SERIES_NUMBER = "0008|0060", "0020|000e", "0020|0011"
_POSITION, _ORIENTATION, _PIXEL_SPACING = "0020|0032", "0020|0037", "0028|0030"

# A slice is missing where the step is one and a half times the usual; below, the steps are merely uneven.
_MISSING = 1.5
# How far, as a part of a slice's distance, a slice may lie off the regular grid before a user is told.
_UNEVEN = 0.05


@dataclass(frozen=True)
class _Slice:
    path: Path
    header: sitk.ImageFileReader

    def tag(self, key: str) -> str:
        return self.header.GetMetaData(key).strip() if self.header.HasMetaDataKey(key) else ""

    def numbers(self, key: str, count: int) -> np.ndarray:
        try:
            values = np.array([float(part) for part in self.tag(key).split("\\")])
        except ValueError:
            values = np.empty(0)
        if values.size != count or not np.isfinite(values).all():
            raise InputError(
                f"{self.path}: this DICOM image has no position in the patient; export the original series"
            )
        return values

    @property
    def frames(self) -> int:
        return self.header.GetSize()[2] if self.header.GetDimension() > 2 else 1


def is_dicom_file(path: Path) -> bool:
    """Whether a file begins as DICOM files do (the letters DICM after 128 bytes)."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def holds_dicom(folder: Path) -> bool:
    """Whether a DICOM file lies directly in a folder."""
    return any(is_dicom_file(path) for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be opened ({error.strerror}); check the permissions") from None
    # DICOMDIR is a table of contents, not an image.
    return (folder / name for name in names if name.upper() != "DICOMDIR")


def read_dicom_folder(folder: Path | str, progress: Progress = ignore_progress) -> Volume:
    """Read the one DICOM series that lies in a folder.

    array: rescaled values (HU for CT), slices in ascending position along the normal of the slices.

    Raises InputError when the folder is empty, holds no readable DICOM image or several series (they are
    named; see `read_dicom_series`), or when slices are missing, doubled or of different geometry. Warns with
    `InputWarning` when the slices are unevenly spaced.
    """
    folder = Path(folder)
    series = _series(folder, portion(progress, 0, 0.5))
    if len(series) > 1:
        shown = "; ".join(_described(uid, slices) for uid, slices in list(series.items())[:5])
        more = f"; and {len(series) - 5} more" if len(series) > 5 else ""
        raise InputError(
            f"{folder}: one DICOM series was expected, there are {len(series)} ({shown}{more}); move each into a "
            "folder of its own and name one"
        )
    return _volume(folder, next(iter(series.values())), portion(progress, 0.5, 1))


def read_dicom_series(folder: Path | str, series_uid: str, progress: Progress = ignore_progress) -> Volume:
    """Read the series with this Series Instance UID from a folder that holds several; errors as above."""
    folder = Path(folder)
    series = _series(folder, portion(progress, 0, 0.5))
    if series_uid not in series:
        raise InputError(f"{folder}: no series {series_uid}; there are {', '.join(series)}")
    return _volume(folder, series[series_uid], portion(progress, 0.5, 1))


def read_dicom_file(path: Path | str) -> Volume:
    """Read one DICOM file that holds a whole scan (enhanced CT or MR, several frames).

    GDCM gives its geometry, which takes the frames to lie evenly along their normal.
    """
    path = Path(path)
    only = _Slice(path, itk_images.read_header(path, _IO))
    if only.frames < 2:
        raise InputError(f"{path}: this DICOM file is a single slice; give the folder with the whole series")
    return _multi_frame(path, only)


def _series(folder: Path, progress: Progress) -> dict[str, list[_Slice]]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the name")
    candidates = list(_files(folder))
    dicom = [path for path in candidates if is_dicom_file(path)]
    # Old files lack the preamble; GDCM then finds out by reading.
    dicom = dicom or [path for path in candidates if path.suffix.lower() in ("", ".dcm", ".ima")]
    series: dict[str, list[_Slice]] = {}
    others: list[Path] = []
    for number, path in enumerate(dicom):
        progress(number / len(dicom), f"Reading {folder.name}")
        try:
            found = _Slice(path, itk_images.read_header(path, _IO))
        except InputError:
            if _has_pixels(path):
                raise
            others.append(path)
            continue
        series.setdefault(found.tag(_SERIES_UID), []).append(found)
    if not series and any(is_dicom_file(path) for path in others):
        raise InputError(f"{folder}: none of its {len(others)} DICOM files is an image; give the scan's folder")
    if not series:
        below = next((path for path in sorted(folder.iterdir()) if path.is_dir()), None)
        hint = f"name one of its sub-folders, {below.name} for example" if below else "check the name"
        raise InputError(f"{folder}: no DICOM image lies in this folder; {hint}")
    if others:
        warnings.warn(
            f"{folder}: {len(others)} file(s) that are no images were left out "
            f"({others[0].name}{', …' if len(others) > 1 else ''})",
            InputWarning,
            stacklevel=3,
        )
    return series


def _has_pixels(path: Path) -> bool:
    """Whether a file that cannot be read is an image all the same: the tag of Pixel Data is in it."""
    return is_dicom_file(path) and b"\xe0\x7f\x10\x00" in path.read_bytes()


def _described(uid: str, slices: list[_Slice]) -> str:
    first = slices[0]
    number = first.tag(_SERIES_NUMBER)
    return (
        f"{f'no. {number}, ' if number else ''}{first.tag(_MODALITY) or 'image'}, {len(slices)} files, UID {uid}"
    )


def _volume(folder: Path, slices: list[_Slice], progress: Progress) -> Volume:
    if any(item.frames > 1 for item in slices):
        if len(slices) > 1:
            raise InputError(
                f"{folder}: {len(slices)} files with several frames each were found, one was expected; give the "
                "path of one file"
            )
        return _multi_frame(folder, slices[0])
    _check_alike(folder, slices)
    slices, matrix = _arranged(folder, slices)
    array = _stacked(slices, progress, folder.name)
    return Volume(array, matrix, folder.name, slices[0].tag(_MODALITY))


def _check_alike(folder: Path, slices: list[_Slice]) -> None:
    """Refuse slices that do not lie on one grid, or that are in colour."""
    if len(slices) < 2:
        raise InputError(
            f"{folder}: a 3D scan was expected, this series has a single slice; give the whole series"
        )
    first = slices[0]
    if first.header.GetNumberOfComponents() > 1:
        raise InputError(
            f"{folder}: one value a voxel was expected, this series is in colour; give the original scan"
        )
    size = first.header.GetSize()[:2]
    orientation = first.numbers(_ORIENTATION, 6)
    spacing = first.numbers(_PIXEL_SPACING, 2)
    for other in slices[1:]:
        if (
            other.header.GetSize()[:2] != size
            or np.abs(other.numbers(_ORIENTATION, 6) - orientation).max() > 1e-3
            or np.abs(other.numbers(_PIXEL_SPACING, 2) - spacing).max() > 1e-3
        ):
            raise InputError(
                f"{folder}: the slices differ in size, spacing or orientation ({first.path.name} and "
                f"{other.path.name}); remove the scout view or other images that do not belong to the scan"
            )


def _arranged(folder: Path, slices: list[_Slice]) -> tuple[list[_Slice], np.ndarray]:
    """The slices in ascending position, and their (4, 4) ijkToLps from the first and last one."""
    first = slices[0]
    row, column = first.numbers(_ORIENTATION, 6).reshape(2, 3)
    between_rows, between_columns = first.numbers(_PIXEL_SPACING, 2)
    normal = np.cross(row, column)
    positions = np.array([item.numbers(_POSITION, 3) for item in slices])
    order = np.argsort(positions @ normal, kind="stable")
    slices, positions = [slices[n] for n in order], positions[order]

    steps = np.diff(positions @ normal)
    usual = float(np.median(steps))
    if steps.min() < 1e-3 or usual < 1e-3:
        twice = slices[int(np.argmin(steps)) + 1].path.name
        raise InputError(
            f"{folder}: several slices lie at the same place ({twice}); the series is over time, of several "
            "echoes or has files twice: export one scan into a folder of its own"
        )
    if steps.max() > _MISSING * usual:
        gap = int(np.argmax(steps))
        raise InputError(
            f"{folder}: slices are missing, {steps[gap]:.4g} mm lie between {slices[gap].path.name} and "
            f"{slices[gap + 1].path.name} where {usual:.4g} mm are usual; copy or export the whole series"
        )
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    off = np.linalg.norm(positions - (positions[0] + np.arange(len(slices))[:, None] * step), axis=1).max()
    if off > _UNEVEN * usual:
        warnings.warn(
            f"{folder}: the slices are uneven ({steps.min():.4g} to {steps.max():.4g} mm); taken as even, "
            f"which moves some by up to {off:.2g} mm",
            InputWarning,
            stacklevel=4,
        )
    matrix = np.eye(4)
    # Pixel Spacing is row spacing, then column spacing: i steps from column to column.
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = row * between_columns, column * between_rows, step
    matrix[:3, 3] = positions[0]
    return slices, matrix


def _stacked(slices: list[_Slice], progress: Progress, name: str) -> np.ndarray:
    """(K, J, I) voxels in the smallest type that holds every slice's rescaled values."""
    kinds = {item.header.GetPixelID() for item in slices}
    stack: np.ndarray | None = None
    for number, item in enumerate(slices):
        progress(number / len(slices), f"Reading {name}")
        plane = itk_images.array_of(itk_images.read_image(item.path, _IO)).reshape(item.header.GetSize()[1::-1])
        if stack is None:
            # Slices of one PET scan can each have a slope of their own, whole or not.
            kind = plane.dtype if len(kinds) == 1 else np.float32
            stack = np.empty((len(slices), *plane.shape), kind)
        stack[number] = plane
    # GDCM computes a slope that is not whole in double precision; the stored values have 16 bits.
    if stack.dtype == np.float64:
        stack = stack.astype(np.float32)
    return itk_images.itk_array(stack)


def _multi_frame(path: Path, only: _Slice) -> Volume:
    modality = only.tag(_MODALITY)
    if modality in ("SEG", "RTSTRUCT", "RTDOSE"):
        raise InputError(f"{path}: a DICOM {modality} was found; load it in 3D Slicer and export it as .seg.nrrd")
    if only.header.GetNumberOfComponents() > 1:
        raise InputError(f"{path}: one value a voxel was expected, this scan is in colour; give the original scan")
    image = itk_images.read_image(only.path, _IO)
    return Volume(itk_images.array_of(image), itk_images.matrix_of(image), path.name, modality)
