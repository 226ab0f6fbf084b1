"""The way that a user goes: marked scan, scan to segment, Apply, and what is done with the result."""

import numpy as np
import pytest

from panel_scene import (
    COLOURS,
    add_case,
    add_scan,
    add_segmentation,
    apply,
    choose,
    dice,
    mask_of,
    needs_worker,
    nodes,
    segment_names,
    wait,
)

pytestmark = needs_worker


@pytest.fixture
def case(panel, host):
    support = add_case("Marked")
    target, masks = add_scan("New", (3, -2, 2))
    choose(panel, host, support, target)
    return support, target, masks


def test_apply_segments_the_scan_with_the_marked_ones_names_and_colours(panel, host, case):
    _, target, masks = case
    job = apply(panel, host)
    assert job.state == "done", job.sentence
    (result,) = [node for node in nodes("vtkMRMLSegmentationNode") if node.GetName() == "New segmentation"]
    assert segment_names(result) == ["Bone", "Fat"]
    for name, colour in COLOURS.items():
        segment = result.GetSegmentation().GetSegment(result.GetSegmentation().GetSegmentIdBySegmentName(name))
        assert np.allclose(segment.GetColor(), colour)
        assert dice(mask_of(result, name, target), masks[name]) > 0.7
    assert panel.segment.message.kind == "success"
    assert "Bone, Fat" in panel.segment.message.text and "New" in panel.segment.message.text
    assert panel.ui.resultFrame.visible


def test_the_method_is_automatic_until_another_is_chosen_from_the_list(panel, host, case):
    selector = panel.ui.methodSelector
    assert selector.currentText == "Automatic"
    job = apply(panel, host)
    assert job.state == "done", job.sentence
    offered = [selector.itemText(n) for n in range(selector.count)]
    assert offered[:3] == ["Automatic", "Alignment", "Nearest neighbours"]
    assert ("Prototypes (ALPNet)" in offered) == ("prototype" in panel.session.info["segmenters"])
    # A descriptor that is not dense can only be compared.
    assert job.result[0].report["segmenter"]["method"] == "knn"


def test_a_method_offers_only_the_models_that_it_can_use(panel, host, case):
    panel.models.load()
    wait(host, lambda: panel.models.cards)
    host.process(0.1)
    methods, models = panel.ui.methodSelector, panel.ui.modelSelector

    def offered():
        return [models.itemData(n) for n in range(models.count)]

    assert "gvdiff" in offered() and panel.parameters.model == "gvdiff"
    methods.currentIndex = methods.findData("aligned")
    host.process(0.1)
    kinds = {card["name"]: card["method"] for card in panel.models.cards}
    assert offered()[0] == "" and {kinds[name] for name in offered()[1:]} == {"dense"}
    assert (panel.parameters.method, panel.parameters.model) == ("aligned", ""), "gvdiff cannot be aligned"
    assert "DENSE" in panel.ui.methodHint.text
    methods.currentIndex = methods.findData("knn")
    host.process(0.1)
    assert "gvdiff" in offered() and "dense-head-neck-ct" in offered()


def test_a_method_that_has_no_model_says_where_to_get_one(panel, host, case):
    panel.segment.methods.take([{"name": "gradient", "method": "reg2d"}])
    panel.parameters.method, panel.parameters.model = "aligned", ""
    host.process(0.1)
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip.startswith(
        "Alignment needs a model of the kind DENSE: import one in Models"
    )
    panel.segment.methods.take(panel.models.cards)


def test_what_the_library_says_speaks_of_no_commands_options(panel, host, case):
    panel.parameters.method = "aligned"
    host.process(0.1)
    job = apply(panel, host)
    assert job.state == "failed" and "dense model" in job.sentence and "nearest neighbours" in job.sentence
    assert panel.segment.message.kind == "error" and "--" not in panel.segment.message.text


