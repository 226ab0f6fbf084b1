"""What can go wrong: each a plain sentence in the panel, and Apply works again afterwards."""

import os
import signal
import time

import numpy as np
import pytest

from panel_scene import add_case, add_scan, add_segmentation, apply, choose, needs_worker, nodes, wait

pytestmark = needs_worker


def is_one_sentence(text):
    return bool(text) and "Traceback" not in text and "\n" not in text and "Error(" not in text


def test_an_empty_scene_says_what_to_do_first(panel, host):
    assert "choose the scan that you have marked" in panel.ui.guideText.text
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == "Choose a marked scan and its segmentation first"


def test_a_scan_without_segmentation_says_to_mark_it(panel, host):
    volume, _ = add_scan("Alone")
    panel.parameters.support_volume = volume
    host.process(0.1)
    assert "choose its segmentation" in panel.ui.guideText.text
    assert panel.ui.editSegmentsButton.enabled and not panel.ui.applyButton.enabled


def test_a_segmentation_without_segments_says_to_mark_one(panel, host):
    volume, _ = add_scan("Alone")
    choose(panel, host, (volume, add_segmentation(volume, {}, "Nothing yet")), add_scan("New")[0])
    assert "mark at least one structure" in panel.ui.guideText.text
    assert panel.ui.segmentList.item(0).text() == "nothing is marked yet"
    assert not panel.ui.applyButton.enabled


def test_a_segment_without_a_voxel_is_refused_by_name(panel, host):
    volume, masks = add_scan("Alone")
    empty = add_segmentation(volume, {"Bone": np.zeros_like(masks["Bone"])}, "Painted nothing")
    choose(panel, host, (volume, empty), add_scan("New")[0])
    assert apply(panel, host).state == "failed"
    text = panel.segment.message.text
    assert panel.segment.message.kind == "error" and is_one_sentence(text)
    assert "Painted nothing" in text and "Bone" in text and "paint at least one structure" in text
    assert panel.ui.applyButton.enabled


def test_one_empty_segment_among_others_is_left_out_and_told(panel, host):
    volume, masks = add_scan("Alone")
    marked = add_segmentation(volume, {"Bone": masks["Bone"], "Air": np.zeros_like(masks["Bone"])}, "Half")
    choose(panel, host, (volume, marked), add_scan("New", (3, -2, 2))[0])
    assert apply(panel, host).state == "done"
    assert panel.segment.message.kind == "warning"
    assert "nothing is marked in Air" in panel.ui.segmentMessage.text


def test_the_marked_scan_itself_is_no_target(panel, host):
    support = add_case()
    choose(panel, host, support, support[0])
    panel.ui.applyButton.click()
    assert panel.segment.job is None or panel.segment.job.over
    assert panel.segment.message.text == "Marked: is the marked scan itself; choose another scan to segment"


def test_a_scan_with_several_values_a_voxel_is_refused(panel, host):
    import slicer

    choose(panel, host, add_case(), None)
    colour = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photo")
    slicer.util.updateVolumeFromArray(colour, np.zeros((4, 5, 6, 3), np.uint8))
    panel.parameters.target_volume = colour
    host.process(0.1)
    assert apply(panel, host).state == "failed"
    assert is_one_sentence(panel.segment.message.text)
    assert "Photo" in panel.segment.message.text and "3 values a voxel" in panel.segment.message.text


