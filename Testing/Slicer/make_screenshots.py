"""Pictures of the panel, section by section, light and dark, with real scans: make_screenshots.py FOLDER.

Needs SSLFEWSHOT_DATA (the scans), SSLFEWSHOT_WORKER_PYTHON and what the test host needs, see SlicerHost/README.md.
"""

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import panel_scene  # noqa: E402 - finds the module, and keeps models and trainings apart from the user's
from real_scans import add_real  # noqa: E402

SECTIONS = ("setup", "support", "segment", "localise", "evaluate", "model", "pretrain")


class Photographer:
    """Takes the pictures."""

    def __init__(self, folder, panel, host):
        self.folder, self.panel, self.host = Path(folder), panel, host
        self.folder.mkdir(parents=True, exist_ok=True)

    def show_only(self, *sections):
        for name in SECTIONS:
            getattr(self.panel.ui, f"{name}Section").collapsed = name not in sections
        self.host.process(0.2)

    def take(self, name, shown=None):
        from SlicerHost.pictures import screenshot

        shown = shown or self.panel.root.parent()
        self.host.process(0.2)
        for dark in (False, True):
            # The plot takes the colours of the palette that is there when it is drawn.
            path = self.folder / f"{name}-{'dark' if dark else 'light'}.png"
            screenshot(shown, path, dark=dark, width=480)
            print(path.name, flush=True)

    def wait(self, condition, seconds=400):
        if not self.host.wait_until(condition, seconds):
            raise TimeoutError


def main(folder):
    import SlicerHost as host  # noqa: N813

    host.start()
    import slicer
    from SlicerHost.pictures import slices

    widget = host.open_module("SSLFewShot")
    panel = widget.panel
    camera = Photographer(folder, panel, host)
    camera.take("panel-start")
    marked, segmentation = add_real("013", True)
    target, reference = add_real("004", True)
    reference.SetName("CT 004 by hand")
    reference.RemoveNodeReferenceIDs(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())
    reference.GetDisplayNode().SetVisibility(False)
    widget.enter()
    panel.setup.ask_devices()
    camera.wait(lambda: panel.ui.deviceSelector.count > 1)
    camera.show_only("setup")
    camera.take("setup")
    camera.show_only("support", "segment")
    camera.take("panel-ready")
    panel.ui.applyButton.click()
    camera.wait(lambda: panel.segment.job.fraction > 0.45)
    camera.take("panel-running")
    camera.wait(lambda: panel.segment.job.over)
    camera.take("panel-done")
    result = slicer.mrmlScene.GetNodeByID(panel.segment.result.results[0].placed.segmentation_id)
    slices(marked, segmentation, str(camera.folder / "slices-marked.png"), title="CT 013, marked by hand")
    slices(target, None, str(camera.folder / "slices-before.png"), title="CT 004, before Apply")
    slices(target, result, str(camera.folder / "slices-after.png"), title="CT 004, after Apply")
    slices(target, reference, str(camera.folder / "slices-by-hand.png"), title="CT 004, marked by hand")
    camera.show_only("localise")
    panel.ui.localiseButton.click()
    camera.wait(lambda: panel.localise.job.over)
    camera.take("localise")
    panel.ui.acceptButton.click()
    add_real("022", False)
    widget.enter()
    camera.show_only("support")
    camera.take("support")
    panel.parameters.reference_segmentation = reference
    panel.parameters.compared_segmentation = result
    panel.parameters.inspected_volume = target
    host.process(0.2)
    panel.ui.compareButton.click()
    camera.wait(lambda: panel.evaluate.job.over)
    panel.ui.insideGroup.collapsed = False
    camera.show_only("evaluate")
    camera.take("evaluate")
    camera.show_only("model")
    panel.models.load(choose="dense-head-neck-ct")
    camera.wait(lambda: panel.models.chosen is not None)
    camera.take("models")
    photograph_training(camera, panel)
    photograph_fault(camera, panel, marked)
    host.stop()


def photograph_training(camera, panel):
    """A training that has run for a while."""
    camera.show_only("pretrain")
    scans = Path(tempfile.gettempdir()) / "scans" / "hippocampus"
    scans.parent.mkdir(exist_ok=True)
    if not scans.exists():
        scans.symlink_to(Path(os.environ["SSLFEWSHOT_DATA"]) / "hippocampus-mr" / "unlabelled")
    panel.parameters.pretrain_folder = str(scans)
    panel.parameters.pretrain_name = "hippocampus"
    panel.parameters.pretrain_method = "reg2d"
    panel.parameters.pretrain_amount = 5
    camera.host.process(0.2)
    panel.ui.startPretrainButton.click()
    camera.wait(
        lambda: panel.pretrain.jobs.chosen is not None and panel.pretrain.jobs.chosen["fraction"] > 0.75, 900
    )
    camera.take("pretrain")
    panel.ui.pauseJobButton.click()
    camera.wait(lambda: panel.pretrain.jobs.chosen["state"] != "running")


def photograph_fault(camera, panel, marked):
    """What a fault looks like."""
    panel.parameters.target_volume = marked
    panel.pretrain.watch_trainings(False)
    camera.show_only("segment")
    camera.host.process(0.2)
    panel.ui.applyButton.click()
    camera.take("fault")


if __name__ == "__main__":
    main(sys.argv[1])
    print("done", panel_scene.HAS_WORKER)
    sys.stdout.flush()
    os._exit(0)
