"""Scans in files: voxels, types and places come back exactly; nibabel, pynrrd and the raw bytes as references."""

import itertools
import shutil
import sys

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name it goes by
from command_line import no_file_larger_than
from image_samples import FORMATS, SHEARED, TURN, organs, scan
from SSLFewShotLib.errors import InputError, OutputError
from SSLFewShotLib.imaging import LabelMap, Volume, itk_images
from SSLFewShotLib.imaging.files import file_format, read_labels, read_volume, stem, write_labels, write_volume

PERMUTATIONS = [
    np.diag(signs)[:, list(order)]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("axes", PERMUTATIONS)
def test_every_format_keeps_voxels_and_flipped_and_permuted_axes(tmp_path, ending, axes):
    volume = scan(TURN @ axes)
    write_volume(volume, tmp_path / f"scan{ending}")
    again = read_volume(tmp_path / f"scan{ending}")
    assert np.array_equal(again.array, volume.array) and again.array.dtype == np.int16
    assert again.same_grid(volume)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_bright_voxel_stays_at_its_place_in_the_world(tmp_path, ending):
    volume = scan(TURN @ np.diag([-1, 1, 1.0]))
    volume.array[:] = 0
    volume.array[4, 1, 2] = 999
    place = volume.points_from_indices([[2, 1, 4]])
    write_volume(volume, tmp_path / f"scan{ending}")
    again = read_volume(tmp_path / f"scan{ending}")
    found = again.points_from_indices(np.argwhere(again.array == 999)[:, ::-1])
    assert np.allclose(found, place, atol=1e-4)


def test_a_nifti_written_by_another_program_lies_where_its_affine_says(tmp_path):
    to_ras = np.diag([-1, -1, 1, 1.0]) @ scan(TURN).ijkToLps
    data = np.zeros((7, 6, 5), np.float32)
    data[2, 1, 4] = 1
    nibabel.save(nibabel.Nifti1Image(data, to_ras), tmp_path / "x.nii.gz")
    volume = read_volume(tmp_path / "x.nii.gz")
    found = volume.points_from_indices(np.argwhere(volume.array == 1)[:, ::-1])
    assert np.allclose(found * [-1, -1, 1], (to_ras @ [2, 1, 4, 1])[:3], atol=1e-4)


def test_a_nifti_written_here_lies_for_another_program_where_it_should(tmp_path):
    volume = scan(TURN)
    write_volume(volume, tmp_path / "x.nii.gz")
    other = nibabel.load(tmp_path / "x.nii.gz")
    assert np.allclose(np.diag([-1, -1, 1, 1.0]) @ other.affine, volume.ijkToLps, atol=1e-4)
    assert np.array_equal(np.asarray(other.dataobj).T, volume.array)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_sheared_axes_are_kept_where_the_format_can(tmp_path, ending):
    volume = Volume(scan().array, SHEARED)
    write_volume(volume, tmp_path / f"scan{ending}")
    assert np.allclose(read_volume(tmp_path / f"scan{ending}").ijkToLps, SHEARED)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_sheared_axes_are_refused_where_nifti_would_lose_them(tmp_path, ending):
    with pytest.raises(InputError, match=r"sheared axes of ct; write \.nrrd"):
        write_volume(Volume(scan().array, SHEARED, "ct"), tmp_path / f"scan{ending}")
    with pytest.raises(InputError, match="sheared axes"):
        write_labels(LabelMap(np.ones((5, 6, 7), np.uint8), SHEARED), tmp_path / f"scan{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("qform", [0, 1])
def test_the_sheared_sform_of_a_nifti_is_read_as_it_is(tmp_path, qform):
    data = np.arange(210, dtype=np.int16).reshape(7, 6, 5)
    image = nibabel.Nifti1Image(data, np.diag([-1, -1, 1, 1.0]) @ SHEARED)
    image.set_sform(np.diag([-1, -1, 1, 1.0]) @ SHEARED, 1)
    image.set_qform(np.diag([0.9, 0.7, 2.5, 1.0]), qform)
    nibabel.save(image, tmp_path / "x.nii.gz")
    volume = read_volume(tmp_path / "x.nii.gz")
    assert np.allclose(volume.ijkToLps, SHEARED, atol=1e-5)
    assert np.array_equal(volume.array, data.T)


def test_a_nearly_orthogonal_direction_can_still_be_written_as_nifti(tmp_path):
    volume = scan(TURN + 1e-7)
    write_volume(volume, tmp_path / "x.nii.gz")
    assert read_volume(tmp_path / "x.nii.gz").same_grid(volume)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8"])
def test_types_of_voxels_stay_as_they_are(tmp_path, ending, kind):
    volume = scan(kind=np.dtype(kind))
    write_volume(volume, tmp_path / f"x{ending}")
    again = read_volume(tmp_path / f"x{ending}").array
    assert again.dtype == kind and np.array_equal(again, volume.array)


@pytest.mark.parametrize(
    ("values", "kind"),
    [([0, 200], np.uint8), ([-1000, 3000], np.int16), ([0, 60000], np.uint16), ([-9, 70000], np.int32),
     ([0, 2**40], np.int64)],
)  # fmt: skip
def test_64_bit_integers_become_the_smallest_exact_type(tmp_path, values, kind):
    array = np.resize(np.array(values, np.int64), (2, 3, 4))
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "x.nrrd"))
    volume = read_volume(tmp_path / "x.nrrd")
    assert volume.array.dtype == kind and np.array_equal(volume.array, array)


