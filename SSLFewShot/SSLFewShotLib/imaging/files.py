"""Reading and writing scans and labels: NRRD, NIfTI, MetaImage, DICOM and Slicer's segmentations.

The voxel grid stays as the file has it: nothing is rotated, flipped or resampled. ITK gives LPS whatever the
file's own convention is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name it goes by

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging import itk_images
from SSLFewShotLib.imaging.compression import compress as compress_file
from SSLFewShotLib.imaging.compression import raw_name
from SSLFewShotLib.imaging.dicom import is_dicom_file, read_dicom_file, read_dicom_folder
from SSLFewShotLib.imaging.integrity import check_complete
from SSLFewShotLib.imaging.label_names import named_segments
from SSLFewShotLib.imaging.labelmap import LabelMap, Segment, as_labels, default_colour, present_values
from SSLFewShotLib.imaging.nifti import (
    NiftiHeader,
    count_nonfinite,
    is_sheared,
    read_nifti_header,
    sform_tolerated,
)
from SSLFewShotLib.imaging.segmentation_nrrd import has_segments, labels_from_segmentation, write_segmentation
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.outputs import refuse_existing, written_atomically
from SSLFewShotLib.progress import Progress, ignore_progress, portion, watched

# The longest first: ".seg.nrrd" is not a plain ".nrrd".
_READABLE = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
_WRITABLE = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha")
_NIFTI = (".nii.gz", ".nii")


def file_format(path: Path | str) -> str:
    """The format that a path's ending names: ".seg.nrrd", ".nii.gz", … or "" when it names none."""
    name = Path(path).name.lower()
    return next((ending for ending in _READABLE if name.endswith(ending)), "")


def stem(path: Path | str) -> str:
    """A file's name without its whole ending: "pt_013_ct" for pt_013_ct.nii.gz, "x" for x.seg.nrrd and x.tif.

    Other endings stay: a folder "scan.2" and a name "pt_1.5T" are whole names.
    """
    name = Path(path).name
    ending = file_format(name) or next((e for e in (".tif", ".tiff") if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)] if ending else name


def read_volume(path: Path | str, progress: Progress = ignore_progress) -> Volume:
    """Read a 3D scalar image: NRRD, NIfTI, MetaImage, a DICOM file with several frames or a DICOM folder.

    Raises InputError, in one line that names the file, when it is missing, unreadable, cut short, damaged,
    empty, not 3D, has several values a voxel (colour, vectors), or holds NaN or infinite voxels.
    """
    path = Path(path)
    volume, _ = _read(path, progress)
    if volume.array.dtype.kind == "f":
        bad = watched(lambda: _nonfinite(volume.array), progress, 1.0, f"checking {path.name}")
        _refuse_nonfinite(bad, volume.array.size, path)
    return volume


def read_labels(path: Path | str, progress: Progress = ignore_progress) -> LabelMap:
    """Read labels from any format that `read_volume` reads, and from Slicer's .seg.nrrd.

    Names, colours and terminology come from the file where it has them (.seg.nrrd, and .nrrd written here),
    else from `<stem>_labels.json` or `labels.json` beside it, {"1": "Brainstem", …} or
    {"1": {"name": "Brainstem", "color": [r, g, b]}, …}, else they are "Segment_1", ….

    Raises InputError as `read_volume` does, and for values that are not whole numbers from 0 to 32767.
    """
    path = Path(path)
    volume, segmented = _read(path, progress, labels=True)
    if segmented:
        return labels_from_segmentation(volume.array, volume.ijkToLps, volume.metadata, path.name, progress)
    array = watched(lambda: as_labels(volume.array, str(path)), progress, 1.0, f"checking {path.name}")
    present = watched(lambda: present_values(array), progress, 1.0, f"checking {path.name}")
    segments = {value: Segment(value, f"Segment_{value}", default_colour(value)) for value in present}
    segments |= {segment.value: segment for segment in named_segments(path.parent, stem(path))}
    ordered = [segments[value] for value in sorted(segments)]
    return LabelMap(array, volume.ijkToLps, path.name, volume.modality, segments=ordered)


