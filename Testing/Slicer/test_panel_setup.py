"""The section Setup: what is missing, installing it, where to compute."""

import sys
from types import SimpleNamespace

import pytest

from panel_scene import add_case, add_scan, choose, needs_worker, wait


def package(name, installed=""):
    return SimpleNamespace(name=name, title=name, requirement=f"{name}>=1", installed=installed)


@pytest.fixture
def packages(panel, monkeypatch):
    """What is installed, as the test says; `failure` is raised by installing."""
    from SSLFewShotSlicer import setup_section

    found = SimpleNamespace(there=[package("PyTorch"), package("scipy", "1.17")], failure=None, asked=0)

    def install(log):
        found.asked += 1
        log("Collecting PyTorch")
        if found.failure is not None:
            raise found.failure
        found.there = [package(known.name, "9.9") for known in found.there]
        return True

    monkeypatch.setattr(setup_section.packages, "status", lambda: found.there)
    monkeypatch.setattr(setup_section.packages, "install", install)
    panel.setup.check(again=True)
    yield found
    monkeypatch.undo()
    panel.setup.check(again=True)
    panel.setup.message.clear()


def test_what_is_missing_is_the_first_thing_that_the_panel_says(panel, host, packages):
    assert "click <i>Install what is missing</i>" in panel.ui.guideText.text
    assert "<b>1&nbsp;Install</b>" in panel.ui.guideSteps.text
    assert not panel.ui.setupSection.collapsed and panel.ui.installButton.visible
    assert "PyTorch" in panel.ui.packagesLabel.text and "missing" in panel.ui.packagesLabel.text


def test_nothing_that_needs_the_packages_can_be_clicked_before_they_are_there(panel, host, packages):
    volume, segmentation = add_case()
    choose(panel, host, (volume, segmentation), add_scan("New")[0])
    panel.parameters.reference_segmentation = segmentation
    panel.parameters.compared_segmentation = add_case("Other")[1]
    panel.parameters.inspected_volume = volume
    panel.parameters.pretrain_folder = "/scans"
    host.process(0.1)
    ui = panel.ui
    buttons = [ui.applyButton, ui.compareButton, ui.coloursButton, ui.similarButton, ui.fittingModelButton]
    buttons += [ui.importModelButton, ui.refreshModelsButton, ui.startPretrainButton, ui.refreshDevicesButton]
    buttons += [ui.restartWorkerButton, ui.localiseButton]
    for button in buttons:
        assert not button.enabled and button.toolTip == "Install what is missing first, in Setup", button.name
    assert not panel.session.jobs, "nothing was asked of the background process"
    ui.installButton.click()
    host.process(0.1)
    for button in buttons:
        assert button.enabled and "Install" not in button.toolTip, button.name


def test_what_was_said_of_this_computer_goes_when_another_one_is_to_compute(panel, host, packages):
    from SSLFewShotSlicer.packages import PackagesError

    packages.failure = PackagesError("Nothing was installed")
    panel.ui.installButton.click()
    assert panel.setup.message.kind == "error"
    panel.ui.workerPlaceSelector.currentIndex = 1
    panel.ui.workerCommandEdit.text = "no-such-program-anywhere worker"
    panel.ui.workerCommandEdit.editingFinished.emit()
    assert "Nothing was installed" not in panel.setup.message.text
    wait(host, lambda: panel.setup.message.kind == "error", 20)
    panel.ui.workerPlaceSelector.currentIndex = 0


def test_installing_makes_the_panel_ready(panel, host, packages):
    panel.ui.installButton.click()
    assert packages.asked == 1
    assert "✓&nbsp;Install" in panel.ui.guideSteps.text
    assert not panel.ui.installButton.visible
    assert panel.setup.message.kind == "success"
    assert "Collecting PyTorch" in panel.ui.setupLog.toPlainText()


