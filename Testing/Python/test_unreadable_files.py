"""What cannot be read is refused in one line that names the file: damaged, cut short, of another kind."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name it goes by
from image_samples import FORMATS, check_refused, scan
from SSLFewShotLib.imaging.files import read_labels, read_volume, write_volume


def test_a_nifti_of_the_second_version_is_refused_with_a_way_out(tmp_path):
    nibabel.save(nibabel.Nifti2Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "x.nii.gz")
    check_refused(tmp_path / "x.nii.gz", "NIfTI-2 cannot be read; convert it")


@pytest.mark.parametrize("name", ["x.nii.gz", "x.seg.nrrd", "folder"])
@pytest.mark.parametrize("read", [read_volume, read_labels])
def test_a_missing_file_is_refused(tmp_path, name, read):
    check_refused(tmp_path / name, "no such file or folder", read)


@pytest.mark.parametrize("ending", [*FORMATS, ".mhd", ".dcm", ".seg.nrrd"])
@pytest.mark.parametrize("read", [read_volume, read_labels])
def test_an_empty_or_meaningless_file_is_refused_quietly(tmp_path, ending, read, capfd):
    path = tmp_path / f"x{ending}"
    path.touch()
    check_refused(path, "the file is empty", read)
    path.write_bytes(b"this is not an image\n" * 40)
    check_refused(path, "could not be read|damaged", read)
    assert capfd.readouterr().err == ""


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    check_refused(tmp_path / "notes.txt", r"not a known image format; \.nrrd, \.nii\.gz")


@pytest.mark.parametrize("part", [0.02, 0.3, 0.99])
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_that_is_cut_short_is_refused_quietly(tmp_path, ending, compress, part, capfd):
    path = tmp_path / f"x{ending}"
    write_volume(scan(shape=(20, 30, 40)), path, compress=compress)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    check_refused(path, "cut short|damaged")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz", ".mha"])
def test_damaged_bytes_in_a_compressed_file_are_noticed(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    write_volume(scan(shape=(20, 30, 40)), path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(content)
    check_refused(path, "cut short|damaged")


def test_a_gzip_of_several_members_is_whole(tmp_path):
    volume = scan()
    write_volume(volume, tmp_path / "x.nii")
    content = (tmp_path / "x.nii").read_bytes()
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(content[:300]) + gzip.compress(content[300:]))
    assert np.array_equal(read_volume(tmp_path / "x.nii.gz").array, volume.array)


@pytest.mark.parametrize("ending", FORMATS)
def test_2d_4d_and_colour_images_are_refused(tmp_path, ending):
    flat, colour = tmp_path / f"flat{ending}", tmp_path / f"colour{ending}"
    series = tmp_path / f"series{ending}"
    sitk.WriteImage(sitk.Image([8, 9], sitk.sitkInt16), str(flat))
    sitk.WriteImage(sitk.Image([4, 5, 6, 3], sitk.sitkInt16), str(series))
    sitk.WriteImage(sitk.Image([4, 5, 6], sitk.sitkVectorUInt8, 3), str(colour))
    check_refused(flat, r"3D image was expected, this one is 2D \(8 × 9\)")
    check_refused(series, r"3D image was expected, this one is 4D \(4 × 5 × 6 × 3\)")
    check_refused(colour, "one value a voxel was expected, this image has 3")
    check_refused(series, "this one is 4D", read_labels)


def test_an_image_without_voxels_is_refused(tmp_path):
    header = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).header
    header["dim"][1:4] = [0, 5, 6]
    (tmp_path / "x.nii").write_bytes(header.binaryblock + bytes(4))
    check_refused(tmp_path / "x.nii", "could not be read|empty|damaged")


@pytest.mark.parametrize("ending", FORMATS)
def test_nan_and_infinite_voxels_are_counted_and_refused(tmp_path, ending):
    volume = scan(kind=np.float32)
    volume.array[0, 0, 0], volume.array[1, 2, :3] = np.nan, np.inf
    write_volume(volume, tmp_path / f"x{ending}")
    check_refused(tmp_path / f"x{ending}", "4 of 210 voxels are NaN or infinite")
    check_refused(tmp_path / f"x{ending}", "NaN or infinite", read_labels)


@pytest.mark.parametrize("kind", [">f4", "<f8"])
def test_nan_in_a_nifti_of_another_byte_order_is_found(tmp_path, kind):
    data = np.zeros((4, 5, 6), kind)
    data[1, 1, 1] = np.nan
    image = nibabel.Nifti1Image(data, np.eye(4), nibabel.Nifti1Header(endianness=kind[0]))
    image.set_data_dtype(kind)
    nibabel.save(image, tmp_path / "x.nii.gz")
    check_refused(tmp_path / "x.nii.gz", "1 of 120 voxels are NaN")


def test_a_file_that_may_not_be_opened_is_refused(tmp_path, monkeypatch):
    write_volume(scan(), tmp_path / "x.nrrd")

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    check_refused(tmp_path / "x.nrrd", r"cannot be opened \(Permission denied\)")
