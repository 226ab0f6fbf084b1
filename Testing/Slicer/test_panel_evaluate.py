"""The section "Compare and look inside": scores as a table, descriptors as colours, the same place elsewhere."""

import numpy as np
import pytest

from panel_scene import MOVED, add_case, add_scan, add_segmentation, choose, needs_worker, nodes, wait

pytestmark = needs_worker


def compare(panel, host, reference, compared):
    panel.parameters.reference_segmentation = reference
    panel.parameters.compared_segmentation = compared
    host.process(0.1)
    panel.ui.compareButton.click()
    wait(host, lambda: panel.evaluate.job is not None and panel.evaluate.job.over)
    host.process(0.1)


def test_scores_are_shown_and_put_into_a_table_node(panel, host):
    volume, masks = add_scan("Scan")
    truth = add_segmentation(volume, masks, "Truth")
    moved = {name: np.roll(mask, 1, axis=2) for name, mask in masks.items()}
    compare(panel, host, truth, add_segmentation(volume, {**moved, "Fat": masks["Fat"]}, "Mine"))
    assert panel.evaluate.message.kind == "success", panel.evaluate.message.text
    table = panel.ui.scoreTable
    assert [table.item(row, 0).text() for row in range(table.rowCount)] == ["Bone", "Fat"]
    expected = 2 * np.count_nonzero(masks["Bone"] & moved["Bone"]) / (2 * np.count_nonzero(masks["Bone"]))
    assert float(table.item(0, 1).text()) == pytest.approx(expected, abs=1e-3)
    assert float(table.item(0, 3).text()) == pytest.approx(3.0, abs=0.2)
    assert [table.item(1, column).text() for column in (1, 2, 3)] == ["1.000", "1.000", "0.0"]
    (node,) = nodes("vtkMRMLTableNode")
    assert node.GetNumberOfRows() == 2 and node.GetCellText(0, 0) == "Bone"
    assert float(node.GetCellText(0, 1)) == pytest.approx(expected, abs=1e-3)


def test_a_structure_that_the_reference_lacks_is_shown_as_not_measured(panel, host):
    volume, masks = add_scan("Scan")
    truth = add_segmentation(volume, {**masks, "Bone": np.zeros_like(masks["Bone"])}, "Truth")
    compare(panel, host, truth, add_segmentation(volume, masks, "Mine"))
    assert panel.ui.scoreTable.item(0, 1).text() == "–"


def test_a_segmentation_is_not_compared_with_itself(panel, host):
    _, segmentation = add_case()
    compare(panel, host, segmentation, segmentation)
    assert "the same segmentation" in panel.evaluate.message.text


def test_segmentations_without_a_common_name_are_told(panel, host):
    volume, masks = add_scan("Scan")
    truth = add_segmentation(volume, masks, "Truth")
    compare(panel, host, truth, add_segmentation(volume, {"Other": masks["Bone"]}, "Mine"))
    assert panel.evaluate.message.kind == "error"
    assert (
        "Mine" in panel.evaluate.message.text and "no segment is called as in Truth" in panel.evaluate.message.text
    )


def test_the_models_view_is_laid_over_the_scan_as_colours(panel, host):
    volume, _ = add_scan("Scan")
    panel.parameters.inspected_volume = volume
    panel.parameters.model = "gvdiff"
    host.process(0.1)
    panel.ui.coloursButton.click()
    wait(host, lambda: panel.evaluate.job.over)
    host.process(0.1)
    assert panel.evaluate.job.state == "done", panel.evaluate.job.sentence
    (node,) = nodes("vtkMRMLVectorVolumeNode")
    assert node.GetImageData().GetNumberOfScalarComponents() == 3
    ours, theirs = np.zeros(6), np.zeros(6)
    node.GetRASBounds(ours)
    volume.GetRASBounds(theirs)
    assert np.allclose(ours, theirs, atol=3.0)
    assert all(view.GetForegroundVolumeID() == node.GetID() for view in nodes("vtkMRMLSliceCompositeNode"))


def test_the_same_place_is_found_in_the_other_scan(panel, host):
    import slicer

    support = add_case()
    other, _ = add_scan("Moved", (0, 0, 0))
    other.SetOrigin(*(3.0 * n for n in MOVED))
    choose(panel, host, support, other)
    panel.parameters.inspected_volume = other
    host.process(0.1)
    panel.ui.similarButton.click()
    (place,) = nodes("vtkMRMLMarkupsFiducialNode")
    place.AddControlPoint([15 * 3.0, 14 * 3.0, 10 * 3.0])
    wait(host, lambda: panel.evaluate.job is not None and panel.evaluate.job.over)
    host.process(0.1)
    assert panel.evaluate.job.state == "done", panel.evaluate.job.sentence
    found = np.array(panel.evaluate.job.result.position)
    assert np.linalg.norm(found - 3.0 * (np.array([15, 14, 10]) + MOVED)) < 2.0
    assert slicer.mrmlScene.GetNodeByID(panel.evaluate.job.result.volume_id) is not None
    assert not nodes("vtkMRMLMarkupsFiducialNode") and not panel.ui.similarButton.checked
