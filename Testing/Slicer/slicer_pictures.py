"""Run in a real Slicer: its window before and after a real CT is segmented, with what is unsure, and with boxes.

Slicer --additional-module-paths SSLFewShot --python-script Testing/Slicer/slicer_pictures.py FOLDER
Needs SSLFEWSHOT_DATA, and the worker's packages or SSLFEWSHOT_WORKER_PYTHON.
"""

import sys
import time
import traceback
from pathlib import Path

import slicer

sys.path.insert(0, str(Path(__file__).resolve().parent))

MARKED, TARGET = "013", "004"


def let_live(seconds):
    """Let Slicer show what has changed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.02)


def wait(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        let_live(0.1)
        if time.monotonic() > end:
            raise TimeoutError


def take(folder, name):
    let_live(1.5)
    slicer.util.mainWindow().grab().save(str(folder / f"{name}.png"))


def look_at(segmentation):
    """Slices through the cord, the parotids and the mandible; the surfaces from in front."""

    def centre(name):
        return segmentation.GetSegmentCenterRAS(segmentation.GetSegmentation().GetSegmentIdBySegmentName(name))

    right, left = centre("SpinalCord")[0], centre("LeftParotid")
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, right, left[1], left[2])


def main(folder):
    from real_scans import add_real

    folder.mkdir(parents=True, exist_ok=True)
    slicer.util.mainWindow().resize(1600, 1100)
    manager = slicer.app.layoutManager()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    target = add_real(TARGET, False)
    add_real(MARKED, True)
    slicer.util.selectModule("SSLFewShot")
    let_live(2)
    panel = slicer.modules.SSLFewShotWidget.panel
    slicer.util.setSliceViewerLayers(background=target, fit=True)
    panel.parameters.support_segmentation.GetDisplayNode().SetVisibility(False)
    take(folder, "slicer-before")
    panel.ui.applyButton.click()
    wait(lambda: panel.segment.job.over)
    done = panel.segment.result.results[0].placed
    look_at(slicer.mrmlScene.GetNodeByID(done.segmentation_id))
    panel.ui.show3DCheck.checked = True
    wait(lambda: not panel.session.jobs)
    let_live(1)
    manager.threeDWidget(0).threeDView().resetFocalPoint()
    take(folder, "slicer-after")
    panel.ui.confidenceCheck.checked = True
    take(folder, "slicer-confidence")
    panel.ui.confidenceCheck.checked = False
    panel.ui.supportSection.collapsed = panel.ui.segmentSection.collapsed = True
    panel.ui.localiseSection.collapsed = False
    panel.ui.localiseButton.click()
    wait(lambda: panel.localise.job.over)
    look_at(slicer.mrmlScene.GetNodeByID(done.segmentation_id))
    take(folder, "slicer-box")
    panel.parameters.localise_each = True
    panel.ui.localiseButton.click()
    wait(lambda: panel.localise.job.over)
    look_at(slicer.mrmlScene.GetNodeByID(done.segmentation_id))
    take(folder, "slicer-boxes")


if __name__ == "__main__":
    code = 1
    try:
        main(Path(sys.argv[-1]))
        code = 0
    except BaseException:
        traceback.print_exc()
    slicer.util.exit(code)