def test_rescaling_in_a_nifti_header_is_applied(tmp_path):
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, tmp_path / "x.nii.gz")
    # nibabel stores (data - inter) / slope, so the voxels come back as they were given.
    assert np.allclose(read_volume(tmp_path / "x.nii.gz").array.T, nibabel.load(tmp_path / "x.nii.gz").get_fdata())


def test_a_metaimage_and_a_nrrd_with_their_voxels_in_another_file_are_read(tmp_path):
    volume = scan()
    for name in ("a.mhd", "b.nhdr"):
        sitk.WriteImage(itk_images.image_of(volume), str(tmp_path / name))
        assert np.array_equal(read_volume(tmp_path / name).array, volume.array)


def test_the_modality_goes_along_in_a_nrrd(tmp_path):
    write_volume(scan(modality="CT"), tmp_path / "x.nrrd", compress=False)
    assert read_volume(tmp_path / "x.nrrd").modality == "CT"


def test_a_fourth_axis_with_one_frame_is_dropped(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, 1), np.int16), np.eye(4)), tmp_path / "x.nii.gz")
    image = sitk.JoinSeries([itk_images.image_of(scan(TURN))])
    sitk.WriteImage(image, str(tmp_path / "y.nrrd"))
    assert read_volume(tmp_path / "x.nii.gz").size == (4, 5, 6)
    assert read_volume(tmp_path / "y.nrrd").same_grid(scan(TURN))


@pytest.mark.parametrize("ending", [*FORMATS, ".seg.nrrd"])
@pytest.mark.parametrize("name", ["with spaces", "Schädel-größe", "头颈 CT"])
def test_names_with_spaces_and_letters_of_any_script_work(tmp_path, ending, name):
    folder = tmp_path / name
    if ending != ".seg.nrrd":
        write_volume(scan(), folder / f"{name}{ending}")
        assert read_volume(folder / f"{name}{ending}").same_grid(scan())
    write_labels(organs(), folder / f"{name}_labels{ending}")
    assert read_labels(folder / f"{name}_labels{ending}").same_grid(organs())


