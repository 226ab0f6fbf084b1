"""Scans that stay on the disk: the same voxels and places as when they are read whole, and parts of them."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name it goes by
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.crop import crop_range
from SSLFewShotLib.imaging.cropped_files import write_cropped
from SSLFewShotLib.imaging.files import read_volume, write_volume
from SSLFewShotLib.imaging.lazy import MappedScan, StackScan, WholeScan, open_scan

TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture
def volume(rng) -> Volume:
    array = rng.integers(0, 60_000, (11, 13, 17)).astype(np.uint16)
    return Volume.from_spacing(array, (0.5, 0.75, 2.0), (5.0, 6.0, -7.0), TURN, name="t", modality="CT")


def voxels(scan) -> np.ndarray:
    return np.concatenate([slab for _, slab in scan.slabs(thick=4)])


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd", ".nhdr"])
@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float32, np.uint8])
def test_mapped_voxels_are_those_of_the_file(tmp_path, volume, ending, kind):
    volume = volume.with_array(volume.array.astype(kind))
    path = tmp_path / f"scan{ending}"
    if ending in (".mhd", ".nhdr"):
        image = sitk.GetImageFromArray(volume.array)
        image.SetSpacing(volume.spacing.tolist())
        image.SetOrigin(volume.origin.tolist())
        image.SetDirection(volume.direction.ravel().tolist())
        sitk.WriteImage(image, str(path), False)
    else:
        write_volume(volume, path, compress=False)
    scan = open_scan(path, lazily_from=0)
    assert isinstance(scan, MappedScan) and scan.dtype == volume.array.dtype and scan.size == volume.size
    assert np.array_equal(voxels(scan), volume.array)
    assert np.allclose(scan.ijkToLps, volume.ijkToLps)


def test_big_endian_voxels_come_out_as_numbers_of_this_machine(tmp_path, volume):
    path = tmp_path / "big.nrrd"
    write_volume(volume, path, compress=False)
    content = path.read_bytes()
    header, body = content.split(b"\n\n", 1)
    big = volume.array.astype(">u2").tobytes()
    assert len(big) == len(body)
    path.write_bytes(header.replace(b"endian: little", b"endian: big") + b"\n\n" + big)
    found = voxels(open_scan(path, lazily_from=0))
    assert np.array_equal(found, volume.array) and found.dtype.isnative


def test_compressed_and_small_scans_are_read_whole(tmp_path, volume):
    write_volume(volume, tmp_path / "c.nrrd", compress=True)
    write_volume(volume, tmp_path / "s.nrrd", compress=False)
    assert isinstance(open_scan(tmp_path / "c.nrrd", lazily_from=0), WholeScan)
    assert isinstance(open_scan(tmp_path / "s.nrrd"), WholeScan)


def test_a_file_that_is_cut_short_is_refused_before_anything_is_computed(tmp_path, volume):
    for ending in (".nrrd", ".mha"):
        path = tmp_path / f"cut{ending}"
        write_volume(volume, path, compress=False)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(InputError, match="cut short"):
            open_scan(path, lazily_from=0)


def test_a_raw_file_that_is_not_there_is_named(tmp_path, volume):
    image = sitk.GetImageFromArray(volume.array)
    sitk.WriteImage(image, str(tmp_path / "a.mhd"), False)
    (tmp_path / "a.raw").unlink()
    with pytest.raises(InputError, match=r"a\.raw"):
        open_scan(tmp_path / "a.mhd", lazily_from=0)


def write_slices(folder, volume, names):
    folder.mkdir()
    for name, plane in zip(names, volume.array, strict=True):
        sitk.WriteImage(sitk.GetImageFromArray(plane), str(folder / name))


def test_a_folder_of_tiff_slices_is_one_scan_in_the_order_of_their_numbers(tmp_path, volume):
    write_slices(tmp_path / "stack", volume, [f"s_{number}.tif" for number in range(len(volume.array))])
    with pytest.warns(InputWarning, match="cubes of 1 mm"):
        scan = open_scan(tmp_path / "stack", lazily_from=0)
    assert isinstance(scan, StackScan) and np.array_equal(voxels(scan), volume.array)
    with pytest.warns(InputWarning):
        whole = open_scan(tmp_path / "stack")
    assert isinstance(whole, WholeScan) and np.array_equal(whole.whole().array, volume.array)


def test_a_slice_of_another_size_is_named(tmp_path, volume):
    write_slices(tmp_path / "stack", volume, [f"s_{number:02}.tif" for number in range(len(volume.array))])
    sitk.WriteImage(sitk.GetImageFromArray(volume.array[0, :5]), str(tmp_path / "stack" / "s_03.tif"))
    with pytest.warns(InputWarning), pytest.raises(InputError, match=r"s_03\.tif: not of the size"):
        open_scan(tmp_path / "stack")


@pytest.mark.parametrize("most", [10_000, 400, 60, 1])
def test_a_reduced_scan_is_means_over_blocks_at_the_blocks_places(tmp_path, volume, most):
    write_volume(volume, tmp_path / "s.nrrd", compress=False)
    small = open_scan(tmp_path / "s.nrrd", lazily_from=0).reduced(most)
    assert small.array.size <= most
    steps = np.round(small.spacing / volume.spacing).astype(int)
    block = volume.array[: steps[2], : steps[1], : steps[0]].astype(np.float64)
    assert small.array[0, 0, 0] == pytest.approx(block.mean(), rel=1e-5)
    middle = volume.points_from_indices([(steps - 1) / 2])[0]
    assert np.allclose(small.origin, middle)
    # Cubic as far as whole voxels allow: k has the largest voxels and is put together last.
    assert steps[2] <= steps[1] <= steps[0] or most == 1


def test_a_scan_that_is_small_enough_is_not_changed(volume):
    assert WholeScan(volume).reduced(volume.array.size) is volume


@pytest.mark.parametrize("in_memory", [1 << 30, 0], ids=["in memory", "slice by slice"])
def test_a_part_of_a_scan_is_written_with_its_own_voxels_and_geometry(tmp_path, volume, in_memory):
    write_volume(volume, tmp_path / "s.nrrd", compress=False)
    scan = open_scan(tmp_path / "s.nrrd", lazily_from=0)
    part = crop_range(scan, Box.of_grid(volume, (2, 3, 4), (5, 6, 3)))
    write_cropped(scan, part, tmp_path / "part.nrrd", in_memory_up_to=in_memory)
    again = read_volume(tmp_path / "part.nrrd")
    assert again.array.dtype == np.uint16 and again.modality == "CT"
    assert np.array_equal(again.array, volume.array[part.slices]) and again.size == (5, 6, 3)
    assert np.allclose(again.ijkToLps, part.matrix(volume.ijkToLps))
    assert np.allclose(again.origin, volume.points_from_indices([[2, 3, 4]])[0])


def test_a_large_part_goes_into_nrrd_only_and_nothing_is_replaced_unasked(tmp_path, volume):
    scan = WholeScan(volume)
    part = crop_range(scan, Box.of_grid(volume))
    with pytest.raises(InputError, match=r"\.nrrd only"):
        write_cropped(scan, part, tmp_path / "part.mha", in_memory_up_to=0)
    write_cropped(scan, part, tmp_path / "part.nrrd", in_memory_up_to=0)
    with pytest.raises(InputError, match="exists already"):
        write_cropped(scan, part, tmp_path / "part.nrrd", in_memory_up_to=0)


def test_a_cancelled_crop_leaves_nothing(tmp_path, volume):
    def cancel(fraction, message):
        raise Cancelled

    scan = WholeScan(volume)
    with pytest.raises(Cancelled):
        write_cropped(
            scan, crop_range(scan, Box.of_grid(volume)), tmp_path / "p.nrrd", progress=cancel, in_memory_up_to=0
        )
    assert not list(tmp_path.iterdir())