def write_volume(
    volume: Volume,
    path: Path | str,
    overwrite: bool = False,
    compress: bool = True,
    progress: Progress = ignore_progress,
) -> None:
    """Write a volume; the ending of `path` (.nrrd, .nii.gz, .nii, .mha) tells the format.

    compress: .nrrd and .mha can be written uncompressed, for speed.

    Raises InputError for another ending, an existing file, a volume of vectors as NIfTI, and a sheared
    geometry as NIfTI (ITK makes its axes orthogonal); OutputError when it cannot be written.
    """
    path = Path(path)
    ending = _writable_format(path, overwrite)
    if ending == ".seg.nrrd":
        raise InputError(f"{path}: .seg.nrrd holds labels, not images; write the image as .nrrd")
    if ending in _NIFTI and volume.array.ndim == 4:
        raise InputError(f"{path}: vectors are not written as NIfTI; write them as .nrrd")
    _refuse_sheared_nifti(volume, path, ending)
    image = watched(lambda: itk_images.image_of(volume), progress, 0.0, f"writing {path.name}")
    if volume.modality and ending == ".nrrd":
        image.SetMetaData("modality", volume.modality)
    with written_atomically(path) as temporary:
        _write_image(image, temporary, compress, progress)


def write_labels(
    labels: LabelMap, path: Path | str, overwrite: bool = False, progress: Progress = ignore_progress
) -> None:
    """Write labels; the ending of `path` (.seg.nrrd, .nrrd, .nii.gz, .nii, .mha) tells the format.

    .seg.nrrd keeps everything; .nrrd keeps the same keys for a single layer; the others keep the numbers only.

    Raises InputError for another ending, an existing file, overlapping segments in a format of one layer, and
    a sheared geometry as NIfTI; OutputError when it cannot be written.
    """
    path = Path(path)
    ending = _writable_format(path, overwrite)
    if ending == ".seg.nrrd":
        with written_atomically(path) as temporary:
            write_segmentation(labels, temporary, progress)
        return
    _refuse_sheared_nifti(labels, path, ending)
    flat = _single_layer(labels, path)
    with written_atomically(path) as temporary:
        if ending == ".nrrd":
            write_segmentation(flat, temporary, progress)
        else:
            image = watched(lambda: itk_images.image_of(flat), progress, 0.0, f"writing {path.name}")
            _write_image(image, temporary, True, progress)


