"""The section "Find and crop": a box for the marked structures, and the scan cropped to it."""

import numpy as np
import pytest

from panel_scene import (
    COLOURS,
    add_case,
    add_scan,
    add_segmentation,
    apply,
    choose,
    needs_worker,
    nodes,
    start_training,
    wait,
)

pytestmark = needs_worker
SIDE = 3.0


@pytest.fixture
def case(panel, host):
    support = add_case("Marked")
    target, masks = add_scan("New", (3, -2, 2))
    choose(panel, host, support, target)
    panel.ui.localiseSection.collapsed = False
    yield target, masks
    panel.ui.localiseSection.collapsed = True


def voxels(volume):
    import slicer

    return slicer.util.arrayFromVolume(volume)


def find_box(panel, host):
    panel.ui.localiseButton.click()
    assert panel.localise.job is not None, panel.localise.message.text
    wait(host, lambda: panel.localise.job.over, 120)
    host.process(0.1)
    assert panel.localise.job.state == "done", panel.localise.job.sentence
    return panel.parameters.box


def add_box(low, high, name="Drawn"):
    """A box around voxels low to high of a scan whose voxels are 3 mm."""
    import slicer

    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
    low, high = SIDE * (np.array(low) - 0.5), SIDE * (np.array(high) + 0.5)
    roi.SetCenter(*((low + high) / 2))
    roi.SetSize(*(high - low))
    return roi


def test_the_box_of_the_marked_structures_is_found_and_cropped_to(panel, host, case):
    target, masks = case
    box = find_box(panel, host)
    assert box.GetName() == "New box" and "certainty of" in panel.localise.message.text
    assert "% saved" in panel.ui.localiseSavings.text
    panel.ui.cropButton.click()
    wait(host, lambda: panel.localise.job.over)
    host.process(0.1)
    (cropped,) = [node for node in nodes("vtkMRMLScalarVolumeNode") if node.GetName() == "New cropped"]
    inside = place_in(target, cropped)
    assert np.array_equal(voxels(cropped), voxels(target)[inside])
    marked = np.logical_or(*masks.values())
    assert marked[inside].sum() > 0.9 * marked.sum()
    assert voxels(cropped).size < 0.7 * voxels(target).size
    panel.ui.localiseMessage.linkActivated.emit("target")
    host.process(0.1)
    assert panel.parameters.target_volume is cropped
    assert apply(panel, host).state == "done"


def place_in(scan, cropped):
    """The slices (K, J, I) of a scan that a part of it was cut from, by where both lie in the world."""
    first = [0.0, 0.0, 0.0]
    ours, theirs = np.zeros(6), np.zeros(6)
    cropped.GetRASBounds(ours)
    scan.GetRASBounds(theirs)
    first = np.rint((ours[::2] - theirs[::2]) / SIDE).astype(int)
    size = voxels(cropped).shape[::-1]
    return tuple(slice(a, a + n) for a, n in zip(first[::-1], size[::-1], strict=True))


def test_each_structure_gets_a_box_of_its_own_and_is_cropped_to(panel, host, case):
    target, masks = case
    panel.ui.localiseEachSelector.currentIndex = 1
    host.process(0.1)
    assert panel.ui.localiseButton.text == "Find the boxes"
    first = find_box(panel, host)
    boxes = {node.GetName(): node for node in nodes("vtkMRMLMarkupsROINode")}
    assert sorted(boxes) == ["New Bone box", "New Fat box"] and first is boxes["New Bone box"]
    assert panel.localise.located[0].box_id is None
    for name, mask in masks.items():
        box = boxes[f"New {name} box"]
        assert np.allclose(box.GetDisplayNode().GetSelectedColor(), COLOURS[name]), "not as it is marked"
        low, high = corners_of(box)
        marked = np.argwhere(mask)[:, ::-1]
        assert ((low <= marked) & (marked <= high)).all(axis=1).mean() > 0.9
        assert np.prod(high - low) < 0.25 * mask.size, "it holds more than the structure"
    assert "New with certainties of Bone " in panel.localise.message.text
    with_handles = [name for name, box in boxes.items() if box.GetDisplayNode().GetHandlesInteractive()]
    assert with_handles == ["New Bone box"], "all have handles, which cover each other"
    panel.parameters.box = boxes["New Fat box"]
    host.process(0.1)
    with_handles = [name for name, box in boxes.items() if box.GetDisplayNode().GetHandlesInteractive()]
    assert with_handles == ["New Fat box"]
    panel.ui.cropButton.click()
    wait(host, lambda: panel.localise.job.over)
    (cropped,) = [node for node in nodes("vtkMRMLScalarVolumeNode") if node.GetName() == "New cropped"]
    assert masks["Fat"][place_in(target, cropped)].sum() > 0.9 * masks["Fat"].sum()


