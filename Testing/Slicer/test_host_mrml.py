"""The stand-ins of the qMRML widgets follow the scene as the real ones do."""

import numpy as np
import pytest

vtk = pytest.importorskip("vtk")


@pytest.fixture
def selector(slicer):
    """A selector of scalar volumes with an item for none."""
    made = slicer.qMRMLNodeComboBox()
    made.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    made.noneEnabled = True
    made.setMRMLScene(slicer.mrmlScene)
    return made


def add(slicer, name="a", kind="vtkMRMLScalarVolumeNode"):
    return slicer.mrmlScene.AddNewNodeByClass(kind, name)


def a_segmentation(slicer, *names):
    node = add(slicer, "segmentation", "vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    for name in names:
        node.GetSegmentation().AddEmptySegment(f"id_{name}", name)
    return node


# qMRMLNodeComboBox


def test_a_selector_is_disabled_until_it_has_a_scene(slicer):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert selector.nodeCount() == 0
    selector.setMRMLScene(slicer.mrmlScene)
    add(slicer)
    assert selector.nodeCount() == 1


def test_with_none_nothing_is_chosen_by_itself(slicer, selector):
    add(slicer)
    assert selector.currentNode() is None and selector.currentNodeID == ""


def without_none(slicer, add_enabled):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.addEnabled = add_enabled
    selector.removeEnabled = False
    return selector


def test_without_none_the_first_node_of_a_scene_is_chosen(slicer):
    first = add(slicer)
    add(slicer, "b")
    selector = without_none(slicer, add_enabled=True)
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.currentNode() is first


def test_a_node_that_comes_into_an_entirely_empty_list_is_chosen(slicer):
    selector, seen = without_none(slicer, add_enabled=False), []
    selector.setMRMLScene(slicer.mrmlScene)
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    node = add(slicer)
    add(slicer, "b")
    assert selector.currentNode() is node and seen == [node]


def test_a_node_that_comes_into_a_list_with_actions_is_not_chosen(slicer):
    selector = without_none(slicer, add_enabled=True)
    selector.setMRMLScene(slicer.mrmlScene)
    add(slicer)
    assert selector.currentNode() is None


def test_when_the_chosen_node_goes_the_one_before_it_is_chosen(slicer, selector):
    first, second = add(slicer, "1"), add(slicer, "2")
    selector.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert selector.currentNode() is first
    slicer.mrmlScene.RemoveNode(first)
    assert selector.currentNode() is None


def test_a_node_asked_for_before_the_scene_is_there_is_chosen_then(slicer):
    node, selector = add(slicer), without_none(slicer, add_enabled=True)
    selector.setCurrentNodeID(node.GetID())
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.currentNode() is node


def test_both_signals_of_a_changed_node_come(slicer, selector):
    node, nodes, flags = add(slicer), [], []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", nodes.append)
    selector.connect("currentNodeChanged(bool)", flags.append)
    selector.setCurrentNode(node)
    selector.setCurrentNode(node)
    selector.setCurrentNode(None)
    assert nodes == [node, None]
    assert flags == [True, False]


def test_a_node_that_is_removed_is_no_longer_chosen(slicer, selector):
    node = add(slicer)
    selector.setCurrentNode(node)
    slicer.mrmlScene.RemoveNode(node)
    assert selector.currentNode() is None


def test_a_renamed_node_keeps_its_place(slicer, selector):
    node, names = add(slicer), []
    selector.setCurrentNode(node)
    selector.connect("currentNodeRenamed(QString)", names.append)
    node.SetName("renamed")
    assert names == ["renamed"] and selector.currentNode() is node


def test_label_maps_are_hidden_where_child_types_are_excluded(slicer, selector):
    add(slicer, "labels", "vtkMRMLLabelMapVolumeNode")
    assert selector.nodeCount() == 1
    selector.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
    assert selector.nodeCount() == 0


def test_hidden_nodes_are_not_shown(slicer, selector):
    add(slicer).SetHideFromEditors(True)
    selector.setMRMLScene(None)
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.nodeCount() == 0


def test_a_node_made_by_the_user_is_chosen_and_named(slicer):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLSegmentationNode"]
    selector.noneEnabled = True
    selector.baseName = "Result"
    selector.setMRMLScene(slicer.mrmlScene)
    node = selector.addNode()
    assert selector.currentNode() is node and node.GetName() == "Result"


def test_a_deleted_selector_no_longer_listens(slicer, host):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    selector.deleteLater()
    host.process(0.01)
    add(slicer)


def test_several_nodes_can_be_checked(slicer):
    selector, changes = slicer.qMRMLCheckableNodeComboBox(), []
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    first, second = add(slicer, "1"), add(slicer, "2")
    selector.connect("checkedNodesChanged()", lambda: changes.append(1))
    import qt

    selector.setCheckState(second, qt.Qt.Checked)
    assert selector.checkedNodes() == (second,) and changes == [1]
    assert selector.uncheckedNodes() == (first,)
    slicer.mrmlScene.RemoveNode(second)
    assert selector.noneChecked()


def test_a_node_of_several_can_be_withheld_from_the_user(slicer):
    from PySide6.QtCore import Qt
    from SlicerHost.conversion import raw_of

    selector = slicer.qMRMLCheckableNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    node = add(slicer, "1")
    model = raw_of(selector).combo.model()
    for checkable in (False, True):
        selector.setUserCheckable(node, checkable)
        assert bool(model.flags(model.index(0, 0)) & Qt.ItemIsEnabled) == checkable


def test_a_table_node_is_shown_cell_by_cell(slicer):
    import vtk
    from SlicerHost.conversion import raw_of

    view, node = slicer.qMRMLTableView(), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    view.setMRMLScene(slicer.mrmlScene)
    for title, values in {"name": ("liver", "spleen"), "Dice": ("0.9", "0.8")}.items():
        column = vtk.vtkStringArray()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(value)
        node.AddColumn(column)
    view.setMRMLTableNode(node)
    model = raw_of(view).model()
    shown = [[model.data(model.index(row, column)) for column in range(2)] for row in range(2)]
    assert shown == [["liver", "0.9"], ["spleen", "0.8"]]


# Segments


def test_the_table_of_segments_follows_the_segmentation(slicer):
    table, node = slicer.qMRMLSegmentsTableView(), a_segmentation(slicer, "liver", "spleen")
    table.setMRMLScene(slicer.mrmlScene)
    table.setSegmentationNode(node)
    assert table.displayedSegmentIDs() == ("id_liver", "id_spleen")
    node.GetSegmentation().RemoveSegment("id_liver")
    assert table.segmentCount == 1
    table.setSelectedSegmentIDs(["id_spleen"])
    assert table.selectedSegmentIDs() == ("id_spleen",)
    slicer.mrmlScene.RemoveNode(node)
    assert table.segmentCount == 0


def test_one_or_several_segments_can_be_chosen(slicer):
    chooser, node = slicer.qMRMLSegmentSelectorWidget(), a_segmentation(slicer, "liver", "spleen")
    chooser.setMRMLScene(slicer.mrmlScene)
    chooser.setCurrentNode(node)
    chooser.setCurrentSegmentID("id_spleen")
    assert chooser.currentSegmentID() == "id_spleen"
    chooser.multiSelection = True
    chooser.setSelectedSegmentIDs(["id_liver"])
    assert chooser.selectedSegmentIDs() == ("id_liver",)


def test_the_segment_editor_holds_its_nodes_and_says_that_it_is_a_stand_in(slicer):
    import qt

    editor, node = slicer.qMRMLSegmentEditorWidget(), a_segmentation(slicer, "liver")
    editor.setMRMLScene(slicer.mrmlScene)
    state = slicer.mrmlScene.AddNode(slicer.vtkMRMLSegmentEditorNode())
    editor.setMRMLSegmentEditorNode(state)
    editor.setSegmentationNode(node)
    assert state.GetSegmentationNode() is node
    assert "test host" in editor.findChildren(qt.QLabel)[0].text


# The application


def test_slice_views_take_their_layers_from_the_scene(slicer):
    volume = slicer.util.addVolumeFromArray(np.ones((4, 5, 6)))
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    view = slicer.app.layoutManager().sliceWidget("Red")
    assert view.mrmlSliceCompositeNode().GetBackgroundVolumeID() == volume.GetID()
    assert view.mrmlSliceNode().GetOrientation() == "Axial"


def test_closing_the_scene_keeps_the_slice_views(slicer, host):
    host.close_scene()
    assert slicer.app.layoutManager().sliceWidget("Green").mrmlSliceNode().GetScene() is slicer.mrmlScene


@pytest.mark.parametrize("name", ["Ünïcode Wort.nrrd", "with space.nii.gz"])
def test_volumes_are_written_and_read_with_their_geometry(slicer, tmp_path, name):
    matrix = np.array([[-1.5, 0.2, 0.0, 7], [0.1, -1.2, 0.3, -8], [0.0, 0.2, 2.0, 9], [0, 0, 0, 1]])
    axes, _ = np.linalg.qr(matrix[:3, :3])
    matrix[:3, :3] = axes * (1.5, 1.2, 2.0)
    volume = slicer.util.addVolumeFromArray(np.arange(120.0).reshape(4, 5, 6), ijkToRAS=matrix)
    assert slicer.util.exportNode(volume, str(tmp_path / name), properties={})
    again = slicer.util.loadVolume(str(tmp_path / name))
    assert np.array_equal(slicer.util.arrayFromVolume(again), slicer.util.arrayFromVolume(volume))
    read = vtk.vtkMatrix4x4()
    again.GetIJKToRASMatrix(read)
    assert np.allclose(slicer.util.arrayFromVTKMatrix(read), matrix, atol=1e-4)


def test_a_file_that_is_not_there_raises(slicer):
    with pytest.raises(RuntimeError, match="Failed to load node"):
        slicer.util.loadVolume("/no/such/file.nrrd")


def test_segmentations_are_written_and_read(slicer, tmp_path):
    volume = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6)))
    node = a_segmentation(slicer, "liver")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[1:3, 2:4, 1:5] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "id_liver", volume)
    path = tmp_path / "ü.seg.nrrd"
    assert slicer.util.exportNode(node, str(path), properties={})
    again = slicer.util.loadSegmentation(str(path))
    assert again.GetSegmentation().GetSegment("id_liver").GetName() == "liver"
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(again, "id_liver", volume), mask)