@pytest.mark.parametrize("ending", FORMATS)
def test_where_itk_cannot_open_a_path_the_file_goes_through_a_copy(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(itk_images, "_needs_ascii_path", lambda: True)
    opened = []
    write, read = sitk.WriteImage, sitk.ReadImage
    monkeypatch.setattr(sitk, "WriteImage", lambda image, name, *a: (opened.append(name), write(image, name, *a)))
    monkeypatch.setattr(sitk, "ReadImage", lambda name, **k: (opened.append(name), read(name, **k))[1])
    write_volume(scan(TURN), tmp_path / f"头颈{ending}")
    assert read_volume(tmp_path / f"头颈{ending}").same_grid(scan(TURN))
    # What is to be compressed is written without by ITK.
    endings = (ending, ending.removesuffix(".gz"))
    assert len(opened) == 2 and all(name.isascii() and name.endswith(endings) for name in opened)


@pytest.mark.parametrize("ending", [*FORMATS, ".seg.nrrd"])
def test_an_existing_file_is_kept_unless_overwriting_was_asked_for(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    write_labels(organs(), path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write_labels(organs(), path)
    assert path.read_bytes() == before
    shifted = organs()
    shifted.array[:] = np.roll(shifted.array, 1)
    write_labels(shifted, path, overwrite=True)
    assert np.array_equal(read_labels(path).array, shifted.array)


@pytest.mark.parametrize("name", ["x.mhd", "x.png", "x", "x.seg.nrrd"])
def test_an_image_is_not_written_to_an_ending_that_does_not_fit(tmp_path, name):
    with pytest.raises(InputError, match=name):
        write_volume(scan(), tmp_path / name)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX")
@pytest.mark.parametrize("ending", [*FORMATS, ".seg.nrrd"])
def test_a_disk_that_fills_up_leaves_nothing_behind_and_says_so(tmp_path, ending, rng, capfd):
    labels = LabelMap(rng.integers(0, 200, (30, 40, 50)).astype(np.uint8), np.eye(4))
    with no_file_larger_than(20_000):
        with pytest.raises(OutputError, match=rf"x{ending}: could not be written"):
            write_labels(labels, tmp_path / f"x{ending}")
        if ending != ".seg.nrrd":
            with pytest.raises(OutputError, match=rf"x{ending}: could not be written"):
                write_volume(labels, tmp_path / f"x{ending}")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_called_by_its_name(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("sitk::ERROR: several\nlines")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(OutputError, match=r"x\.nii\.gz: no space left on the disk"):
        write_volume(scan(), tmp_path / "x.nii.gz")


@pytest.mark.parametrize(
    ("name", "expected", "ending"),
    [("pt_013_ct.nii.gz", "pt_013_ct", ".nii.gz"), ("x.seg.nrrd", "x", ".seg.nrrd"), ("a.b.NRRD", "a.b", ".nrrd"),
     ("x.mha", "x", ".mha"), ("scan 1.5T", "scan 1.5T", ""), ("1.dcm", "1", ".dcm")],
)  # fmt: skip
def test_stem_and_format_come_from_the_whole_ending(name, expected, ending):
    assert (stem(f"folder/{name}"), file_format(name)) == (expected, ending)


def test_a_nrrd_by_another_program_in_ras_space_comes_out_in_lps(tmp_path):
    header = {"space": "right-anterior-superior", "space directions": np.diag([2.0, 3.0, 4.0]),
              "space origin": np.array([10.0, 20.0, 30.0])}  # fmt: skip
    nrrd.write(str(tmp_path / "x.nrrd"), np.arange(24, dtype=np.int16).reshape(2, 3, 4), header)
    volume = read_volume(tmp_path / "x.nrrd")
    assert np.allclose(volume.ijkToLps, [[-2, 0, 0, -10], [0, -3, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]])
    assert volume.array[3, 2, 1] == 23


@pytest.mark.realdata
def test_real_scans_lie_where_nibabel_says(real_data):
    for path in [
        *sorted((real_data / "head-neck-ct" / "labelled").glob("pt_00*_ct.nii.gz")),
        *sorted((real_data / "hippocampus-mr" / "labelled").glob("hip_00*_mr.nii.gz")),
        real_data / "abdomen-ct" / "abdomen_ct.nii.gz",
    ]:
        volume, other = read_volume(path), nibabel.load(path)
        assert np.allclose(np.diag([-1, -1, 1, 1.0]) @ other.affine, volume.ijkToLps, atol=1e-3)
        assert np.allclose(other.get_fdata().T, volume.array)
