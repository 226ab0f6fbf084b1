"""The way that a user goes: marked scan, scan to segment, Apply."""

import contextlib

import numpy as np

from panel_scene import (
    COLOURS,
    add_scan,
    apply,
    dice,
    mask_of,
    needs_worker,
    nodes,
    segment_names,
    wait,
)

pytestmark = needs_worker


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


def test_cancel_while_the_result_is_put_into_the_scene_leaves_nothing_of_it(panel, host, case, monkeypatch):
    from SSLFewShotSlicer import segmenting

    def cancelled_half_way(*arguments, **settings):
        with contextlib.closing(place_in_steps(*arguments, **settings)) as steps:
            for _step in steps:
                panel.segment.job.cancel()
                yield

    place_in_steps = segmenting.place_in_steps
    monkeypatch.setattr(segmenting, "place_in_steps", cancelled_half_way)
    before = nodes("vtkMRMLDisplayableNode") + nodes("vtkMRMLDisplayNode")
    assert apply(panel, host).state == "cancelled"
    assert nodes("vtkMRMLDisplayableNode") + nodes("vtkMRMLDisplayNode") == before
    assert panel.segment.message.text.startswith("Cancelled; nothing was changed")


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


def test_what_is_done_already_of_several_scans_is_kept_when_the_rest_is_cancelled(panel, host, case):
    second, _ = add_scan("Another", (-2, 2, 0))
    panel.parameters.more_targets = [second]
    host.process(0.1)
    panel.ui.applyButton.click()
    wait(host, lambda: panel.segment.job.message.startswith("Another"))
    panel.segment.job.cancel()
    wait(host, lambda: panel.segment.job.over)
    host.process(0.1)
    assert [one.target_name for one in panel.segment.result.results] == ["New"]
    assert panel.segment.message.kind == "warning" and "New" in panel.segment.message.text
    assert "Another and what follows: cancelled" in panel.ui.segmentMessage.text
    panel.ui.undoButton.click()
    assert {node.GetName() for node in nodes("vtkMRMLSegmentationNode")} == {"Marked segmentation"}


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
