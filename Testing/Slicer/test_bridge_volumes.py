"""Volume nodes become files that the library reads as they are, or are refused by name."""

from bridge_scene import empty_scene  # noqa: F401 - a fixture that every test uses

# isort: split
import numpy as np
import pytest
import slicer
import vtk
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.files import read_volume
from SSLFewShotSlicer.bridge import NodeGoneError, UnusableNodeError, take_volume

from bridge_scene import (
    add_bent,
    add_linear,
    add_volume,
    vtk_matrix,
)

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
KINDS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64", "float32", "float64"]


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(0, 100, (4, 5, 6)).astype(np.int16)


@pytest.mark.parametrize("kind", KINDS)
def test_every_scalar_type_arrives_unchanged(kind, voxels, tmp_path):
    take_volume(add_volume(voxels.astype(kind))).write(tmp_path / "scan.nrrd")
    read = read_volume(tmp_path / "scan.nrrd")
    assert np.array_equal(read.array, voxels)
    # The library keeps integers of 64 bits in the smallest type that holds them.
    assert read.array.dtype == kind or kind == "uint64"


def test_a_scan_under_a_linear_transform_is_seen_where_it_is_in_the_world(voxels, tmp_path):
    turned = np.array([[0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1.0]])
    node = add_volume(voxels, np.diag([2.0, 3.0, 4.0, 1.0]), parent=add_linear(turned))
    take_volume(node).write(tmp_path / "scan.nrrd")
    assert np.allclose(read_volume(tmp_path / "scan.nrrd").ijkToLps, LPS @ turned @ np.diag([2, 3, 4, 1]))


def test_a_scan_under_a_bent_transform_is_sent_on_its_own_grid_and_the_user_is_told(voxels):
    node = add_volume(voxels, np.diag([2.0, 3.0, 4.0, 1.0]), name="head", parent=add_bent())
    source = take_volume(node)
    assert np.array_equal(source.seen_geometry, np.diag([2, 3, 4, 1]))
    assert "head" in source.notes[0]
    assert "non-linear" in source.notes[0]


def test_a_linear_transform_below_a_bent_one_counts_as_bent(voxels):
    node = add_volume(voxels, parent=add_linear(np.diag([2.0, 1.0, 1.0, 1.0]), add_bent()))
    assert len(take_volume(node).notes) == 1
    assert np.array_equal(take_volume(node).seen_geometry, np.eye(4))


def test_a_flattening_transform_is_refused(voxels):
    node = add_volume(voxels, name="flat", parent=add_linear(np.diag([1.0, 1.0, 0.0, 1.0])))
    with pytest.raises(UnusableNodeError, match="flat: its transform"):
        take_volume(node)


def test_a_node_is_found_by_its_id_as_well(voxels):
    node = add_volume(voxels)
    assert take_volume(node.GetID()).node_id == node.GetID()


@pytest.mark.parametrize("how", ["node", "id"])
def test_a_deleted_node_is_gone(voxels, how):
    node = add_volume(voxels, name="lost")
    given = node if how == "node" else node.GetID()
    slicer.mrmlScene.RemoveNode(node)
    with pytest.raises(NodeGoneError, match="no longer in the scene"):
        take_volume(given)


def test_no_node_at_all_is_said_plainly():
    with pytest.raises(UnusableNodeError, match="no node was chosen"):
        take_volume(None)


@pytest.mark.parametrize("class_name", ["vtkMRMLVectorVolumeNode", "vtkMRMLDiffusionWeightedVolumeNode"])
def test_a_volume_with_several_values_a_voxel_is_refused_by_name(class_name):
    node = slicer.mrmlScene.AddNewNodeByClass(class_name, "colours")
    image = vtk.vtkImageData()
    image.SetDimensions(4, 4, 4)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(image)
    with pytest.raises(UnusableNodeError, match="colours: has 3 values a voxel"):
        take_volume(node)