def test_a_scan_without_an_image_is_refused(panel, host):
    import slicer

    choose(panel, host, add_case(), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Hollow"))
    assert apply(panel, host).state == "failed"
    assert "Hollow: holds no image" in panel.segment.message.text


def test_a_scan_of_another_kind_is_segmented_with_a_warning(panel, host):
    import slicer

    support = add_case()
    target, _ = add_scan("MR like", (3, -2, 2))
    array = slicer.util.arrayFromVolume(target)
    slicer.util.updateVolumeFromArray(target, ((array + 1000) * 0.3).astype(np.int16))
    choose(panel, host, support, target)
    assert apply(panel, host).state == "done", panel.segment.message.text
    assert panel.segment.message.kind == "warning"
    assert "expect poor results" in panel.ui.segmentMessage.text and "MR like" in panel.ui.segmentMessage.text
    assert "target_1" not in panel.ui.segmentMessage.text


def test_a_bent_scan_is_segmented_as_it_was_acquired_and_the_user_is_told(panel, host):
    import slicer
    import vtk

    support = add_case()
    target, _ = add_scan("Bent", (3, -2, 2))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Bend")
    spline = vtk.vtkThinPlateSplineTransform()
    source, moved = vtk.vtkPoints(), vtk.vtkPoints()
    for point in np.ndindex(2, 2, 2):
        source.InsertNextPoint(*(np.array(point) * 100.0))
        moved.InsertNextPoint(*(np.array(point) * 100.0 + np.array(point[::-1]) * 7.0))
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(moved)
    spline.SetBasisToR()
    transform.SetAndObserveTransformToParent(spline)
    target.SetAndObserveTransformNodeID(transform.GetID())
    choose(panel, host, support, target)
    assert apply(panel, host).state == "done", panel.segment.message.text
    assert "non-linear transform" in panel.ui.segmentMessage.text
    assert nodes("vtkMRMLSegmentationNode")[-1].GetParentTransformNode() is transform


def test_a_scan_deleted_meanwhile_is_named_and_nothing_else_is_lost(panel, host):
    import slicer

    support = add_case()
    target, _ = add_scan("Short-lived")
    choose(panel, host, support, target)
    panel.ui.applyButton.click()
    wait(host, lambda: panel.segment.job.fraction > 0.15 or panel.segment.job.over)
    slicer.mrmlScene.RemoveNode(target)
    wait(host, lambda: panel.segment.job.over)
    host.process(0.1)
    assert panel.segment.message.text.startswith("Short-lived: is no longer in the scene")
    assert [node.GetName() for node in nodes("vtkMRMLSegmentationNode")] == ["Marked segmentation"]


def test_a_marked_scan_deleted_meanwhile_does_not_matter(panel, host):
    import slicer

    support = add_case()
    choose(panel, host, support, add_scan("New", (3, -2, 2))[0])
    panel.ui.applyButton.click()
    wait(host, lambda: panel.segment.job.fraction > 0.15 or panel.segment.job.over)
    for node in support:
        slicer.mrmlScene.RemoveNode(node)
    wait(host, lambda: panel.segment.job.over)
    host.process(0.1)
    assert panel.segment.job.state == "done", panel.segment.job.sentence


def test_closing_the_scene_drops_what_runs_without_a_word(panel, host):
    choose(panel, host, add_case(), add_scan("New", (3, -2, 2))[0])
    panel.ui.applyButton.click()
    job = panel.segment.job
    wait(host, lambda: job.fraction > 0.1)
    host.close_scene()
    assert panel.segment.message.kind is None
    assert panel.ui.applyButton.text == "Apply" and not panel.ui.segmentProgress.visible
    wait(host, lambda: not panel.session.jobs, 10)
    assert job.state == "cancelled" and not nodes("vtkMRMLSegmentationNode")
    choose(panel, host, add_case(), add_scan("New", (3, -2, 2))[0])
    assert apply(panel, host).state == "done"


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_worker_that_is_killed_is_told_and_comes_back_by_itself(panel, host):
    choose(panel, host, add_case(), add_scan("New", (3, -2, 2))[0])
    panel.ui.applyButton.click()
    wait(host, lambda: panel.segment.job.fraction > 0.15 and panel.session.pid is not None)
    os.kill(panel.session.pid, signal.SIGKILL)
    wait(host, lambda: panel.segment.job.over, 20)
    host.process(0.1)
    assert panel.segment.message.kind == "error" and is_one_sentence(panel.segment.message.text)
    assert panel.ui.applyButton.enabled
    assert apply(panel, host).state == "done", panel.segment.message.text


def test_a_folder_that_cannot_be_written_is_named(panel, host, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "a file").write_text("x")
    choose(panel, host, add_case(), None)
    panel.parameters.targets_in_folder = True
    panel.parameters.input_folder = str(tmp_path / "scans")
    panel.parameters.output_folder = str(tmp_path / "a file")
    host.process(0.1)
    assert apply(panel, host).state == "failed"
    assert is_one_sentence(panel.segment.message.text)


def test_a_folder_for_temporary_files_that_cannot_be_written_is_named(panel, host, tmp_path):
    import slicer

    (tmp_path / "a file").write_text("x")
    choose(panel, host, add_case("Fresh"), add_scan("New", (3, -2, 2))[0])
    usual = slicer.app.temporaryPath
    slicer.app.temporaryPath = str(tmp_path / "a file" / "temporary")
    try:
        assert apply(panel, host).state == "failed"
    finally:
        slicer.app.temporaryPath = usual
    assert "temporary" in panel.segment.message.text and is_one_sentence(panel.segment.message.text)
    assert apply(panel, host).state == "done"


def test_results_do_not_go_among_the_scans(panel, host, tmp_path):
    choose(panel, host, add_case(), None)
    panel.parameters.targets_in_folder = True
    panel.parameters.input_folder = panel.parameters.output_folder = str(tmp_path)
    host.process(0.1)
    panel.ui.applyButton.click()
    assert "folder of their own" in panel.segment.message.text


def test_no_temporary_file_is_left_behind(panel, host):
    import slicer

    choose(panel, host, add_case(), add_scan("New", (3, -2, 2))[0])
    apply(panel, host)
    panel.session.support_files.forget()
    left = [name for name in os.listdir(slicer.app.temporaryPath) if name.startswith("sslfewshot-job")]
    assert not left


def test_reloading_the_module_ends_its_worker_and_the_panel_works_again(panel, host):
    import slicer

    choose(panel, host, add_case(), add_scan("New", (3, -2, 2))[0])
    panel.ui.applyButton.click()
    wait(host, lambda: panel.session.pid is not None)
    pid = panel.session.pid
    slicer.modules.SSLFewShotWidget.onReload()
    host.process(0.1)
    renewed = slicer.modules.SSLFewShotWidget.panel
    assert renewed is not panel and type(renewed) is not type(panel)
    assert wait_for_end(pid)
    renewed.parameters.model = "gvdiff"
    assert renewed.parameters.target_volume.GetName() == "New"
    assert apply(renewed, host).state == "done", renewed.segment.message.text


def test_quitting_ends_the_worker_and_leaves_no_files(host):
    import slicer

    widget = slicer.modules.SSLFewShotWidget
    widget.enter()
    panel = widget.panel
    choose(panel, host, add_case(), add_scan("New", (3, -2, 2))[0])
    panel.ui.applyButton.click()
    wait(host, lambda: panel.segment.job.fraction > 0.15 and panel.session.pid is not None)
    pid = panel.session.pid
    host.close_module("SSLFewShot")
    assert wait_for_end(pid)
    assert not [name for name in os.listdir(slicer.app.temporaryPath) if name.startswith("sslfewshot-job")]


def wait_for_end(pid):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
