"""A TIFF file of many pages is a scan: its voxels, a page at a time, or a sentence that says why not."""

import struct

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name it goes by
from command_line import sslfewshot
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.files import read_volume, stem
from SSLFewShotLib.imaging.lazy import StackScan, WholeScan, open_scan
from SSLFewShotLib.imaging.roi_files import write_roi
from SSLFewShotLib.imaging.tiff_pages import TiffPages

pytestmark = pytest.mark.filterwarnings("ignore::SSLFewShotLib.errors.InputWarning")


@pytest.fixture
def voxels(rng) -> np.ndarray:
    return rng.integers(0, 60_000, (7, 10, 13)).astype(np.uint16)


def write(path, planes, order="<", big=False, strips=1, apart=0, description=b"", entries=None, **tags):
    """A TIFF file, byte by byte; entries: how many pages are told of; apart: bytes between strips."""
    wide, place, counted = (8, "Q", "Q") if big else (4, "I", "H")
    content = bytearray(b"II" if order == "<" else b"MM")
    content += struct.pack(f"{order}HHH", 43, 8, 0) if big else struct.pack(f"{order}H", 42)
    link = len(content)
    content += bytes(wide)
    stored = []
    for plane in planes:
        rows = np.array_split(plane.astype(plane.dtype.newbyteorder(order)), strips)
        offsets = []
        for part in rows:
            offsets.append(len(content))
            content += part.tobytes() + bytes(apart)
        stored.append((plane.shape, offsets, [part.nbytes for part in rows]))
    for (height, width), offsets, counts in stored[:entries]:
        values = {256: (3, [width]), 257: (3, [height]), 258: (3, [8 * planes.dtype.itemsize]), 259: (3, [1])}
        values |= {262: (3, [1]), 273: (16 if big else 4, offsets), 277: (3, [1]), 279: (4, counts)}
        values |= {339: (3, [{"u": 1, "i": 2, "f": 3}[planes.dtype.kind]])}
        values |= {int(tag[1:]): value for tag, value in tags.items()}
        if description:
            values[270] = (2, list(description))
        table = b""
        for tag, (kind, numbers) in sorted(values.items()):
            code = {2: "B", 3: "H", 4: "I", 5: "I", 16: "Q"}[kind]
            packed = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
            count = len(numbers) // (2 if kind == 5 else 1)
            if len(packed) > wide:
                where, content = len(content), content + packed
                packed = struct.pack(order + place, where)
            table += struct.pack(f"{order}HH{place}", tag, kind, count) + packed.ljust(wide, b"\0")
        content[link : link + wide] = struct.pack(order + place, len(content))
        content += struct.pack(order + counted, len(values)) + table
        link = len(content)
        content += bytes(wide)
    path.write_bytes(content)
    return path


def planes_of(pages) -> np.ndarray:
    return np.stack([pages.plane(number) for number in range(pages.shape[0])])


@pytest.mark.parametrize("big", [False, True], ids=["classic", "BigTIFF"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float32])
def test_pages_come_out_as_they_were_stored(tmp_path, voxels, big, order, kind):
    array = voxels.astype(kind)
    pages = TiffPages(write(tmp_path / "a.tif", array, order, big, strips=3))
    assert pages.shape == array.shape and pages.dtype == array.dtype and pages.dtype.isnative
    assert np.array_equal(planes_of(pages), array)


def test_strips_that_lie_apart_are_put_together(tmp_path, voxels):
    assert np.array_equal(planes_of(TiffPages(write(tmp_path / "a.tif", voxels, strips=4, apart=5))), voxels)


def test_what_another_program_writes_is_read_alike(tmp_path, voxels):
    for name, compressed in (("plain.tif", False), ("packed.tif", True)):
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / name), compressed)
        assert np.array_equal(planes_of(TiffPages(tmp_path / name)), voxels)


def test_a_large_stack_of_imagej_has_all_of_its_slices_behind_one_entry(tmp_path, voxels):
    description = b"ImageJ=1.53t\nimages=7\nslices=7\n\0"
    path = write(tmp_path / "a.tif", voxels, description=description, entries=1)
    assert np.array_equal(planes_of(TiffPages(path)), voxels)


