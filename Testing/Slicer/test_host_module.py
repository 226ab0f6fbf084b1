"""A module built as Slicer's wizard builds one runs in the host from opening to quitting."""

from pathlib import Path

import numpy as np
import pytest

TINY = Path(__file__).parent / "modules" / "TinySeg" / "TinySeg.py"


@pytest.fixture
def tiny(host):
    yield host.open_module(str(TINY))
    host.close_module("TinySeg")


def a_volume(slicer, name="Blob"):
    volume = slicer.util.addVolumeFromArray(np.arange(120.0).reshape(4, 5, 6), name=name)
    return volume


def test_the_panel_shows_the_parameter_node_and_writes_to_it(tiny, host):
    import slicer

    volume = a_volume(slicer)
    tiny.ui.volumeSelector.setCurrentNode(volume)
    assert tiny.parameters.volume is volume
    tiny.ui.thresholdSlider.value = 33
    assert tiny.parameters.threshold == 33
    tiny.parameters.invert = True
    assert tiny.ui.invertCheckBox.checked is True


def test_apply_runs_the_real_logic_on_real_nodes(tiny, host):
    import slicer

    volume = a_volume(slicer)
    tiny.ui.volumeSelector.setCurrentNode(volume)
    assert not tiny.ui.applyButton.enabled
    tiny.ui.segmentationSelector.addNode()
    assert tiny.ui.applyButton.enabled
    tiny.ui.thresholdSlider.value = 60
    tiny.ui.applyButton.click()
    segmentation = tiny.parameters.segmentation
    segment_id = segmentation.GetSegmentation().GetNthSegmentID(0)
    assert slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume).sum() == 60
    assert tiny.ui.segmentsTable.displayedSegmentIDs() == (segment_id,)


def test_closing_the_scene_leaves_an_empty_panel_that_still_works(tiny, host):
    import slicer

    tiny.ui.volumeSelector.setCurrentNode(a_volume(slicer))
    tiny.ui.thresholdSlider.value = 12
    host.close_scene()
    assert tiny.ui.volumeSelector.currentNode() is None
    assert tiny.parameters.volume is None and tiny.parameters.threshold == 100
    again = a_volume(slicer, "again")
    tiny.ui.volumeSelector.setCurrentNode(again)
    assert tiny.parameters.volume is again


def test_entering_leaving_and_unloading_reach_the_widget(host):
    import slicer

    widget = host.open_module(str(TINY))
    host.close_module("TinySeg")
    assert widget.events == ["enter", "exit", "cleanup"]
    assert not hasattr(slicer.modules, "TinySegWidget")


def test_reload_builds_a_new_widget_from_the_file_and_cleans_the_old_one_up(tiny, host):
    import slicer

    slicer.util.reloadScriptedModule("TinySeg")
    renewed = slicer.modules.TinySegWidget
    assert renewed is not tiny and tiny.events[-1] == "cleanup"
    renewed.ui.thresholdSlider.value = 7
    assert renewed.parameters.threshold == 7


def test_the_self_test_of_a_module_runs(tiny, host):
    import slicer

    slicer.selfTests["TinySeg"]()


def test_an_error_in_a_callback_is_shown_and_reaches_the_test(tiny, host, monkeypatch):
    import slicer
    from SlicerHost import dialogs, signals

    tiny.ui.volumeSelector.setCurrentNode(a_volume(slicer))
    tiny.ui.segmentationSelector.addNode()
    monkeypatch.setattr(tiny.logic, "process", lambda *_: 1 / 0)
    tiny.ui.applyButton.click()
    assert "Failed to compute results." in dialogs.asked[0][1]
    assert isinstance(signals.callback_errors.pop(), ZeroDivisionError)
