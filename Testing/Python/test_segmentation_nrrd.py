"""Slicer's segmentation files, checked against pynrrd and SimpleITK in both directions."""

import re

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name it goes by
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging import LabelMap, Segment, Volume
from SSLFewShotLib.imaging.files import read_labels, read_volume, write_labels
from SSLFewShotLib.imaging.labelmap import default_colour

TERM = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
    "~SCT^15825003^Aorta~^^~Anatomic codes - DICOM master list~^^~^^"
)
AXES = np.array([[0.8, -0.6, 0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]]) @ np.diag([0.9, 1.5, 3.0])
SHEARED = AXES @ np.array([[1, 0.1, 0], [0, 1, 0.2], [0, 0, 1.0]])
GEOMETRIES = {"oblique": AXES, "flipped": AXES @ np.diag([-1, 1, 1]), "sheared": SHEARED}
ORIGIN = np.array([-20.5, 33.0, 100.125])


def slicer_file(path, layers: np.ndarray, keys: dict[str, str], axes=AXES, kind="list", **header) -> None:
    """A file as Slicer writes it; layers: (L, I, J, K), or (I, J, K) for a single layer."""
    several = layers.ndim == 4
    directions = [*([[np.nan] * 3] if several else []), *axes.T]
    fields = {
        "space": "left-posterior-superior", "space directions": np.array(directions), "space origin": ORIGIN,
        "kinds": [*([kind] if several else []), "domain", "domain", "domain"], "encoding": "gzip", **header,
    }  # fmt: skip
    nrrd.write(str(path), layers, {**fields, **keys})


def two_layers() -> tuple[np.ndarray, dict[str, str]]:
    """Two layers that overlap; both number their segments from 1, as Slicer does."""
    layers = np.zeros((2, 6, 5, 4), np.uint8)
    layers[0, :3], layers[0, 4:] = 1, 2
    layers[1, 2:5, 1:3] = 1
    keys = {
        "Segmentation_ReferenceImageExtentOffset": "0 0 0", "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segment0_ID": "Segment_1", "Segment0_Name": "aorta", "Segment0_Color": "0.87 0.4 0.31",
        "Segment0_LabelValue": "1", "Segment0_Layer": "0", "Segment0_Extent": "0 5 0 4 0 3",
        "Segment0_Tags": f"Segmentation.Status:inprogress|TerminologyEntry:{TERM}|",
        "Segment1_ID": "Segment_2", "Segment1_Name": "vena cava", "Segment1_Color": "0 0.5 1",
        "Segment1_LabelValue": "2", "Segment1_Layer": "0", "Segment1_Tags": "",
        "Segment2_ID": "Segment_3", "Segment2_Name": "tumour", "Segment2_Color": "1 1 0",
        "Segment2_LabelValue": "1", "Segment2_Layer": "1", "Segment2_Tags": "",
    }  # fmt: skip
    return layers, keys


def test_names_colours_terminology_and_overlap_of_slicers_file_are_read(tmp_path):
    layers, keys = two_layers()
    slicer_file(tmp_path / "x.seg.nrrd", layers, keys)
    labels = read_labels(tmp_path / "x.seg.nrrd")
    assert [s.name for s in labels.segments] == ["aorta", "vena cava", "tumour"]
    assert labels.segments[0].colour == (0.87, 0.4, 0.31) and labels.segments[0].terminology == TERM
    assert labels.segments[0].tags == {"Segmentation.Status": "inprogress", "ID": "Segment_1"}
    assert labels.overlapping
    assert np.array_equal(labels.mask("aorta"), layers[0].T == 1)
    assert np.array_equal(labels.mask("vena cava"), layers[0].T == 2)
    assert np.array_equal(labels.mask("tumour"), layers[1].T == 1)
    assert (labels.mask("aorta") & labels.mask("tumour")).any()


