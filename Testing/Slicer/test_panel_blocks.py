"""How long the application is kept waiting while a real scan is segmented: under a tenth of a second."""

import os
from pathlib import Path

import numpy as np
import pytest

from panel_scene import apply, choose, needs_worker, panel, unloaded

pytestmark = [
    needs_worker,
    pytest.mark.realdata,
    pytest.mark.skipif("SSLFEWSHOT_DATA" not in os.environ, reason="SSLFEWSHOT_DATA names no folder of scans"),
]
__all__ = ["panel", "unloaded"]
LONGEST_MS = 100


def add_real(number, marked, repeats=1):
    """A real CT, made finer `repeats` times along each axis, and its labels as Slicer imports them."""
    import SimpleITK
    import slicer

    folder = Path(os.environ["SSLFEWSHOT_DATA"]) / "head-neck-ct" / "labelled"

    def read(kind):
        image = SimpleITK.ReadImage(str(folder / f"pt_{number}_{kind}.nii.gz"))
        return SimpleITK.GetArrayFromImage(image), image.GetSpacing()

    array, spacing = read("ct")
    node = slicer.util.addVolumeFromArray(_finer(array, repeats), name=f"CT {number}")
    node.SetSpacing(*(n / repeats for n in spacing))
    node.CreateDefaultDisplayNodes()
    if not marked:
        return node
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    slicer.util.updateVolumeFromArray(labels, _finer(read("seg")[0].astype(np.uint8), repeats))
    labels.CopyOrientation(node)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"CT {number} marked")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(node)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, segmentation)
    slicer.mrmlScene.RemoveNode(labels)
    return node, segmentation


def _finer(array, repeats):
    for axis in range(3):
        array = np.repeat(array, repeats, axis=axis)
    return array


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [1, 4], ids=["110 × 63 × 104 voxels", "440 × 252 × 416 voxels"])
def test_the_application_is_never_kept_waiting_for_long(panel, host, repeats):
    choose(panel, host, add_real("013", True, repeats), add_real("004", False, repeats))
    # What else the machine does can keep anything waiting; a block of the panel's own comes every time.
    blocks = []
    while len(blocks) < 3 and min(blocks, default=LONGEST_MS) >= LONGEST_MS:
        panel.session.support_files.forget()
        host.process(1)
        host.reset_block()
        job = apply(panel, host, 300)
        blocks.append(host.longest_block())
        assert job.state == "done", job.sentence
        panel.ui.undoButton.click()
        host.process(0.5)
    print("longest blocks:", ", ".join(f"{block:.0f} ms" for block in blocks))
    assert min(blocks) < LONGEST_MS