def test_with_a_dense_model_the_marks_are_carried_by_an_alignment(panel, host, case):
    panel.parameters.model = "dense-head-neck-ct"
    host.process(0.1)
    job = apply(panel, host)
    assert job.state == "done", job.sentence
    assert job.result[0].report["segmenter"]["method"] == "aligned"


def test_apply_turns_into_cancel_and_cancel_leaves_the_scene_as_it_was(panel, host, case):
    before = len(nodes("vtkMRMLDisplayableNode"))
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Cancel"
    wait(host, lambda: panel.segment.job.fraction > 0.1 or panel.segment.job.over)
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Cancelling…" and not panel.ui.applyButton.enabled
    wait(host, lambda: panel.segment.job.over, 10)
    assert panel.segment.job.state == "cancelled"
    assert panel.ui.applyButton.text == "Apply" and panel.ui.applyButton.enabled
    assert "nothing was changed" in panel.segment.message.text
    assert len(nodes("vtkMRMLDisplayableNode")) == before


def test_after_a_cancel_the_next_apply_works(panel, host, case):
    panel.ui.applyButton.click()
    host.process(0.2)
    panel.ui.applyButton.click()
    wait(host, lambda: panel.segment.job.over, 10)
    assert apply(panel, host).state == "done"


def test_progress_is_shown_while_it_runs_and_gone_afterwards(panel, host, case):
    seen = set()
    panel.ui.applyButton.click()
    wait(
        host,
        lambda: (
            seen.add((panel.ui.segmentProgress.visible, panel.ui.segmentStatus.text)) or panel.segment.job.over
        ),
    )
    host.process(0.1)
    assert any(visible and text for visible, text in seen)
    assert not panel.ui.segmentProgress.visible and not panel.ui.segmentStatus.visible


def test_undo_takes_the_result_out_of_the_scene(panel, host, case):
    before = {node.GetID() for node in nodes("vtkMRMLDisplayableNode")}
    apply(panel, host)
    assert {node.GetID() for node in nodes("vtkMRMLDisplayableNode")} != before
    panel.ui.undoButton.click()
    host.process(0.1)
    assert {node.GetID() for node in nodes("vtkMRMLDisplayableNode")} == before
    assert not panel.ui.resultFrame.visible


def test_a_result_stays_when_the_next_apply_is_cancelled(panel, host, case):
    apply(panel, host)
    first = panel.segment.result.results
    panel.ui.applyButton.click()
    host.process(0.1)
    assert not panel.ui.resultFrame.visible
    panel.ui.applyButton.click()
    wait(host, lambda: panel.segment.job.over, 10)
    host.process(0.1)
    assert panel.segment.result.results == first and panel.ui.resultFrame.visible
    panel.ui.undoButton.click()
    assert [node.GetName() for node in nodes("vtkMRMLSegmentationNode")] == ["Marked segmentation"]


def test_segments_that_are_there_are_replaced_only_after_asking(panel, host, case):
    _, target, masks = case
    mine = add_segmentation(target, {"Bone": masks["Fat"], "Mine": masks["Bone"]}, "Mine")
    panel.parameters.result_segmentation = mine
    host.process(0.1)
    panel.ui.applyButton.click()
    assert panel.segment.job is None or panel.segment.job.over
    assert "Mine has Bone already" in panel.segment.message.text
    assert "Replace them" in panel.ui.segmentMessage.text and "Keep both" in panel.ui.segmentMessage.text
    panel.ui.segmentMessage.linkActivated.emit("replace")
    wait(host, lambda: panel.segment.job is not None and panel.segment.job.over)
    assert panel.segment.job.state == "done", panel.segment.job.sentence
    assert sorted(segment_names(mine)) == ["Bone", "Fat", "Mine"]
    assert dice(mask_of(mine, "Bone", target), masks["Bone"]) > 0.7
    assert np.array_equal(mask_of(mine, "Mine", target), masks["Bone"])
    panel.ui.undoButton.click()
    assert np.array_equal(mask_of(mine, "Bone", target), masks["Fat"])
    assert sorted(segment_names(mine)) == ["Bone", "Mine"]