def test_a_smaller_copy_of_a_page_is_not_a_slice(tmp_path, voxels):
    with pytest.raises(InputError, match="no page"):
        TiffPages(write(tmp_path / "a.tif", voxels, t254=(4, [1])))


def test_the_pixel_spacing_is_taken_along_all_axes_with_a_warning(tmp_path, voxels):
    plain = write(tmp_path / "a.tif", voxels)
    measured = write(tmp_path / "b.tif", voxels, t282=(5, [2000, 1]), t296=(3, [3]))
    with pytest.warns(InputWarning, match="cubes of 1 mm"):
        assert TiffPages(plain).ijkToLps[0, 0] == 1
    with pytest.warns(InputWarning, match=r"cubes of 0\.005 mm"):
        assert np.allclose(np.diag(TiffPages(measured).ijkToLps), [0.005, 0.005, 0.005, 1])


def test_a_large_file_stays_on_the_disk_and_a_small_one_does_not(tmp_path, voxels):
    path = write(tmp_path / "a.tif", voxels)
    assert isinstance(open_scan(path, lazily_from=0), StackScan)
    whole = open_scan(path)
    assert isinstance(whole, WholeScan) and np.array_equal(whole.whole().array, voxels)


def test_large_pages_that_are_compressed_are_refused_with_what_to_do(tmp_path, voxels):
    path = tmp_path / "a.tif"
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), True)
    assert np.array_equal(open_scan(path).whole().array, voxels)
    with pytest.raises(InputError, match=r"a\.tif: .* GB of pages that are compressed .* uncompressed in strips"):
        open_scan(path, lazily_from=0)


def test_colours_pages_of_two_sizes_and_pages_of_a_bit_are_refused(tmp_path, voxels):
    colours = sitk.GetImageFromArray(np.stack([voxels[0].astype(np.uint8)] * 3, axis=-1), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / "c.tif"))
    with pytest.raises(InputError, match=r"c\.tif: .*colour"):
        TiffPages(tmp_path / "c.tif")
    write(tmp_path / "a.tif", voxels)
    with pytest.raises(InputError, match=r"b\.tif: pages of 13 × 10 pixels of 1 bits"):
        TiffPages(write(tmp_path / "b.tif", voxels, t258=(3, [1])))
    two = [*voxels[:2], voxels[2, :5]]

    class Planes(list):
        dtype = voxels.dtype

    with pytest.raises(InputError, match=r"d\.tif: page 3 is not of the size"):
        TiffPages(write(tmp_path / "d.tif", Planes(two)))


def test_a_file_that_is_cut_short_damaged_or_no_tiff_is_named(tmp_path, voxels):
    path = write(tmp_path / "a.tif", voxels)
    content = path.read_bytes()
    # The entries lie at the end: without them the pages cannot be found.
    path.write_bytes(content[:-40])
    with pytest.raises(InputError, match=r"a\.tif: the file is cut short"):
        TiffPages(path)
    path.write_bytes(b"PK" + content[2:])
    with pytest.raises(InputError, match="not a TIFF file"):
        TiffPages(path)
    beyond = write(tmp_path / "b.tif", voxels, t273=(4, [10**9]))
    with pytest.raises(InputError, match=r"b\.tif: the file is cut short"):
        TiffPages(beyond)


def test_pages_that_go_round_in_a_circle_are_refused(tmp_path, voxels):
    path = write(tmp_path / "a.tif", voxels)
    content = bytearray(path.read_bytes())
    content[-4:] = content[4:8]
    path.write_bytes(content)
    with pytest.raises(InputError, match="circle"):
        TiffPages(path)


def test_a_file_of_many_pages_is_cropped_like_any_scan(tmp_path, voxels):
    path = write(tmp_path / "specimen.tif", voxels)
    assert stem(path) == "specimen"
    write_roi(Box([5, 4, 3], [6, 4, 4]), tmp_path / "specimen_box.mrk.json")
    outcome = sslfewshot("crop", path, "--box", tmp_path, "--output", tmp_path / "o", "--json")
    assert outcome.code == 0, outcome.err
    (entry,) = outcome.result["targets"]
    assert entry["image"] == "specimen.tif" and entry["cropped"] == "specimen_cropped.nrrd"
    found = read_volume(tmp_path / "o" / entry["cropped"]).array
    assert np.array_equal(found, voxels[1:6, 2:7, 2:9])
