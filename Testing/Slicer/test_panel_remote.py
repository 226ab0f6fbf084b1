"""A worker behind a command that shares no files with Slicer: all goes over the one stream, in the background."""

import os
import stat
import sys

import pytest

from panel_scene import (
    add_case,
    add_scan,
    apply,
    choose,
    dice,
    mask_of,
    needs_worker,
    nodes,
    remove_trainings,
    start_training,
    wait,
)

pytestmark = [needs_worker, pytest.mark.skipif(os.name == "nt", reason="the command is a shell script")]


@pytest.fixture
def elsewhere(panel, host, tmp_path):
    """A command whose worker is told another name for the probe file, so that it finds no common disk."""
    python = os.environ.get("SSLFEWSHOT_WORKER_PYTHON", sys.executable)
    script = tmp_path / "far away"
    script.write_text(
        "#!/bin/sh\n"
        f"""sed -u 's/"probe": *{{"path": *"[^"]*"/"probe":{{"path":"\\/no such file"/' | """
        f"exec '{python}' -u -m SSLFewShotLib.worker\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    panel.ui.workerPlaceSelector.currentIndex = 1
    panel.ui.workerCommandEdit.text = f'"{script}"'
    panel.ui.workerCommandEdit.editingFinished.emit()
    wait(host, lambda: panel.session.info is not None)
    assert panel.session.info["shares_disk"] is False
    yield
    panel.ui.workerPlaceSelector.currentIndex = 0
    panel.session.end_worker()


def test_scans_travel_to_the_worker_and_results_back(panel, host, elsewhere):
    target, masks = add_scan("New", (3, -2, 2))
    choose(panel, host, add_case(), target)
    host.reset_block()
    job = apply(panel, host)
    assert job.state == "done", job.sentence
    assert dice(mask_of(nodes("vtkMRMLSegmentationNode")[-1], "Bone", target), masks["Bone"]) > 0.7


def test_models_maps_and_boxes_travel_too(panel, host, elsewhere, tmp_path):
    from SlicerHost import dialogs

    support, (target, _) = add_case(), add_scan("New", (3, -2, 2))
    choose(panel, host, support, target)
    panel.parameters.inspected_volume = target
    host.process(0.1)
    panel.ui.evaluateSection.collapsed = panel.ui.insideGroup.collapsed = False
    wait(host, lambda: panel.ui.coloursButton.enabled)
    panel.ui.coloursButton.click()
    wait(host, lambda: panel.evaluate.job.over)
    assert panel.evaluate.job.state == "done", panel.evaluate.job.sentence
    assert len(nodes("vtkMRMLVectorVolumeNode")) == 1
    panel.ui.localiseSection.collapsed = False
    panel.ui.localiseButton.click()
    wait(host, lambda: panel.localise.job.over, 120)
    assert panel.localise.job.state == "done", panel.localise.job.sentence
    assert len(nodes("vtkMRMLMarkupsROINode")) == 1
    wait(host, lambda: panel.models.cards, 20)
    panel.ui.modelTable.setCurrentCell(0, 0)
    archive = tmp_path / "from there.zip"
    dialogs.answer(str(archive))
    panel.ui.exportModelButton.click()
    wait(host, lambda: panel.models.message.kind is not None)
    assert panel.models.message.kind == "success" and archive.is_file(), panel.models.message.text
    dialogs.answer(str(archive))
    panel.models.message.clear()
    panel.ui.importModelButton.click()
    wait(host, lambda: panel.models.message.kind is not None)
    assert panel.models.message.text.startswith(f"{archive}: its name"), panel.models.message.text
    for section in (panel.ui.evaluateSection, panel.ui.localiseSection):
        section.collapsed = True


def test_files_are_cropped_there_and_come_back(panel, host, elsewhere, tmp_path):
    import slicer

    volume, _ = add_scan("New", (3, -2, 2))
    scan = tmp_path / "scan.nrrd"
    slicer.util.exportNode(volume, str(scan), {})
    box = {"centre": [0.0, 0.0, 0.0], "size": [1e3] * 3}
    asked = {"targets": [str(scan)], "boxes": [box], "output": str(tmp_path / "cropped")}
    call = panel.session.request("crop", asked)
    wait(host, call.done)
    (entry,) = call.result()["targets"]
    assert entry["image"] == "scan.nrrd" and (tmp_path / "cropped" / entry["cropped"]).is_file()


def test_a_training_there_takes_its_scans_and_puts_its_model_there(panel, host, elsewhere, tmp_path):
    import slicer

    scans = tmp_path / "scans"
    scans.mkdir()
    for number in range(3):
        volume, _ = add_scan(f"scan {number}", (number, 0, 0))
        slicer.util.exportNode(volume, str(scans / f"scan_{number}.nrrd"), {})
    panel.ui.pretrainSection.collapsed = False
    start_training(panel, host, tmp_path / "only there", "there", 3)
    wait(host, lambda: panel.pretrain.message.kind is not None)
    assert "only there: a folder of scans was expected" in panel.pretrain.message.text, "the worker has looked"
    panel.ui.pretrainFolderEdit.currentPath = str(scans)
    host.process(0.1)
    panel.ui.startPretrainButton.click()
    wait(host, lambda: (panel.pretrain.jobs.chosen or {}).get("state") == "done", 90)
    assert not panel.ui.openJobButton.enabled
    assert panel.pretrain.jobs.chosen["output"] == os.path.join(os.environ["SSLFEWSHOT_MODELS"], "there")
    wait(host, lambda: "there" in [card["name"] for card in panel.models.cards], 20)
    remove_trainings(panel, host)
    panel.ui.pretrainSection.collapsed = True


def test_cancel_reaches_the_other_machine(panel, host, elsewhere):
    choose(panel, host, add_case(), add_scan("New", (3, -2, 2))[0], model="xavier+gvdiff")
    panel.ui.applyButton.click()
    wait(host, lambda: panel.segment.job.fraction > 0.2 or panel.segment.job.over)
    assert not panel.segment.job.over
    panel.ui.applyButton.click()
    wait(host, lambda: panel.segment.job.over, 10)
    assert panel.segment.job.state == "cancelled"
    panel.parameters.model = "gvdiff"
    host.process(0.1)
    assert apply(panel, host).state == "done", panel.segment.message.text
