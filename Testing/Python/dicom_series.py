"""DICOM slices written with pydicom, not by the library."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

SHAPE = (5, 4, 6)
STORED = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
PATIENT = "Mustermann^Erika"


def dataset(storage: str, series_uid: str, modality: str = "CT") -> pydicom.Dataset:
    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = storage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), series_uid
    image.PatientName, image.PatientID, image.Modality = PATIENT, "4711", modality
    return image


def add_pixels(image: pydicom.Dataset, voxels: np.ndarray) -> None:
    image.Rows, image.Columns = voxels.shape[-2:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.PixelData = voxels.astype("<i2").tobytes()


def write_series(
    folder: Path,
    stored: np.ndarray = STORED,
    positions: np.ndarray | None = None,
    orientation=(1, 0, 0, 0, 1, 0),
    slopes: tuple[float, ...] = (1.0,),
    modality: str = "CT",
    series_uid: str | None = None,
    prefix: str = "",
) -> str:
    """Write one CT series whose file names are in another order than its slices; return its UID."""
    folder.mkdir(parents=True, exist_ok=True)
    series_uid = series_uid or generate_uid()
    if positions is None:
        positions = [(10, 20, 30 + 2.5 * n) for n in range(len(stored))]
    for number, (plane, position) in enumerate(zip(stored, positions, strict=True)):
        image = dataset(CTImageStorage, series_uid, modality)
        add_pixels(image, plane)
        image.ImagePositionPatient = [float(f"{x:.8g}") for x in position]
        image.ImageOrientationPatient = [float(f"{x:.8g}") for x in orientation]
        image.PixelSpacing = [0.7, 0.9]
        # What scanners write here is not to be believed.
        image.SliceThickness, image.SpacingBetweenSlices, image.SeriesNumber = 9, 11, 3
        image.RescaleSlope, image.RescaleIntercept = slopes[number % len(slopes)], -1024
        image.save_as(folder / f"{prefix}{(number * 7) % 100:03d}.dcm", enforce_file_format=True)
    return series_uid
