"""What is done with a result: looked at, put beside what is there, accepted, taken back."""

import numpy as np

from panel_scene import (
    add_scan,
    add_segmentation,
    apply,
    dice,
    mask_of,
    needs_worker,
    nodes,
    segment_names,
    wait,
)

pytestmark = needs_worker


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
