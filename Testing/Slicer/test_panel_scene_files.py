"""Scenes that are saved and loaded again: the choices come back with their nodes."""

from panel_scene import add_case, add_scan, choose


def save():
    """The scene as text; voxels are not part of it."""
    import slicer

    scene = slicer.mrmlScene
    scene.SetSaveToXMLString(1)
    scene.Commit()
    scene.SetSaveToXMLString(0)
    return scene.GetSceneXMLString()


def load(text):
    import slicer

    scene = slicer.mrmlScene
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(text)
    scene.Import()
    scene.SetLoadFromXMLString(0)


def chosen(panel):
    ui = panel.ui
    selectors = (ui.supportVolumeSelector, ui.supportSegmentationSelector, ui.targetVolumeSelector)
    return [selector.currentNode() and selector.currentNode().GetName() for selector in selectors]


def test_a_loaded_scene_brings_the_choices_back_that_were_saved_in_it(panel, host):
    choose(panel, host, add_case("Marked"), add_scan("New")[0], model="mind")
    saved = save()
    host.close_scene()
    host.process(0.1)
    assert chosen(panel) == [None, None, None] and panel.parameters.support_volume is None
    load(saved)
    host.process(0.1)
    assert panel.parameters.support_volume.GetName() == "Marked"
    assert chosen(panel) == ["Marked", "Marked segmentation", "New"]
    assert panel.parameters.model == "mind"


def test_loading_a_second_scene_leaves_widgets_tied_to_one_set_of_choices(panel, host):
    choose(panel, host, add_case("Marked"), add_scan("New")[0])
    saved = save()
    host.close_scene()
    for _ in range(2):
        load(saved)
        host.process(0.1)
    other, _masks = add_scan("Other")
    panel.ui.targetVolumeSelector.setCurrentNode(other)
    host.process(0.1)
    assert panel.parameters.target_volume is other
    panel.parameters.target_volume = None
    host.process(0.1)
    assert panel.ui.targetVolumeSelector.currentNode() is None


def test_choices_that_are_let_go_leave_no_observer_for_vtk_to_call(panel, host):
    import gc
    import weakref

    import slicer

    known = weakref.ref(panel.parameters)
    gc.collect()
    gc.disable()
    try:
        panel.set_parameters(None)
        # In a circle with an observer it would live on until Python collects it, and the observer after that.
        assert known() is None
    finally:
        gc.enable()
        slicer.modules.SSLFewShotWidget.initializeParameterNode()
    assert panel.parameters is not None
