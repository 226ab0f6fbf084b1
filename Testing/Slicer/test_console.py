"""What scripts call: waiting for results, or being called back."""

import numpy as np
import pytest

from panel_scene import (
    add_case,
    add_scan,
    add_segmentation,
    dice,
    mask_of,
    needs_worker,
    nodes,
    segment_names,
    wait,
)

pytestmark = needs_worker


@pytest.fixture
def logic(panel):
    from SSLFewShot import SSLFewShotLogic

    return SSLFewShotLogic()


def test_a_script_waits_for_the_segmentation(logic, host):
    support = add_case()
    target, masks = add_scan("New", (3, -2, 2))
    (result,) = logic.segment(support=[support], targets=[target], method="knn", model="gvdiff", wait=True)
    assert segment_names(result) == ["Bone", "Fat"]
    assert dice(mask_of(result, "Bone", target), masks["Bone"]) > 0.7


def test_nodes_may_be_given_by_their_ids(logic, host):
    volume, segmentation = add_case()
    target, _ = add_scan("New", (3, -2, 2))
    (result,) = logic.segment(
        [(volume.GetID(), segmentation.GetID())], [target.GetID()], model="gvdiff", segments=["Bone"]
    )
    assert segment_names(result) == ["Bone"]


def test_a_script_is_called_back_once_when_it_is_done(logic, host):
    told = []
    job = logic.segment(
        [add_case()], [add_scan("New", (3, -2, 2))[0]], model="gvdiff", wait=False, callback=told.append
    )
    assert not told and not job.over
    wait(host, lambda: job.over)
    host.process(0.2)
    assert told == [job] and job.state == "done"
    assert job.result[0].placed.segmentation_id == nodes("vtkMRMLSegmentationNode")[-1].GetID()


def test_an_error_is_raised_where_the_script_waits(logic, host):
    from SSLFewShotLib.errors import InputError

    volume, masks = add_scan("Alone")
    empty = add_segmentation(volume, {"Bone": np.zeros_like(masks["Bone"])}, "Nothing painted")
    with pytest.raises(InputError, match="Nothing painted"):
        logic.segment([(volume, empty)], [add_scan("New")[0]])
    with pytest.raises(InputError, match="no scan to segment"):
        logic.segment([(volume, empty)], [])
    with pytest.raises(InputError, match="no marked scan"):
        logic.segment([], [volume])


def test_an_unknown_model_is_told_with_those_there_are(logic, host):
    with pytest.raises(Exception, match="nonsense") as told:
        logic.segment([add_case()], [add_scan("New")[0]], model="nonsense")
    assert "Traceback" not in str(told.value)


def test_cancelling_raises_cancelled_where_it_is_waited_for(logic, host):
    from SSLFewShotLib.errors import Cancelled

    job = logic.segment([add_case()], [add_scan("New")[0]], model="gvdiff", wait=False)
    job.cancel()
    with pytest.raises(Cancelled):
        logic._finish(job, True, None, 20)


def test_two_jobs_at_once_both_end_well(logic, host):
    support = add_case()
    jobs = [
        logic.segment([support], [add_scan(f"New {n}", (n, -2, 2))[0]], model="gvdiff", wait=False)
        for n in range(2)
    ]
    wait(host, lambda: all(job.over for job in jobs))
    assert [job.state for job in jobs] == ["done", "done"], [job.sentence for job in jobs]


def test_segmentations_are_compared(logic, host):
    volume, masks = add_scan("Scan")
    rows = logic.evaluate(add_segmentation(volume, masks, "Truth"), add_segmentation(volume, masks, "Same"))
    assert rows == [{"name": name, "dice": 1.0, "nsd": 1.0, "hd95": 0.0} for name in ("Bone", "Fat")]


def test_a_whole_folder_is_segmented_and_gone_on_with(logic, host, tmp_path):
    import slicer

    scans, results = tmp_path / "scans", tmp_path / "results"
    scans.mkdir()
    for number in range(2):
        volume, _ = add_scan(f"scan {number}", (number, 0, 0))
        slicer.util.exportNode(volume, str(scans / f"scan_{number}.nrrd"), {})
    support = add_case()
    report = logic.segmentFolder([support], scans, results, model="gvdiff")
    assert sorted(entry["image"] for entry in report["targets"]) == ["scan_0.nrrd", "scan_1.nrrd"]
    before = {path: path.stat().st_mtime_ns for path in results.glob("*_seg*")}
    assert len(before) == 2
    logic.segmentFolder([support], scans, results, model="gvdiff")
    assert {path: path.stat().st_mtime_ns for path in results.glob("*_seg*")} == before


def test_a_folder_that_is_not_there_is_told(logic, host, tmp_path):
    from SSLFewShotLib.errors import InputError

    with pytest.raises(InputError, match="is not a folder"):
        logic.segmentFolder([add_case()], tmp_path / "none", tmp_path / "results")


def test_models_and_trainings_are_listed(logic, host):
    assert "heatmap-head-neck-ct" in [card["name"] for card in logic.models()]
    assert logic.trainings() == []


def test_a_training_needs_minutes_or_iterations(logic, host, tmp_path):
    from SSLFewShotLib.errors import InputError

    with pytest.raises(InputError, match="minutes or iterations"):
        logic.pretrain(tmp_path, tmp_path / "model")