def test_every_scan_is_cropped_to_its_own_box_of_the_chosen_structure(panel, host, case):
    target, masks = case
    other, others = add_scan("Other", (-3, 3, 0))
    panel.parameters.more_targets = [other]
    panel.parameters.localise_each = True
    host.process(0.1)
    assert panel.ui.localiseEachSelector.currentIndex == 1
    find_box(panel, host)
    panel.parameters.box = next(node for node in nodes("vtkMRMLMarkupsROINode") if node.GetName() == "New Fat box")
    host.process(0.1)
    panel.ui.cropButton.click()
    wait(host, lambda: panel.localise.job.over)
    scans = {node.GetName(): node for node in nodes("vtkMRMLScalarVolumeNode")}
    for scan, marked in ((target, masks), (other, others)):
        place = place_in(scan, scans[f"{scan.GetName()} cropped"])
        assert marked["Fat"][place].sum() > 0.9 * marked["Fat"].sum()
        assert marked["Bone"][place].sum() < marked["Bone"].sum()


def test_boxes_found_before_are_hidden_when_others_are_found(panel, host, case):
    first = find_box(panel, host)
    assert first.GetDisplayNode().GetVisibility() and first.GetDisplayNode().GetHandlesInteractive()
    panel.parameters.localise_each = True
    find_box(panel, host)
    shown = {node.GetName(): node.GetDisplayNode().GetVisibility() for node in nodes("vtkMRMLMarkupsROINode")}
    assert shown == {"New box": 0, "New Bone box": 1, "New Fat box": 1}


def test_only_ticked_structures_get_boxes(panel, host, case):
    panel.parameters.unticked_segments = ["Bone"]
    panel.parameters.localise_each = True
    host.process(0.1)
    assert find_box(panel, host).GetName() == "New Fat box"
    assert len(nodes("vtkMRMLMarkupsROINode")) == 1


def test_boxes_of_structures_are_offered_only_where_marks_are_looked_for(panel, host, case):
    panel.parameters.localise_each = True
    panel.parameters.localise_method = "certainty"
    host.process(0.1)
    assert not panel.ui.localiseEachSelector.visible and panel.ui.localiseButton.text == "Find the box"
    panel.parameters.localise_method = "support"
    host.process(0.1)
    assert panel.ui.localiseEachSelector.visible


def corners_of(box):
    """Lowest and highest (i, j, k) of a box in a scan that lies along the axes, in parts of voxels."""
    bounds = np.zeros(6)
    box.GetRASBounds(bounds)
    return bounds[::2] / SIDE, bounds[1::2] / SIDE


def test_apply_can_search_the_box_only(panel, host, case):
    panel.parameters.box = box = add_box((5, 5, 5), (30, 30, 20))
    host.process(0.1)
    panel.ui.searchBoxButton.click()
    assert panel.parameters.roi is box and "within Drawn" in panel.localise.message.text


def test_what_cropping_saves_follows_the_box(panel, host, case):
    panel.parameters.box = box = add_box((0, 0, 0), (39, 39, 11))
    host.process(0.1)
    assert "40 × 40 × 12 of 40 × 40 × 24 voxels" in panel.ui.localiseSavings.text
    assert panel.ui.localiseSavings.text.endswith("50 % saved")
    box.SetSize(SIDE * 20, SIDE * 40, SIDE * 12)
    host.process(0.1)
    assert "20 × 40 × 12 of 40 × 40 × 24 voxels" in panel.ui.localiseSavings.text


def test_a_box_outside_of_the_scan_is_told(panel, host, case):
    panel.parameters.box = add_box((400, 0, 0), (410, 10, 10))
    host.process(0.1)
    assert panel.ui.localiseSavings.text == "Drawn: lies outside of New; move the region over it"
    panel.ui.cropButton.click()
    wait(host, lambda: panel.localise.message.kind is not None)
    assert panel.localise.message.kind == "error" and "lies outside of New" in panel.localise.message.text


