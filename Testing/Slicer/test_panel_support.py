"""The section "Marked scan": what is chosen by itself, the table of further scans, sets as folders, the editor."""

from types import SimpleNamespace

import numpy as np
import pytest

from panel_scene import add_case, add_scan, add_segmentation, mask_of, nodes, segment_names, wait


def supports(panel):
    from SSLFewShotSlicer.parameters import supports_of

    return [(volume.GetName(), segmentation.GetName()) for volume, segmentation in supports_of(panel.parameters)]


def test_a_scene_that_leaves_no_doubt_needs_no_choice(panel, host):
    add_case("Marked")
    add_scan("New")
    panel.enter()
    assert supports(panel) == [("Marked", "Marked segmentation")]
    assert panel.parameters.target_volume.GetName() == "New"
    assert panel.ui.guideText.text == "<b>Next:</b> click <i>Apply</i>." and panel.ui.applyButton.enabled


def test_where_there_is_doubt_nothing_is_chosen(panel, host):
    add_case("One")
    add_case("Two")
    panel.enter()
    assert supports(panel) == [] and panel.parameters.target_volume is None


def test_a_choice_that_was_made_is_kept(panel, host):
    add_case("Marked")
    other, _ = add_scan("Other")
    panel.parameters.support_volume = other
    panel.enter()
    assert panel.parameters.support_volume is other and panel.parameters.support_segmentation is None


def test_choosing_a_segmentation_chooses_the_scan_that_it_was_made_on(panel, host):
    volume, segmentation = add_case("Marked")
    panel.parameters.support_segmentation = segmentation
    host.process(0.1)
    assert panel.parameters.support_volume is volume


def test_structures_are_listed_with_their_colours_as_they_are_marked(panel, host):
    volume, masks = add_scan("Scan")
    segmentation = add_segmentation(volume, {"Bone": masks["Bone"]}, "Marks")
    panel.parameters.support_volume, panel.parameters.support_segmentation = volume, segmentation
    host.process(0.1)
    assert [panel.ui.segmentList.item(row).text() for row in range(panel.ui.segmentList.count)] == ["Bone"]
    segmentation.GetSegmentation().AddEmptySegment("", "Added later", (0.1, 0.2, 0.3))
    host.process(0.1)
    assert [panel.ui.segmentList.item(row).text() for row in range(panel.ui.segmentList.count)] == [
        "Bone",
        "Added later",
    ]


def test_ticks_are_saved_with_the_scene(panel, host):
    import qt

    volume, segmentation = add_case()
    panel.parameters.support_volume, panel.parameters.support_segmentation = volume, segmentation
    host.process(0.1)
    panel.ui.segmentList.item(0).setCheckState(qt.Qt.Unchecked)
    host.process(0.1)
    assert list(panel.parameters.unticked_segments) == ["Bone"]
    assert panel.support.ticked_names() == ["Fat"]


def test_scans_are_added_to_the_table_and_removed(panel, host):
    first, second = add_case("First"), add_case("Second")
    panel.parameters.support_volume, panel.parameters.support_segmentation = first
    host.process(0.1)
    panel.ui.addSupportButton.click()
    host.process(0.1)
    assert panel.parameters.support_volume is None and panel.ui.supportTable.rowCount == 1
    panel.parameters.support_volume, panel.parameters.support_segmentation = second
    host.process(0.1)
    assert supports(panel) == [("Second", "Second segmentation"), ("First", "First segmentation")]
    assert panel.ui.moreSupportsGroup.title == "More marked scans (2 in all)"
    panel.ui.supportTable.selectRow(0)
    assert panel.ui.removeSupportButton.enabled
    panel.ui.removeSupportButton.click()
    host.process(0.1)
    assert supports(panel) == [("Second", "Second segmentation")]


def test_the_same_scan_counts_once(panel, host):
    case = add_case("Once")
    panel.parameters.support_volume, panel.parameters.support_segmentation = case
    host.process(0.1)
    panel.ui.addSupportButton.click()
    panel.parameters.support_volume, panel.parameters.support_segmentation = case
    host.process(0.1)
    assert supports(panel) == [("Once", "Once segmentation")]
    panel.ui.addSupportButton.click()
    assert "in the table already" in panel.support.message.text


def test_a_deleted_scan_leaves_the_table(panel, host):
    import slicer

    first, second = add_case("First"), add_case("Second")
    panel.parameters.support_volume, panel.parameters.support_segmentation = first
    host.process(0.1)
    panel.ui.addSupportButton.click()
    panel.parameters.support_volume, panel.parameters.support_segmentation = second
    slicer.mrmlScene.RemoveNode(first[0])
    host.process(0.1)
    assert supports(panel) == [("Second", "Second segmentation")] and panel.ui.supportTable.rowCount == 0