def test_keeping_both_gives_the_new_segments_other_names(panel, host, case):
    _, target, masks = case
    mine = add_segmentation(target, {"Bone": masks["Fat"]}, "Mine")
    mine.CreateClosedSurfaceRepresentation()
    panel.parameters.result_segmentation = mine
    host.process(0.1)
    panel.ui.applyButton.click()
    panel.ui.segmentMessage.linkActivated.emit("keep")
    wait(host, lambda: panel.segment.job is not None and panel.segment.job.over)
    assert segment_names(mine)[0] == "Bone" and len(segment_names(mine)) == 3
    contents = mine.GetSegmentation()
    assert all(contents.GetNthSegment(n).GetRepresentation("Closed surface") for n in range(3)), "all are in 3D"
    assert np.array_equal(mask_of(mine, "Bone", target), masks["Fat"])


def test_an_unticked_structure_is_not_looked_for(panel, host, case):
    import qt

    panel.ui.segmentList.item(1).setCheckState(qt.Qt.Unchecked)
    host.process(0.1)
    apply(panel, host)
    (result,) = [node for node in nodes("vtkMRMLSegmentationNode") if node.GetName() == "New segmentation"]
    assert segment_names(result) == ["Bone"]


def test_several_scans_get_a_segmentation_each(panel, host, case):
    second, _ = add_scan("Another", (-2, 2, 0))
    panel.parameters.more_targets = [second]
    host.process(0.1)
    assert panel.ui.moreTargetsList.visible
    job = apply(panel, host)
    assert job.state == "done", job.sentence
    names = {node.GetName() for node in nodes("vtkMRMLSegmentationNode")}
    assert {"New segmentation", "Another segmentation"} <= names
    assert "2 scans" in panel.segment.message.text
    panel.ui.undoButton.click()
    assert {node.GetName() for node in nodes("vtkMRMLSegmentationNode")} == {"Marked segmentation"}


def test_an_accepted_result_becomes_a_marked_scan(panel, host, case):
    from SSLFewShotSlicer.parameters import supports_of

    (marked, _), target, _ = case
    apply(panel, host)
    panel.ui.acceptButton.click()
    host.process(0.1)
    assert [volume for volume, _ in supports_of(panel.parameters)] == [marked, target]
    assert panel.ui.supportTable.rowCount == 1
    assert panel.parameters.target_volume is None
    assert (
        "Scan to segment" in panel.ui.guideSteps.text and "choose the scan to segment" in panel.ui.guideText.text
    )
    third, masks = add_scan("Third", (-3, 1, -2))
    panel.parameters.target_volume = third
    host.process(0.1)
    job = apply(panel, host)
    assert job.state == "done", job.sentence
    assert job.result[0].report["support"] and len(job.result[0].report["support"]) == 2
    result = nodes("vtkMRMLSegmentationNode")[-1]
    assert dice(mask_of(result, "Bone", third), masks["Bone"]) > 0.7


def test_a_second_scan_does_not_have_the_marked_one_handed_over_again(panel, host, case):
    apply(panel, host)
    seen = []
    second, _ = add_scan("Another", (-2, 2, 0))
    panel.parameters.target_volume = second
    host.process(0.1)
    panel.ui.applyButton.click()
    panel.segment.job.observe(lambda job: seen.append(job.message))
    wait(host, lambda: panel.segment.job.over)
    assert panel.segment.job.state == "done"
    assert not any("marked structures" in message for message in seen)
    assert panel.segment.job.result[0].report["warm"]["support"]


def test_painting_on_the_marked_scan_makes_it_be_handed_over_again(panel, host, case):
    import slicer

    (marked, segmentation), _, _ = case
    apply(panel, host)
    segment_id = segmentation.GetSegmentation().GetNthSegmentID(0)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, marked)
    array[10:12] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, segment_id, marked)
    seen = []
    panel.ui.undoButton.click()
    panel.ui.applyButton.click()
    panel.segment.job.observe(lambda job: seen.append(job.message))
    wait(host, lambda: panel.segment.job.over)
    assert any("marked structures" in message for message in seen)


