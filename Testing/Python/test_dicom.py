"""DICOM folders, written here slice by slice with pydicom."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import PATIENT, SHAPE, STORED, add_pixels, dataset, write_series
from pydicom.uid import (
    EnhancedCTImageStorage,
    RTStructureSetStorage,
    generate_uid,
)
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.dicom import read_dicom_series
from SSLFewShotLib.imaging.files import read_labels, read_volume


def test_a_series_is_sorted_by_position_and_rescaled(tmp_path):
    write_series(tmp_path / "scan")
    volume = read_volume(tmp_path / "scan")
    assert np.array_equal(volume.array, STORED - 1024)
    assert volume.array.dtype.kind == "i" and volume.array.dtype.itemsize <= 4
    assert np.allclose(volume.ijkToLps, [[0.9, 0, 0, 10], [0, 0.7, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
    assert (volume.modality, volume.name) == ("CT", "scan")


def test_reading_a_series_reports_its_progress(tmp_path):
    write_series(tmp_path)
    fractions = []
    read_volume(tmp_path, lambda fraction, message: fractions.append(fraction))
    assert len(fractions) == 10 and fractions == sorted(fractions) and 0 <= fractions[-1] <= 1


def test_nothing_that_names_the_patient_is_kept(tmp_path):
    write_series(tmp_path)
    volume = read_volume(tmp_path)
    assert "Mustermann" not in repr(vars(volume)) and "4711" not in repr(vars(volume))


def test_slices_stored_from_head_to_foot_come_out_ascending(tmp_path):
    write_series(tmp_path, STORED, [(0, 0, -3.0 * n) for n in range(5)])
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array, STORED[::-1] - 1024)
    assert np.allclose(volume.points_from_indices([[0, 0, 0], [0, 0, 4]]), [[0, 0, -12], [0, 0, 0]])


def test_a_tilted_gantry_stays_a_shear(tmp_path):
    write_series(tmp_path, STORED, [(0, 0.8 * n, 3.0 * n) for n in range(5)])
    volume = read_volume(tmp_path)
    assert np.allclose(volume.ijkToLps[:3, 2], [0, 0.8, 3.0])
    assert np.allclose(volume.points_from_indices([[0, 0, 4]]), [[0, 3.2, 12.0]])


def test_an_oblique_series_keeps_its_direction(tmp_path):
    turn = np.array([[0.8, -0.6, 0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]])
    positions = [np.array([5, 6, 7]) + 2.0 * n * turn[:, 2] for n in range(5)]
    write_series(tmp_path, STORED, positions, (*turn[:, 0], *turn[:, 1]))
    volume = read_volume(tmp_path)
    assert np.allclose(volume.direction, turn, atol=1e-6)
    assert np.allclose(volume.spacing, [0.9, 0.7, 2.0], atol=1e-6)


def test_slices_with_slopes_of_their_own_are_each_rescaled_by_it(tmp_path):
    write_series(tmp_path, slopes=(1.0, 0.5, 2.0), modality="PT")
    volume = read_volume(tmp_path)
    expected = STORED * np.array([1.0, 0.5, 2.0, 1.0, 0.5])[:, None, None] - 1024
    assert volume.array.dtype == np.float32 and volume.modality == "PT"
    assert np.allclose(volume.array, expected)


def test_several_series_are_named_without_the_patient_and_can_be_read_one_by_one(tmp_path):
    first = write_series(tmp_path, prefix="a")
    second = write_series(tmp_path, STORED + 7, prefix="b", modality="MR")
    with pytest.raises(InputError, match="one DICOM series was expected, there are 2") as error:
        read_volume(tmp_path)
    assert first in str(error.value) and second in str(error.value)
    assert PATIENT not in str(error.value) and "\n" not in str(error.value)
    assert np.array_equal(read_dicom_series(tmp_path, second).array, STORED + 7 - 1024)
    with pytest.raises(InputError, match=r"no series 1\.2\.3"):
        read_dicom_series(tmp_path, "1.2.3")


def test_a_missing_slice_is_refused_with_its_place(tmp_path):
    write_series(tmp_path, STORED, [(0, 0, z) for z in (0, 2, 4, 8, 10)])
    with pytest.raises(InputError, match=r"slices are missing, 4 mm lie between .*\.dcm and .*\.dcm where 2 mm"):
        read_volume(tmp_path)


def test_slightly_uneven_slices_are_taken_with_a_warning(tmp_path):
    write_series(tmp_path, STORED, [(0, 0, z) for z in (0, 2, 4.4, 6, 8)])
    with pytest.warns(InputWarning, match=r"uneven \(1\.6 to 2\.4 mm\)"):
        volume = read_volume(tmp_path)
    assert np.allclose(volume.spacing[2], 2.0)


def test_rounding_of_positions_passes_without_a_warning(tmp_path):
    write_series(tmp_path, STORED, [(0, 0, z) for z in (0, 1.33, 2.67, 4, 5.33)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.allclose(read_volume(tmp_path).spacing[2], 5.33 / 4)


def test_two_time_points_in_one_series_are_refused(tmp_path):
    write_series(tmp_path, np.concatenate([STORED, STORED]), [(0, 0, 2.0 * (n % 5)) for n in range(10)])
    with pytest.raises(InputError, match="several slices lie at the same place"):
        read_volume(tmp_path)


def test_a_scout_view_among_the_slices_is_refused(tmp_path):
    uid = write_series(tmp_path)
    write_series(tmp_path, STORED[:1], orientation=(1, 0, 0, 0, 0, -1), series_uid=uid, prefix="scout")
    with pytest.raises(InputError, match="differ in size, spacing or orientation"):
        read_volume(tmp_path)


def test_a_single_slice_is_refused(tmp_path):
    write_series(tmp_path, STORED[:1])
    with pytest.raises(InputError, match="a 3D scan was expected"):
        read_volume(tmp_path)
    with pytest.raises(InputError, match="is a single slice; give the folder"):
        read_volume(next(tmp_path.iterdir()))


def test_slices_without_a_position_are_refused(tmp_path):
    write_series(tmp_path)
    for path in tmp_path.iterdir():
        image = pydicom.dcmread(path)
        del image.ImagePositionPatient
        image.save_as(path)
    with pytest.raises(InputError, match="has no position in the patient"):
        read_volume(tmp_path)


def test_files_that_are_no_images_are_left_out_with_a_warning(tmp_path):
    uid = write_series(tmp_path)
    contours = dataset(RTStructureSetStorage, uid, "RTSTRUCT")
    contours.save_as(tmp_path / "contours.dcm", enforce_file_format=True)
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.warns(InputWarning, match=r"contours\.dcm"):
        assert read_volume(tmp_path).size == (6, 4, 5)


def test_a_slice_that_is_cut_short_is_named(tmp_path):
    write_series(tmp_path)
    victim = tmp_path / "014.dcm"
    victim.write_bytes(victim.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"014\.dcm.*(damaged|cut short)"):
        read_volume(tmp_path)


def test_a_folder_of_dicom_files_without_an_image_is_refused(tmp_path):
    contours = dataset(RTStructureSetStorage, generate_uid(), "RTSTRUCT")
    contours.save_as(tmp_path / "contours.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="none of its 1 DICOM files is an image"):
        read_volume(tmp_path)


def test_an_empty_folder_and_one_with_sub_folders_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="no DICOM image lies in this folder; check the name"):
        read_volume(tmp_path)
    write_series(tmp_path / "series 1")
    with pytest.raises(InputError, match="one of its sub-folders, series 1 for example"):
        read_volume(tmp_path)


def test_a_folder_with_spaces_umlauts_and_chinese_letters_is_read(tmp_path):
    write_series(tmp_path / "Schädel CT 头颈")
    assert read_volume(tmp_path / "Schädel CT 头颈").name == "Schädel CT 头颈"


def test_labels_saved_as_a_dicom_series_are_read(tmp_path):
    stored = np.zeros(SHAPE, np.int16)
    stored[1:3, 1:3, 1:3] = 2
    write_series(tmp_path, stored + 1024)
    labels = read_labels(tmp_path)
    assert [s.name for s in labels.segments] == ["Segment_2"] and labels.mask("Segment_2").sum() == 8


def write_enhanced(path: Path, descending: bool) -> None:
    """An enhanced CT: one file, its geometry in functional groups (PS3.3 C.7.6.16)."""
    image = dataset(EnhancedCTImageStorage, generate_uid())
    add_pixels(image, STORED)
    image.NumberOfFrames = len(STORED)
    orientation, measures, rescale = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = [0.7, 0.9], 2.5, 2.5
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -1024, "HU"
    shared = pydicom.Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.PixelValueTransformationSequence = [rescale]
    image.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number in range(len(STORED)):
        frame, place, content = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        step = len(STORED) - 1 - number if descending else number
        place.ImagePositionPatient = [10, 20, 30 + 2.5 * step]
        content.StackID, content.InStackPositionNumber = "1", number + 1
        content.DimensionIndexValues = [number + 1]
        frame.PlanePositionSequence, frame.FrameContentSequence = [place], [content]
        frames.append(frame)
    image.PerFrameFunctionalGroupsSequence = frames
    image.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("as_folder", [False, True])
def test_an_enhanced_file_with_all_frames_is_read(tmp_path, descending, as_folder):
    write_enhanced(tmp_path / "enhanced.dcm", descending)
    volume = read_volume(tmp_path if as_folder else tmp_path / "enhanced.dcm")
    assert np.array_equal(volume.array, STORED - 1024) and volume.modality == "CT"
    last = 30 if descending else 40
    assert np.allclose(volume.points_from_indices([[0, 0, 4]]), [[10, 20, last]])
    assert np.allclose(volume.spacing, [0.9, 0.7, 2.5])