def test_without_marks_the_button_says_what_is_missing(panel, host):
    panel.parameters.target_volume, _ = add_scan("Alone")
    host.process(0.1)
    assert not panel.ui.localiseButton.enabled
    assert panel.ui.localiseButton.toolTip == "Choose a marked scan and its segmentation first"
    assert not panel.ui.cropButton.enabled


def test_a_scan_deleted_meanwhile_is_named(panel, host, case):
    import slicer

    panel.ui.localiseButton.click()
    wait(host, lambda: panel.localise.job.fraction > 0.2 or panel.localise.job.over)
    slicer.mrmlScene.RemoveNode(case[0])
    wait(host, lambda: panel.localise.job.over)
    host.process(0.1)
    assert panel.localise.message.text.startswith("New: is no longer in the scene")
    assert not nodes("vtkMRMLMarkupsROINode")


def test_cancel_leaves_no_box(panel, host, case):
    panel.ui.localiseButton.click()
    host.process(0.2)
    assert panel.ui.localiseCancelButton.visible
    panel.ui.localiseCancelButton.click()
    wait(host, lambda: panel.localise.job.over, 20)
    host.process(0.1)
    assert panel.localise.job.state == "cancelled" and not nodes("vtkMRMLMarkupsROINode")
    assert not panel.ui.localiseCancelButton.visible


def test_a_script_finds_and_crops_several_scans(panel, host):
    from SSLFewShot import SSLFewShotLogic

    logic = SSLFewShotLogic()
    scans = [add_scan(f"New {n}", (n, 0, 0))[0] for n in range(2)]
    found = logic.localise(scans, support=[add_case()], segments=["Bone"])
    assert [one.target_name for one in found] == ["New 0", "New 1"]
    assert all(0 < one.certainty <= 1 and not one.boxes for one in found)
    cropped = logic.crop(scans, [one.box_id for one in found])
    assert [node.GetName() for node in cropped] == ["New 0 cropped", "New 1 cropped"]
    with pytest.raises(Exception, match="one for each"):
        logic.crop(scans, [found[0].box_id])
    with pytest.raises(Exception, match="no marked scan"):
        logic.localise(scans)
    with pytest.raises(Exception, match="only where marked structures"):
        logic.localise(scans, method="certainty", each=True)


def test_a_cropped_scan_looks_as_the_whole_one(panel, host, case):
    target, _ = case
    target.GetDisplayNode().SetAutoWindowLevel(False)
    target.GetDisplayNode().SetWindowLevelMinMax(-100, 300)
    from SSLFewShot import SSLFewShotLogic

    (cropped,) = SSLFewShotLogic().crop([target], add_box((5, 5, 5), (20, 20, 15)))
    display = cropped.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (-100, 300)
    assert add_segmentation(cropped, {}, "on it") is not None


@pytest.mark.slow
def test_without_marks_a_model_of_slices_finds_the_object_and_shows_its_profiles(panel, host, tmp_path):
    import slicer

    for number in range(3):
        volume, _ = add_scan(f"scan {number}", (number, 0, 0))
        slicer.util.exportNode(volume, str(tmp_path / f"scan_{number}.nrrd"), {})
    slicer.mrmlScene.Clear(0)
    methods = panel.ui.localiseMethodSelector
    panel.ui.pretrainSection.collapsed = False
    start_training(panel, host, tmp_path, "turned", 3, "slice-rotation")
    wait(host, lambda: "turned" in [card["name"] for card in panel.models.cards], 180)
    panel.ui.pretrainSection.collapsed = True
    host.process(0.1)
    assert [methods.itemData(n) for n in range(methods.count)] == ["support", "certainty", "clustering"]
    panel.ui.localiseSection.collapsed = False
    panel.parameters.target_volume, _ = add_scan("New", (3, -2, 2))
    methods.currentIndex = methods.findData("certainty")
    host.process(0.1)
    assert panel.ui.localiseButton.enabled, "it needs no marked scan"
    panel.ui.localiseButton.click()
    wait(host, lambda: panel.localise.job.over, 120)
    host.process(0.1)
    assert panel.localise.job.state == "done", panel.localise.job.sentence
    # After three steps of training it may find nothing, and then says so; what it measured is shown in any case.
    (found,) = panel.localise.located
    assert (found.box_id is None) == (panel.localise.message.kind == "warning" and bool(found.reason))
    assert found.plot.startswith(b"\x89PNG") and panel.ui.localisePlot.visible
    panel.ui.localiseSection.collapsed = True
    panel.parameters.localise_method = "support"