def test_a_region_limits_the_search_and_the_result_lies_where_it_belongs(panel, host, case):
    import slicer

    _, target, masks = case
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Around the bone")
    where = np.argwhere(masks["Bone"])[:, ::-1]
    low, high = (where.min(axis=0) - 6) * 3.0, (where.max(axis=0) + 6) * 3.0
    roi.SetCenter(*((low + high) / 2))
    roi.SetSize(*(high - low))
    panel.parameters.roi = roi
    panel.parameters.unticked_segments = ["Fat"]
    host.process(0.1)
    job = apply(panel, host)
    assert job.state == "done", job.sentence
    result = nodes("vtkMRMLSegmentationNode")[-1]
    found = mask_of(result, "Bone", target)
    assert found.shape == masks["Bone"].shape
    assert dice(found, masks["Bone"]) > 0.7
    inside = np.zeros_like(found)
    k, j, i = (
        slice(max(0, int(a / 3)), int(np.ceil(b / 3)) + 1) for a, b in zip(low[::-1], high[::-1], strict=True)
    )
    inside[k, j, i] = True
    assert not (found & ~inside).any()


def test_a_closed_scene_takes_the_message_and_the_result_with_it(panel, host, case):
    apply(panel, host)
    assert panel.ui.segmentMessage.visible and panel.ui.resultFrame.visible
    host.close_scene()
    host.process(0.2)
    assert not panel.ui.segmentMessage.visible and not panel.ui.resultFrame.visible
    assert panel.segment.message.kind is None and not panel.segment.finished


def test_confidence_is_laid_over_the_slices_and_taken_away_again(panel, host, case):
    apply(panel, host)
    shown = panel.segment.result.results[0].placed.confidence_id
    panel.ui.confidenceCheck.checked = True
    composites = nodes("vtkMRMLSliceCompositeNode")
    assert composites and all(node.GetForegroundVolumeID() == shown for node in composites)
    panel.ui.confidenceCheck.checked = False
    assert all(node.GetForegroundVolumeID() != shown for node in composites)


def test_surfaces_are_shown_in_3d_and_hidden_again(panel, host, case):
    apply(panel, host)
    node = nodes("vtkMRMLSegmentationNode")[-1]
    panel.ui.show3DCheck.checked = True
    wait(host, lambda: node.GetDisplayNode().GetVisibility3D() and not panel.session.jobs, 10)
    for name in ("Bone", "Fat"):
        surface = node.GetClosedSurfaceInternalRepresentation(
            node.GetSegmentation().GetSegmentIdBySegmentName(name)
        )
        assert surface.GetNumberOfPoints() > 50
    panel.ui.show3DCheck.checked = False
    assert not node.GetDisplayNode().GetVisibility3D()


def test_a_folder_is_segmented_into_files(panel, host, case, tmp_path):
    import slicer

    scans, results = tmp_path / "scans with spaces", tmp_path / "results ü"
    scans.mkdir()
    for number in range(2):
        volume, _ = add_scan(f"scan {number}", (number, 0, 0))
        slicer.util.exportNode(volume, str(scans / f"scan_{number}.nrrd"), {})
        slicer.mrmlScene.RemoveNode(volume)
    panel.parameters.targets_in_folder = True
    host.process(0.1)
    assert not panel.ui.applyButton.enabled and "folder" in panel.ui.guideText.text
    panel.ui.inputFolderEdit.currentPath = str(scans)
    panel.ui.outputFolderEdit.currentPath = str(results)
    host.process(0.1)
    job = apply(panel, host)
    assert job.state == "done", job.sentence
    assert sorted(path.name for path in results.glob("*_seg.seg.nrrd")) == [
        "scan_0_seg.seg.nrrd",
        "scan_1_seg.seg.nrrd",
    ]
    assert "2 of 2" in panel.segment.message.text
