"""Reading and writing scans and labels; nibabel, pynrrd and the raw bytes as independent references."""

import gzip
import itertools
import json
import shutil
import sys

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name it goes by
from SSLFewShotLib.errors import InputError, OutputError
from SSLFewShotLib.imaging import LabelMap, Segment, Volume, itk_images
from SSLFewShotLib.imaging.files import file_format, read_labels, read_volume, stem, write_labels, write_volume

FORMATS = [".nrrd", ".nii.gz", ".nii", ".mha"]
TURN = np.array([[0.8, -0.6, 0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]])
PERMUTATIONS = [
    np.diag(signs)[:, list(order)]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
SHEARED = np.array([[0.9, 0.2, 0.0, 5], [0.0, 0.7, 0.8, 6], [0.0, 0.0, 2.5, 7], [0, 0, 0, 1.0]])


def scan(axes=None, shape=(5, 6, 7), kind=np.int16, **kwargs) -> Volume:
    array = np.random.default_rng(1).integers(-1000, 2000, shape).astype(kind)
    return Volume.from_spacing(array, (0.7, 1.1, 2.5), (-31.5, 12.25, 400.0), axes, **kwargs)


def organs(overlap: bool = False) -> LabelMap:
    grid = scan(TURN)
    one, two = np.zeros((2, 5, 6, 7), bool)
    one[1:4, 1:4, 1:4], two[2:5, (3 if overlap else 4) :, 3:6] = True, True
    segments = [Segment(3, "Brain stem", (1.0, 0.5, 0.0), "a^b~c"), Segment(7, "Größe 脑", (0.0, 0.0, 1.0))]
    return LabelMap.from_masks(grid, {"Brain stem": one, "Größe 脑": two}, segments)


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


def test_a_nifti_of_the_second_version_is_refused_with_a_way_out(tmp_path):
    nibabel.save(nibabel.Nifti2Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "x.nii.gz")
    check_refused(tmp_path / "x.nii.gz", "NIfTI-2 cannot be read; convert it")


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


def check_refused(path, pattern, read=read_volume):
    with pytest.raises(InputError, match=pattern) as error:
        read(path)
    message = str(error.value)
    assert path.name in message and "\n" not in message and "SimpleITK" not in message


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


@pytest.mark.parametrize("ending", [*FORMATS, ".seg.nrrd"])
def test_labels_keep_numbers_and_place_in_every_format(tmp_path, ending):
    labels = organs()
    write_labels(labels, tmp_path / f"x{ending}")
    again = read_labels(tmp_path / f"x{ending}")
    assert np.array_equal(again.array, labels.array) and again.array.dtype == np.uint8
    assert again.same_grid(labels)
    named = ending in (".nrrd", ".seg.nrrd")
    assert [s.name for s in again.segments] == (
        ["Brain stem", "Größe 脑"] if named else ["Segment_3", "Segment_7"]
    )


@pytest.mark.parametrize("ending", FORMATS)
def test_overlapping_segments_are_refused_where_they_do_not_fit(tmp_path, ending):
    with pytest.raises(InputError, match=r"overlap.*write \.seg\.nrrd"):
        write_labels(organs(overlap=True), tmp_path / f"x{ending}")
    assert list(tmp_path.iterdir()) == []


def test_layers_that_do_not_overlap_are_merged_for_a_format_of_one_layer(tmp_path):
    labels = organs()
    layers = np.stack([np.where(labels.array == v, v, 0) for v in (3, 7)], -1)
    layered = LabelMap(layers, labels.ijkToLps, segments=labels.segments, layers={3: 0, 7: 1})
    write_labels(layered, tmp_path / "x.nii.gz")
    assert np.array_equal(read_labels(tmp_path / "x.nii.gz").array, labels.array)


@pytest.mark.parametrize(
    ("values", "pattern"),
    [([0.0, 1.5], "whole label numbers"), ([0.0, np.nan], "NaN or infinite"), ([0.0, -1.0], "from 0 to 32767"),
     ([0.0, 40000.0], "from 0 to 32767")],
)  # fmt: skip
def test_what_cannot_be_labels_is_refused(tmp_path, values, pattern):
    write_volume(scan().with_array(np.resize(np.array(values, np.float32), (5, 6, 7))), tmp_path / "x.nrrd")
    check_refused(tmp_path / "x.nrrd", pattern, read_labels)


def test_whole_numbers_stored_as_floats_are_labels(tmp_path):
    write_volume(scan().with_array(np.resize([0.0, 2.0, 300.0], (5, 6, 7))), tmp_path / "x.nii.gz")
    labels = read_labels(tmp_path / "x.nii.gz")
    assert [s.value for s in labels.segments] == [2, 300] and labels.array.dtype == np.int16


@pytest.mark.parametrize("sidecar", ["x_labels.json", "labels.json"])
def test_names_and_colours_come_from_a_file_beside_the_labels(tmp_path, sidecar):
    write_labels(organs(), tmp_path / "x.nii.gz")
    names = {"0": "background", "7": {"name": "Parotid", "color": [255, 0, 51]}, "3": "Brainstem", "9": "Larynx"}
    (tmp_path / sidecar).write_text(json.dumps(names), encoding="utf-8")
    segments = read_labels(tmp_path / "x.nii.gz").segments
    assert [(s.value, s.name) for s in segments] == [(3, "Brainstem"), (7, "Parotid"), (9, "Larynx")]
    assert segments[1].colour == (1.0, 0.0, 0.2)


def test_a_number_without_a_name_keeps_a_plain_one(tmp_path):
    write_labels(organs(), tmp_path / "x.mha")
    (tmp_path / "labels.json").write_text('{"3": "Brainstem"}', encoding="utf-8")
    assert [s.name for s in read_labels(tmp_path / "x.mha").segments] == ["Brainstem", "Segment_7"]


@pytest.mark.parametrize("text", ["", "[1]", '{"a": "b"}', '{"1": {"color": [1, 0, 0]}}', '{"1": 5}'])
def test_a_file_of_names_that_says_something_else_is_refused(tmp_path, text):
    write_labels(organs(), tmp_path / "x.nii.gz")
    (tmp_path / "labels.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"labels\.json: .* was expected; correct or remove the file"):
        read_labels(tmp_path / "x.nii.gz")


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
    import resource

    labels = LabelMap(rng.integers(0, 200, (30, 40, 50)).astype(np.uint8), np.eye(4))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match=rf"x{ending}: could not be written"):
            write_labels(labels, tmp_path / f"x{ending}")
        if ending != ".seg.nrrd":
            with pytest.raises(OutputError, match=rf"x{ending}: could not be written"):
                write_volume(labels, tmp_path / f"x{ending}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
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


@pytest.mark.realdata
def test_real_labels_lie_on_their_scans_and_survive_every_format(real_data, tmp_path):
    folder = real_data / "head-neck-ct" / "labelled"
    volume, labels = read_volume(folder / "pt_013_ct.nii.gz"), read_labels(folder / "pt_013_seg.nii.gz")
    assert volume.same_grid(labels) and [s.value for s in labels.segments] == [1, 2, 3, 4, 5, 6, 7]
    for ending in [*FORMATS, ".seg.nrrd"]:
        write_labels(labels, tmp_path / f"x{ending}")
        again = read_labels(tmp_path / f"x{ending}")
        assert again.same_grid(volume) and np.array_equal(again.array, labels.array)