def test_a_tensor_volume_is_refused_by_name():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLDiffusionTensorVolumeNode", "dti")
    image = vtk.vtkImageData()
    image.SetDimensions(3, 3, 3)
    tensors = vtk.vtkFloatArray()
    tensors.SetNumberOfComponents(9)
    tensors.SetNumberOfTuples(27)
    image.GetPointData().SetTensors(tensors)
    node.SetAndObserveImageData(image)
    with pytest.raises(UnusableNodeError, match="dti: has 9 values a voxel"):
        take_volume(node)


def test_a_volume_without_image_is_refused_by_name():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hollow")
    with pytest.raises(UnusableNodeError, match="hollow: holds no image"):
        take_volume(node)


def test_a_label_map_is_no_scan():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    with pytest.raises(UnusableNodeError, match="labels: is a label map"):
        take_volume(node)


def test_another_kind_of_node_is_refused_by_name():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "bone")
    with pytest.raises(UnusableNodeError, match="bone: a volume was expected"):
        take_volume(node)


def test_voxels_that_are_no_numbers_are_refused_and_nothing_is_left(voxels, tmp_path):
    bad = voxels.astype(np.float32)
    bad[3, 1, 2] = np.nan
    with pytest.raises(UnusableNodeError, match="holes: some voxels are NaN"):
        take_volume(add_volume(bad, name="holes")).write(tmp_path / "scan.nrrd")
    assert list(tmp_path.iterdir()) == []


def test_every_error_is_one_that_the_library_knows():
    assert issubclass(UnusableNodeError, InputError)
    assert issubclass(NodeGoneError, InputError)


def test_the_frame_of_a_sequence_that_is_shown_is_what_is_sent(voxels, tmp_path):
    scene = slicer.mrmlScene
    for made in (slicer.vtkMRMLSequenceNode(), slicer.vtkMRMLSequenceBrowserNode()):
        scene.RegisterNodeClass(made)
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D")
    for frame in range(3):
        node = add_volume(voxels + frame)
        sequence.SetDataNodeAtValue(node, str(frame))
        scene.RemoveNode(node)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    sources = []
    for frame in (0, 2):
        browser.SetSelectedItemNumber(frame)
        logic.UpdateProxyNodesFromSequences(browser)
        sources.append(take_volume(browser.GetProxyNode(sequence)))
    # The first frame is written after another one is shown.
    for source, frame in zip(sources, (0, 2), strict=True):
        source.write(tmp_path / f"{frame}.nrrd")
        assert np.array_equal(read_volume(tmp_path / f"{frame}.nrrd").array, voxels + frame)
    assert [source.changed() for source in sources] == [True, False]
    logic.SetMRMLScene(None)


def test_a_change_of_voxels_or_place_is_noticed_and_of_the_name_is_not(voxels):
    node = add_volume(voxels)
    source = take_volume(node)
    node.SetName("renamed")
    assert not source.changed()
    node.SetIJKToRASMatrix(vtk_matrix(np.diag([2.0, 2.0, 2.0, 1.0])))
    assert source.changed()
    source = take_volume(node)
    slicer.util.arrayFromVolume(node)[0, 0, 0] = 99
    slicer.util.arrayFromVolumeModified(node)
    assert source.changed()


def test_what_was_taken_can_be_written_after_its_node_is_gone(voxels, tmp_path):
    node = add_volume(voxels)
    source = take_volume(node)
    slicer.mrmlScene.RemoveNode(node)
    del node
    source.write(tmp_path / "scan.nrrd")
    assert np.array_equal(read_volume(tmp_path / "scan.nrrd").array, voxels)
    assert source.changed()


def test_the_modality_comes_from_dicom_where_the_scene_knows_it(voxels, tmp_path):
    node = add_volume(voxels)
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "MR")
    take_volume(node).write(tmp_path / "scan.nrrd")
    assert read_volume(tmp_path / "scan.nrrd").modality == "MR"


def test_hounsfield_units_make_it_a_ct(voxels, tmp_path):
    node = add_volume(voxels)
    units = slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    node.SetVoxelValueUnits(units)
    take_volume(node).write(tmp_path / "scan.nrrd")
    assert read_volume(tmp_path / "scan.nrrd").modality == "CT"
    assert take_volume(add_volume(voxels)).modality == ""
