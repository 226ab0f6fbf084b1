"""Pictures of the host show what is there: the panel in both palettes, segments where they are in the world."""

from pathlib import Path

import numpy as np
import pytest

TINY = Path(__file__).parent / "modules" / "TinySeg" / "TinySeg.py"


def pixels(path):
    from PySide6.QtGui import QImage

    image = QImage(str(path)).convertToFormat(QImage.Format_RGB888)
    rows = np.frombuffer(bytes(image.constBits()), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : image.width() * 3].reshape(image.height(), image.width(), 3)


def test_a_panel_is_pictured_light_and_dark_and_whole(host, tmp_path):
    widget = host.open_module(str(TINY))
    light = pixels(host.screenshot(widget, tmp_path / "light.png"))
    dark = pixels(host.screenshot(widget, tmp_path / "dark.png", dark=True))
    host.close_module("TinySeg")
    assert light.shape == dark.shape and light.shape[1] == 480
    assert light.mean() > 220 and dark.mean() < 80
    assert tuple(light[0, 0]) == (0xEF, 0xEF, 0xEF) and tuple(dark[0, 0]) == (0x32, 0x32, 0x32)


def test_colours_of_style_sheets_follow_the_palette(host, tmp_path):
    import qt

    frame = qt.QLabel("text")
    frame.styleSheet = "QLabel { background: palette(base); }"
    dark = pixels(host.screenshot(frame, tmp_path / "dark.png", dark=True))
    light = pixels(host.screenshot(frame, tmp_path / "light.png"))
    assert tuple(dark[1, 1]) == (0x1E, 0x1E, 0x1E) and tuple(light[1, 1]) == (0xFF, 0xFF, 0xFF)


def test_a_folded_section_takes_the_room_of_its_title_only(host, tmp_path):
    widget = host.open_module(str(TINY))
    opened = pixels(host.screenshot(widget, tmp_path / "open.png")).shape[0]
    assert widget.ui.volumeSelector.visible
    widget.ui.inputs.collapsed = True
    folded = pixels(host.screenshot(widget, tmp_path / "folded.png")).shape[0]
    assert not widget.ui.volumeSelector.visible
    widget.ui.inputs.collapsed = False
    assert widget.ui.volumeSelector.visible
    host.close_module("TinySeg")
    assert folded < opened / 3


def test_what_was_hidden_in_a_section_stays_hidden_when_it_unfolds(host):
    widget = host.open_module(str(TINY))
    widget.ui.invertCheckBox.hide()
    widget.ui.inputs.collapsed = True
    widget.ui.inputs.collapsed = False
    shown, hidden = widget.ui.volumeSelector.visible, widget.ui.invertCheckBox.visible
    host.close_module("TinySeg")
    assert shown and not hidden


def test_a_section_alone_is_pictured(host, tmp_path):
    widget = host.open_module(str(TINY))
    whole = pixels(host.screenshot(widget, tmp_path / "whole.png"))
    section = pixels(host.screenshot(widget.ui.inputs, tmp_path / "section.png"))
    host.close_module("TinySeg")
    assert section.shape[0] < whole.shape[0]


@pytest.mark.parametrize("transformed", [False, True])
def test_slices_show_a_segment_at_its_place_in_the_world(host, tmp_path, transformed):
    import slicer

    array = np.zeros((20, 20, 20))
    array[10, 10, 10] = 100
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix[:3, 3] = (10, 10, -10)
    volume = slicer.util.addVolumeFromArray(array, ijkToRAS=matrix)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment_id = segmentation.GetSegmentation().AddEmptySegment("dot", "dot", [1.0, 0.0, 0.0])
    mask = np.zeros(array.shape, np.uint8)
    mask[8:13, 8:13, 8:13] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment_id, volume)
    shift = np.eye(4)
    if transformed:
        shift[:3, 3] = (4, 0, 0)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        slicer.util.updateTransformMatrixFromArray(transform, shift)
        for node in (volume, segmentation):
            node.SetAndObserveTransformNodeID(transform.GetID())
    picture = pixels(host.slices(volume, segmentation, tmp_path / "s.png", centre=(0, 0, 0), size=201))
    axial = picture[22 : 22 + 201, :201].astype(int)
    red = np.argwhere((axial[..., 0] - axial[..., 1]) > 60)
    up, right = red.mean(axis=0)
    half = 14.0 if transformed else 10.0
    # Right of the patient is left in the picture: +4 mm R moves the dot to the left.
    assert right == pytest.approx(100 - shift[0, 3] / half * 100, abs=6)
    assert up == pytest.approx(100, abs=6)