def test_a_set_is_saved_as_a_folder_and_comes_back_the_same(panel, host, tmp_path):
    from SlicerHost import dialogs

    volume, segmentation = add_case("Ümlaut 1")
    array, mask = np.array(_array(volume)), mask_of(segmentation, "Bone", volume)
    panel.parameters.support_volume, panel.parameters.support_segmentation = volume, segmentation
    host.process(0.1)
    panel.ui.moreSupportsGroup.collapsed = False
    dialogs.answer(str(tmp_path))
    panel.ui.saveSupportButton.click()
    wait(host, lambda: panel.support.message.kind is not None)
    assert panel.support.message.kind == "success", panel.support.message.text
    assert {path.name for path in tmp_path.iterdir()} == {"support.json", "support_1.nrrd", "support_1.seg.nrrd"}
    host.close_scene()
    panel.ui.moreSupportsGroup.collapsed = False
    dialogs.answer(str(tmp_path))
    panel.ui.loadSupportButton.click()
    host.process(0.1)
    assert supports(panel) == [("Ümlaut 1", "Ümlaut 1 segmentation")], panel.support.message.text
    loaded = panel.parameters.support_segmentation
    assert np.array_equal(_array(panel.parameters.support_volume), array)
    assert segment_names(loaded) == ["Bone", "Fat"]
    assert np.array_equal(mask_of(loaded, "Bone", panel.parameters.support_volume), mask)


def test_a_set_is_never_saved_over_another(panel, host, tmp_path):
    from SlicerHost import dialogs

    (tmp_path / "support.json").write_text("{}")
    panel.parameters.support_volume, panel.parameters.support_segmentation = add_case()
    host.process(0.1)
    panel.ui.moreSupportsGroup.collapsed = False
    dialogs.answer(str(tmp_path))
    panel.ui.saveSupportButton.click()
    wait(host, lambda: panel.support.message.kind is not None)
    assert "holds a set of marked scans already" in panel.support.message.text
    assert (tmp_path / "support.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "has no support.json"),
        ("{", "cannot be read"),
        ('{"supports": [{"image": "../x", "labels": "y", "name": "a", "segmentation": "b"}]}', "is missing"),
        ('{"supports": [{"image": "gone.nrrd", "labels": "y", "name": "a", "segmentation": "b"}]}', "is missing"),
        ('{"supports": []}', "is empty"),
    ],
)
def test_a_folder_that_is_no_set_is_refused_and_the_scene_stays(panel, host, tmp_path, content, said):
    from SlicerHost import dialogs

    if content is not None:
        (tmp_path / "support.json").write_text(content)
    before = len(nodes("vtkMRMLDisplayableNode"))
    panel.ui.moreSupportsGroup.collapsed = False
    dialogs.answer(str(tmp_path))
    panel.ui.loadSupportButton.click()
    assert panel.support.message.kind == "error" and said in panel.support.message.text
    assert len(nodes("vtkMRMLDisplayableNode")) == before


def test_edit_opens_the_segment_editor_on_both_and_a_button_brings_back(panel, host, monkeypatch):
    import qt
    import slicer

    asked = {}
    widget = qt.QWidget()
    layout = qt.QVBoxLayout(widget)
    editor = SimpleNamespace(
        setSegmentationNode=lambda node: asked.update(segmentation=node),
        setSourceVolumeNode=lambda node: asked.update(volume=node),
    )
    representation = SimpleNamespace(self=lambda: SimpleNamespace(editor=editor), layout=lambda: layout)
    module = SimpleNamespace(widgetRepresentation=lambda: representation)
    monkeypatch.setattr(slicer.modules, "segmenteditor", module, raising=False)
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: widget)
    monkeypatch.setattr(slicer.util, "selectModule", lambda name: asked.setdefault("modules", []).append(name))
    volume, _ = add_scan("Unmarked")
    over, _ = add_scan("Laid over")
    slicer.util.setSliceViewerLayers(background=over, foreground=over)
    panel.parameters.support_volume = volume
    host.process(0.1)
    panel.ui.editSegmentsButton.click()
    shown = {(node.GetBackgroundVolumeID(), node.GetForegroundVolumeID()) for node in _slices()}
    assert shown == {(volume.GetID(), None)}, "nothing of another scan lies over the one to be marked"
    made = panel.parameters.support_segmentation
    assert made.GetName() == "Unmarked segmentation"
    assert asked["segmentation"] is made and asked["volume"] is volume
    assert layout.count() == 1
    layout.itemAt(0).widget().click()
    assert asked["modules"] == ["SegmentEditor", "SSLFewShot"]
    host.process(0.1)
    assert layout.count() == 0


def test_without_a_window_the_editor_is_not_opened_and_the_user_is_told(panel, host, monkeypatch):
    import slicer

    monkeypatch.setattr(slicer.modules, "segmenteditor", SimpleNamespace(), raising=False)
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: None)
    panel.parameters.support_volume, _ = add_scan("Unmarked")
    host.process(0.1)
    panel.ui.editSegmentsButton.click()
    assert (
        panel.support.message.text
        == "The Segment Editor cannot be opened here; look for it in the list of modules"
    )


def _slices():
    return nodes("vtkMRMLSliceCompositeNode")


def _array(volume):
    import slicer

    return slicer.util.arrayFromVolume(volume)