@pytest.mark.parametrize(
    "sentence",
    [
        "PyTorch could not be downloaded: this computer is offline, or a proxy is in the way",
        "PyTorch was not installed. Segmenting needs it: click Install again when you are ready",
        "scipy could not be installed: the disk is full; free some space and try again",
    ],
)
def test_what_keeps_it_from_being_installed_is_said_in_the_panel(panel, host, packages, sentence):
    from SSLFewShotSlicer.packages import PackagesError

    packages.failure = PackagesError(sentence)
    panel.ui.installButton.click()
    assert panel.setup.message.kind == "error" and panel.setup.message.text == sentence
    assert panel.ui.installButton.visible and panel.ui.installButton.enabled
    assert not panel.ui.installProgress.visible


def test_a_python_that_cannot_be_asked_is_told(panel, host, monkeypatch):
    from SSLFewShotSlicer import setup_section
    from SSLFewShotSlicer.packages import PackagesError

    def fail():
        raise PackagesError("/nowhere/python: this Python cannot be started")

    monkeypatch.setattr(setup_section.packages, "status", fail)
    panel.setup.check(again=True)
    assert panel.setup.message.text.startswith("/nowhere/python")
    monkeypatch.undo()
    panel.setup.check(again=True)
    panel.setup.message.clear()


@needs_worker
def test_devices_are_asked_with_their_free_memory(panel, host):
    panel.setup.ask_devices()
    assert "starting" in panel.ui.workerStatusLabel.text
    wait(host, lambda: panel.ui.deviceSelector.count > 1)
    assert "GB free" in panel.ui.deviceSelector.itemText(1)
    assert "running" in panel.ui.workerStatusLabel.text and "PyTorch" in panel.ui.workerStatusLabel.text
    assert panel.ui.restartWorkerButton.text == "Restart"


@needs_worker
def test_the_chosen_device_is_kept_for_the_computer_not_for_the_scene(panel, host):
    panel.setup.ask_devices()
    wait(host, lambda: panel.ui.deviceSelector.count > 1)
    panel.ui.deviceSelector.currentIndex = 1
    assert panel.device() == "cpu"
    host.close_scene()
    assert panel.device() == "cpu"


@needs_worker
def test_restarting_gives_another_process(panel, host):
    panel.setup.ask_devices()
    wait(host, lambda: panel.session.pid is not None and panel.session.info is not None)
    first = panel.session.pid
    panel.ui.restartWorkerButton.click()
    wait(host, lambda: panel.session.info is not None and panel.session.pid not in (None, first))


@needs_worker
def test_a_command_starts_the_worker_elsewhere(panel, host, tmp_path):
    import os

    python = os.environ.get("SSLFEWSHOT_WORKER_PYTHON", sys.executable)
    panel.ui.workerPlaceSelector.currentIndex = 1
    assert panel.ui.workerCommandEdit.visible
    panel.ui.workerCommandEdit.text = f'"{python}" -u -m SSLFewShotLib.worker'
    panel.ui.workerCommandEdit.editingFinished.emit()
    wait(host, lambda: panel.session.info is not None)
    assert "Another machine computes" in panel.ui.packagesLabel.text
    panel.ui.workerPlaceSelector.currentIndex = 0
    assert not panel.ui.workerCommandEdit.visible
    panel.session.end_worker()


@pytest.mark.parametrize("command", ["no-such-program-anywhere worker", '"unfinished quote'])
def test_a_command_that_cannot_be_started_is_told(panel, host, command):
    panel.ui.workerPlaceSelector.currentIndex = 1
    panel.ui.workerCommandEdit.text = command
    panel.ui.workerCommandEdit.editingFinished.emit()
    wait(host, lambda: panel.setup.message.kind == "error", 20)
    assert "Traceback" not in panel.setup.message.text
    assert command.split()[0].strip('"') in panel.setup.message.text
    panel.ui.workerPlaceSelector.currentIndex = 0
    panel.setup.message.clear()


def test_no_command_is_ever_taken_from_a_scene(panel, host):
    saved = panel.parameters.parameterNode.GetParameterNames()
    assert not [name for name in saved if "command" in name.lower() or "device" in name.lower()]
