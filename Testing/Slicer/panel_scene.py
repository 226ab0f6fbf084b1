"""What tests of the panel need: the open panel over a real worker, small scans, and waiting."""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2] / "SSLFewShot"
sys.path.insert(0, str(ROOT))

# The worker gets the environment that the application was started with: before the host starts.
for variable in ("SSLFEWSHOT_JOBS", "SSLFEWSHOT_MODELS"):
    os.environ[variable] = tempfile.mkdtemp(prefix="sslfewshot-test-")

HAS_WORKER = bool(os.environ.get("SSLFEWSHOT_WORKER_PYTHON")) or importlib.util.find_spec("torch") is not None
needs_worker = pytest.mark.skipif(
    not HAS_WORKER, reason="SSLFEWSHOT_WORKER_PYTHON names no Python with torch and the library's packages"
)

COLOURS = {"Bone": (0.9, 0.8, 0.4), "Fat": (0.2, 0.6, 0.9)}
SPACING = 3.0
MOVED = (6, -4, 10)


@pytest.fixture(scope="module")
def unloaded(running):
    """The module is unloaded after the last test of a file, as when Slicer quits."""
    yield
    running.close_module("SSLFewShot")


@pytest.fixture
def panel(host, unloaded):
    """The module's panel, opened, with an empty scene and automatic choices; what runs is cancelled in the end."""
    import slicer

    settings = slicer.app.userSettings()
    for key in ("SSLFewShot/WorkerCommand", "SSLFewShot/Device"):
        settings.remove(key)
    if getattr(slicer.modules, "SSLFewShotWidget", None) is None:
        widget = host.open_module("SSLFewShot")
    else:
        widget = slicer.modules.SSLFewShotWidget
        widget.enter()
    panel = widget.panel
    panel.segment.message.clear()
    yield panel
    if widget.panel is panel:
        for job in list(panel.session.jobs):
            job.cancel()
        wait(host, lambda: not panel.session.jobs, 20)
        widget.exit()


def wait(host, condition, seconds=60):
    assert host.wait_until(condition, seconds), "it did not come to that in time"


def blobs(shift=(0, 0, 0)):
    """(K, J, I) of a body with a bone and a fat ball, and the two masks; shift: voxels along i, j, k."""
    k, j, i = np.indices((24, 40, 40))
    i, j, k = (axis - moved for axis, moved in zip((i, j, k), shift, strict=True))
    array = np.where((j - 20) ** 2 + (i - 20) ** 2 < 15**2, 40, -1000).astype(np.int16)
    masks = {}
    for name, (centre, value) in {"Bone": ((10, 14, 15), 700), "Fat": ((14, 26, 25), -150)}.items():
        inside = (k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2 < 25
        array[inside] = value
        masks[name] = inside
    return array, masks


def add_scan(name, shift=(0, 0, 0), origin=(0.0, 0.0, 0.0)):
    """A volume node of such a body, and its masks."""
    import slicer

    array, masks = blobs(shift)
    node = slicer.util.addVolumeFromArray(array, name=name)
    node.SetSpacing(SPACING, SPACING, SPACING)
    node.SetOrigin(*origin)
    node.CreateDefaultDisplayNodes()
    return node, masks


def add_segmentation(volume, masks, name):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for title, mask in masks.items():
        segment_id = node.GetSegmentation().AddEmptySegment("", title, COLOURS.get(title, (0.5, 0.5, 0.5)))
        if mask.any():
            slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segment_id, volume)
    return node


def add_case(name="Marked", shift=(0, 0, 0)):
    """A marked scan: (volume, segmentation)."""
    volume, masks = add_scan(name, shift)
    return volume, add_segmentation(volume, masks, f"{name} segmentation")


def segment_names(node):
    contents = node.GetSegmentation()
    return [contents.GetNthSegment(n).GetName() for n in range(contents.GetNumberOfSegments())]


def mask_of(node, name, volume):
    import slicer

    contents = node.GetSegmentation()
    segment_id = contents.GetSegmentIdBySegmentName(name)
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume) > 0


def dice(first, second):
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


def choose(panel, host, support, target, model="gvdiff"):
    """Make the choices as a user would have, and let the panel show them."""
    parameters = panel.parameters
    parameters.support_volume, parameters.support_segmentation = support
    parameters.target_volume = target
    parameters.model = model
    host.process(0.1)


@pytest.fixture
def case(panel, host):
    """A marked scan and one to segment, both chosen: (support, target, masks of the target)."""
    support = add_case("Marked")
    target, masks = add_scan("New", (3, -2, 2))
    choose(panel, host, support, target)
    return support, target, masks


def apply(panel, host, seconds=90):
    """Click Apply and wait for the end."""
    panel.ui.applyButton.click()
    assert panel.segment.job is not None, panel.segment.message.text
    wait(host, lambda: panel.segment.job.over, seconds)
    host.process(0.1)
    return panel.segment.job


def start_training(panel, host, folder, name, iterations, method="reg2d"):
    """Click Start in the section "Learn from my own scans"."""
    panel.ui.pretrainFolderEdit.currentPath = str(folder)
    panel.ui.pretrainNameEdit.text = name
    panel.parameters.pretrain_method = method
    panel.parameters.pretrain_unit = "iterations"
    panel.parameters.pretrain_amount = iterations
    host.process(0.1)
    panel.ui.startPretrainButton.click()


def remove_trainings(panel, host):
    """Remove all that are listed, as the user would: the files after this one share their folder."""
    import qt
    from SlicerHost import dialogs

    while panel.pretrain.jobs.trainings:
        count = len(panel.pretrain.jobs.trainings)
        dialogs.answer(qt.QMessageBox.Ok)
        panel.ui.removeJobButton.click()
        wait(host, lambda before=count: len(panel.pretrain.jobs.trainings) < before, 20)


def nodes(class_name):
    import slicer

    return list(slicer.util.getNodesByClass(class_name))