@pytest.mark.parametrize("axes", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_any_number_of_layers_lies_where_the_file_says(tmp_path, axes, count, rng):
    layers = rng.integers(0, 2, (count, 6, 5, 4)).astype(np.uint8)
    keys = {f"Segment{n}_{key}": value for n in range(count) for key, value in
            {"ID": f"s{n}", "Name": f"name {n}", "LabelValue": "1", "Layer": str(n)}.items()}  # fmt: skip
    slicer_file(tmp_path / "x.seg.nrrd", layers, keys, axes)
    labels = read_labels(tmp_path / "x.seg.nrrd")
    assert np.allclose(labels.ijkToLps[:3, :3], axes) and np.allclose(labels.origin, ORIGIN)
    for n in range(count):
        assert np.array_equal(labels.mask(f"name {n}"), layers[n].T > 0)


def test_a_file_from_before_shared_layers_is_read(tmp_path):
    layers, _ = two_layers()
    keys = {"Segment0_ID": "a", "Segment0_Name": "one", "Segment1_ID": "b", "Segment1_Name": "two"}
    slicer_file(tmp_path / "x.seg.nrrd", np.minimum(layers, 1), keys)
    labels = read_labels(tmp_path / "x.seg.nrrd")
    assert np.array_equal(labels.mask("one"), layers[0].T > 0)
    assert np.array_equal(labels.mask("two"), layers[1].T > 0)
    assert [s.colour for s in labels.segments] != [(0.5, 0.5, 0.5)] * 2


def test_numbers_that_are_unique_stay_as_they_are(tmp_path):
    layers, keys = two_layers()
    layers[1] *= 9
    slicer_file(tmp_path / "x.seg.nrrd", layers, keys | {"Segment2_LabelValue": "9"})
    assert [s.value for s in read_labels(tmp_path / "x.seg.nrrd").segments] == [1, 2, 9]


def test_a_segment_without_voxels_is_kept(tmp_path):
    layers, keys = two_layers()
    layers[1] = 0
    slicer_file(tmp_path / "x.seg.nrrd", layers, keys)
    labels = read_labels(tmp_path / "x.seg.nrrd")
    assert not labels.mask("tumour").any() and labels.segments[2].colour == (1.0, 1.0, 0.0)


def test_voxels_of_no_segment_become_background_with_a_warning(tmp_path):
    layers, keys = two_layers()
    layers[1, 0, 0, 0] = 5
    slicer_file(tmp_path / "x.seg.nrrd", layers, keys)
    with pytest.warns(InputWarning, match=r"x\.seg\.nrrd: label values \[5\] belong to no segment"):
        labels = read_labels(tmp_path / "x.seg.nrrd")
    assert labels.array.max() == 3


def test_a_segmentation_without_segment_keys_is_a_plain_label_file(tmp_path):
    layers, _ = two_layers()
    slicer_file(tmp_path / "x.seg.nrrd", layers[0], {})
    assert [s.name for s in read_labels(tmp_path / "x.seg.nrrd").segments] == ["Segment_1", "Segment_2"]


@pytest.mark.parametrize(
    ("key", "value", "pattern"),
    [("Segment2_Layer", "4", "segment 2 has label value 1 in layer 4, but the file has 2"),
     ("Segment2_LabelValue", "x", "label value or layer of segment 2 is not a number"),
     ("Segment0_LabelValue", "0", "segment 0 has label value 0")],
)  # fmt: skip
def test_a_segment_that_the_file_cannot_hold_is_refused(tmp_path, key, value, pattern):
    layers, keys = two_layers()
    slicer_file(tmp_path / "x.seg.nrrd", layers, keys | {key: value})
    with pytest.raises(InputError, match=pattern) as error:
        read_labels(tmp_path / "x.seg.nrrd")
    assert "x.seg.nrrd" in str(error.value) and "\n" not in str(error.value)


def test_a_name_in_latin_1_is_read_and_can_be_written_again(tmp_path):
    layers, keys = two_layers()
    slicer_file(tmp_path / "x.seg.nrrd", layers, keys | {"Segment0_Name": "Groesse"})
    content = (tmp_path / "x.seg.nrrd").read_bytes()
    (tmp_path / "x.seg.nrrd").write_bytes(content.replace(b"Groesse", "Größe".encode("latin-1")))
    labels = read_labels(tmp_path / "x.seg.nrrd")
    write_labels(labels, tmp_path / "y.seg.nrrd")
    assert read_labels(tmp_path / "y.seg.nrrd").segments[0].name == labels.segments[0].name == "Größe"


def test_an_unreadable_colour_gets_a_default_one(tmp_path):
    layers, keys = two_layers()
    slicer_file(tmp_path / "x.seg.nrrd", layers, keys | {"Segment0_Color": "red"})
    assert read_labels(tmp_path / "x.seg.nrrd").segments[0].colour == default_colour(1)


def test_several_layers_are_no_image(tmp_path):
    layers, keys = two_layers()
    slicer_file(tmp_path / "x.seg.nrrd", layers, keys)
    with pytest.raises(InputError, match="one value a voxel was expected"):
        read_volume(tmp_path / "x.seg.nrrd")


def overlapping(matrix: np.ndarray) -> LabelMap:
    grid = Volume(np.zeros((4, 5, 6)), matrix)
    masks = {name: np.zeros((4, 5, 6), bool) for name in ("Größe 脑", "Aorta: left | a\\b", "empty")}
    masks["Größe 脑"][1:3, 1:4, :3] = True
    masks["Aorta: left | a\\b"][2:4, 2:5, 1:5] = True
    like = [
        Segment(4, "Größe 脑", (0.25, 0.5, 0.75), TERM, {"Segmentation.Status": "completed", "ID": "my id"}),
        Segment(300, "Aorta: left | a\\b", (1.0, 0.0, 0.0)),
    ]
    return LabelMap.from_masks(grid, masks, like)


def matrix(axes: np.ndarray) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = axes, ORIGIN
    return result


@pytest.mark.parametrize("axes", GEOMETRIES.values(), ids=GEOMETRIES)
def test_what_is_written_comes_back_whole(tmp_path, axes):
    labels = overlapping(matrix(axes))
    write_labels(labels, tmp_path / "x.seg.nrrd")
    again = read_labels(tmp_path / "x.seg.nrrd")
    assert np.array_equal(again.array, labels.array) and again.array.dtype == np.int16
    assert np.allclose(again.ijkToLps, labels.ijkToLps, rtol=0, atol=1e-12)
    assert again.layers == labels.layers and again.overlapping
    assert again.segments == labels.segments
    assert again.segments[0].tags == {"Segmentation.Status": "completed", "ID": "my id"}


def test_what_is_written_is_what_pynrrd_and_itk_read(tmp_path):
    labels = overlapping(matrix(SHEARED))
    write_labels(labels, tmp_path / "x.seg.nrrd")
    array, header = nrrd.read(str(tmp_path / "x.seg.nrrd"))
    assert header["kinds"] == ["list", "domain", "domain", "domain"]
    assert header["space"] == "left-posterior-superior" and header["encoding"] == "gzip"
    assert np.array_equal(array.T, labels.array)
    assert np.allclose(header["space directions"][1:], SHEARED.T) and np.allclose(header["space origin"], ORIGIN)
    assert (header["Segment0_ID"], header["Segment0_LabelValue"], header["Segment0_Layer"]) == ("my id", "4", "0")
    assert header["Segment0_Extent"] == "0 5 0 4 0 3"
    # Slicer takes the grid from here when it edits and saves again: ijkToRas, then the extent.
    name, *numbers = re.split(r"[|;]", header["Segmentation_ConversionParameters"])
    to_ras = np.reshape([float(n) for n in numbers[:16]], (4, 4))
    assert name == "Reference image geometry" and numbers[16:22] == ["0", "5", "0", "4", "0", "3"]
    assert np.allclose(to_ras, np.diag([-1, -1, 1, 1]) @ labels.ijkToLps)
    assert f"TerminologyEntry:{TERM}|" in header["Segment0_Tags"]

    image = sitk.ReadImage(str(tmp_path / "x.seg.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(image), labels.array)
    assert image.GetMetaData("Segment0_Name") == "Größe 脑"
    assert [float(c) for c in image.GetMetaData("Segment1_Color").split()] == [1, 0, 0]


def test_a_single_layer_is_a_plain_3d_nrrd(tmp_path):
    labels = LabelMap(np.ones((4, 5, 6), np.uint8), matrix(AXES))
    write_labels(labels, tmp_path / "x.seg.nrrd")
    array, header = nrrd.read(str(tmp_path / "x.seg.nrrd"))
    assert array.shape == (6, 5, 4) and header["kinds"] == ["domain"] * 3


def test_every_segment_has_an_id_of_its_own(tmp_path):
    segments = [Segment(n, f"s{n}", tags={"ID": "copy"}) for n in (1, 2, 3)]
    write_labels(LabelMap(np.ones((2, 2, 2), np.uint8), np.eye(4), segments=segments), tmp_path / "x.seg.nrrd")
    header = (tmp_path / "x.seg.nrrd").read_bytes().split(b"\n\n")[0].decode()
    assert len(set(re.findall(r"Segment\d_ID:=(.*)", header))) == 3


def test_the_same_labels_give_the_same_file(tmp_path):
    labels = overlapping(matrix(AXES))
    write_labels(labels, tmp_path / "a.seg.nrrd")
    write_labels(labels, tmp_path / "b.seg.nrrd")
    assert (tmp_path / "a.seg.nrrd").read_bytes() == (tmp_path / "b.seg.nrrd").read_bytes()