def _read(path: Path, progress: Progress, labels: bool = False) -> tuple[Volume, bool]:
    """The volume at `path`, not yet checked for its values, and whether it describes segments."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the name")
    if path.is_dir():
        return read_dicom_folder(path, progress), False
    ending = file_format(path)
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); check the permissions") from None
    if empty:
        raise InputError(f"{path}: the file is empty (0 bytes); copy or export it again")
    if ending == ".dcm" or (not ending and is_dicom_file(path)):
        return read_dicom_file(path), False
    if not ending:
        raise InputError(
            f"{path}: not a known image format; .nrrd, .nii.gz, .nii, .mha, .mhd, .seg.nrrd or a DICOM folder "
            "was expected"
        )

    nifti = read_nifti_header(path) if ending in _NIFTI else None
    sheared = _sheared_sform(nifti)
    with contextlib.nullcontext() if sheared is None else sform_tolerated():
        header = itk_images.read_header(path)
        metadata = {key: header.GetMetaData(key) for key in header.GetMetaDataKeys()}
        segmented = labels and ending in (".seg.nrrd", ".nrrd", ".nhdr") and has_segments(metadata)
        flat = _check_shape(path, header, vectors=segmented)
        count = int(np.prod(header.GetSize(), dtype=object)) * header.GetNumberOfComponents()
        voxel_bytes = count * _itemsize(header.GetPixelID())
        check_complete(path, voxel_bytes, portion(progress, 0.0, 0.4))
        if nifti is not None:
            _refuse_nonfinite(count_nonfinite(path, nifti, portion(progress, 0.4, 0.6)), count, path)
        what = f"reading {path.name}"
        image = watched(lambda: itk_images.read_image(path), progress, 0.6, what)
    if flat:
        image = image[:, :, :, 0]
    array = watched(lambda: itk_images.itk_array(itk_images.array_of(image)), progress, 0.9, what)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    matrix = itk_images.matrix_of(image) if sheared is None else sheared
    kept = {key: value for key, value in metadata.items() if key.startswith("Segment")} if segmented else {}
    modality = metadata.get("modality", "") if ending == ".nrrd" else ""
    return Volume(array, matrix, path.name, modality, kept), segmented


def _check_shape(path: Path, header: sitk.ImageFileReader, vectors: bool) -> bool:
    """Refuse what is not one 3D scalar image; return whether a fourth axis of one frame is to be dropped."""
    dimension, components = header.GetDimension(), header.GetNumberOfComponents()
    size = " × ".join(map(str, header.GetSize()))
    if dimension < 3:
        raise InputError(
            f"{path}: a 3D image was expected, this one is {dimension}D ({size}); give the whole scan"
        )
    if dimension > 3 and set(header.GetSize()[3:]) != {1}:
        raise InputError(
            f"{path}: a 3D image was expected, this one is {dimension}D ({size}); export one frame as a 3D image"
        )
    if dimension > 4:
        raise InputError(f"{path}: a 3D image was expected, this one is {dimension}D ({size})")
    if components > 1 and not vectors:
        raise InputError(
            f"{path}: one value a voxel was expected, this image has {components} (colour or vectors); "
            "convert it to a scalar image"
        )
    if "complex" in sitk.GetPixelIDValueAsString(header.GetPixelID()):
        raise InputError(f"{path}: real values were expected, this image has complex ones; export its magnitude")
    return dimension == 4


def _itemsize(pixel_id: int) -> int:
    bits = "".join(c for c in sitk.GetPixelIDValueAsString(pixel_id) if c.isdigit())
    return int(bits or 8) // 8


def _nonfinite(array: np.ndarray) -> int:
    return sum(int(plane.size - np.isfinite(plane).sum()) for plane in array)


def _refuse_nonfinite(bad: int, count: int, path: Path) -> None:
    if bad:
        raise InputError(
            f"{path}: {bad} of {count} voxels are NaN or infinite; replace them, by the value of air for "
            "example, and save the image again"
        )


def _sheared_sform(header: NiftiHeader | None) -> np.ndarray | None:
    """The (4, 4) ijkToLps of a NIfTI file whose sform is sheared; None when ITK reads the geometry as it is."""
    if header is None or header.sform is None or len(header.shape) < 3:
        return None
    axes = header.sform[:3, :3]
    if not np.isfinite(header.sform).all() or abs(np.linalg.det(axes)) < 1e-12:
        return None
    return header.sform if is_sheared(header.sform, header.shape[:3]) else None


def _writable_format(path: Path, overwrite: bool) -> str:
    ending = file_format(path)
    if ending not in _WRITABLE:
        raise InputError(f"{path}: cannot write this format; give a name that ends in {', '.join(_WRITABLE)}")
    refuse_existing(path, overwrite)
    return ending


def _refuse_sheared_nifti(volume: Volume, path: Path, ending: str) -> None:
    # Checked with ITK 5.4: the sform that it writes is made orthogonal, which moves the voxels.
    if ending in _NIFTI and is_sheared(volume.ijkToLps, volume.size):
        raise InputError(f"{path}: NIfTI cannot keep the sheared axes of {volume.name}; write .nrrd instead")


def _single_layer(labels: LabelMap, path: Path) -> LabelMap:
    if not labels.overlapping:
        return labels
    merged = labels.array[..., 0].copy()
    for layer in range(1, labels.array.shape[-1]):
        other = labels.array[..., layer]
        if (merged[other > 0] > 0).any():
            raise InputError(
                f"{path}: segments of {labels.name} overlap, this format cannot hold that; write .seg.nrrd"
            )
        np.copyto(merged, other, where=other > 0)
    return LabelMap(merged, labels.ijkToLps, labels.name, labels.modality, segments=labels.segments)


def _write_image(image: sitk.Image, path: Path, compress: bool, progress: Progress) -> None:
    """Write with ITK, into a folder of its own; OSError when not every byte has reached the disk."""
    raw = raw_name(path) if compress else None

    def write() -> None:
        with itk_images.quiet(), itk_images.openable(raw or path, writing=True) as name:
            sitk.WriteImage(image, name, compress and raw is None)

    # Windows would not let the folder go while ITK still writes into it.
    watcher = progress if os.name == "posix" else ignore_progress
    try:
        watched(write, watcher, 0.0, f"writing {path.name}")
        # ITK's NIfTI writer does not notice a full disk.
        if file_format(path) in _NIFTI:
            check_complete(raw or path, 0)
        if raw is not None:
            compress_file(raw, path, progress)
            raw.unlink()
    except (RuntimeError, InputError):
        full = shutil.disk_usage(path.parent).free < 1 << 20
        code = errno.ENOSPC if full else errno.EIO
        raise OSError(code, os.strerror(code)) from None
