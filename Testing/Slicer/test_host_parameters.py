"""Typed parameter nodes, with Slicer's own parameterNodeWrapper or with the host's, whichever runs.

SSLFEWSHOT_SLICER_PYTHON decides; the tests are the same, so that the host's cannot differ where they look.
"""

import enum
import pathlib
import typing
from typing import Annotated

import pytest


class Method(enum.Enum):
    AUTOMATIC = 1
    KNN = 2


@pytest.fixture
def made(slicer):
    """A class with one parameter of each kind, over a new node."""
    from slicer.parameterNodeWrapper import Choice, Default, Minimum, WithinRange, parameterNodeWrapper

    class Parameters:
        count: int
        share: Annotated[float, WithinRange(0, 1)] = 0.25
        name: str
        on: Annotated[bool, Default(True)]
        method: Method = Method.KNN
        unit: Annotated[str, Choice(["minutes", "iterations"]), Default("minutes")]
        folder: pathlib.Path
        volume: slicer.vtkMRMLScalarVolumeNode
        either: typing.Union[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode, None]  # noqa: UP007
        names: list[str]
        volumes: list[slicer.vtkMRMLScalarVolumeNode]
        least: Annotated[int, Minimum(3), Default(5)]

    Parameters.__annotations__ = {
        name: eval(hint, {**globals(), **locals()}) if isinstance(hint, str) else hint
        for name, hint in Parameters.__annotations__.items()
    }
    wrapped = parameterNodeWrapper(Parameters)
    return wrapped(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))


def a_volume(slicer, name="volume"):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def test_parameters_begin_with_their_defaults(made):
    assert (made.count, made.share, made.name, made.on) == (0, 0.25, "", True)
    assert (made.method, made.unit, made.least) == (Method.KNN, "minutes", 5)
    assert made.volume is None and made.either is None
    assert list(made.names) == [] and made.folder == pathlib.Path()


def test_values_come_back_with_their_type(made, slicer):
    made.count, made.share, made.name, made.on = 3, 0.5, "ä b", False
    made.method, made.folder = Method.AUTOMATIC, pathlib.Path("/ein ordner/ü")
    made.volume = a_volume(slicer)
    assert (made.count, made.share, made.name, made.on) == (3, 0.5, "ä b", False)
    assert made.method is Method.AUTOMATIC and made.folder == pathlib.Path("/ein ordner/ü")
    assert made.volume.GetName() == "volume"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", "three"),
        ("count", None),
        ("share", 1.5),
        ("unit", "hours"),
        ("least", 2),
        ("name", 5),
        ("folder", "x"),
    ],
)
def test_a_value_of_wrong_type_or_beyond_its_limits_is_refused(made, name, value):
    before = getattr(made, name)
    with pytest.raises((ValueError, TypeError)):
        setattr(made, name, value)
    assert getattr(made, name) == before


def test_lists_are_written_whole_and_in_place(made, slicer):
    made.names = ["liver", "spleen", "ä"]
    made.names.append("aorta")
    assert list(made.names) == ["liver", "spleen", "ä", "aorta"]
    made.names = ["liver"]
    assert list(made.names) == ["liver"]
    first, second = a_volume(slicer, "1"), a_volume(slicer, "2")
    made.volumes = [first, second]
    assert list(made.volumes) == [first, second]


def test_a_removed_node_reads_as_none(made, slicer):
    volume = a_volume(slicer)
    made.volume = volume
    made.either = volume
    slicer.mrmlScene.RemoveNode(volume)
    assert made.volume is None and made.either is None


def test_a_second_wrapper_of_the_node_reads_the_same(made):
    made.count = 8
    made.names = ["a"]
    again = type(made)(made.parameterNode)
    assert again.count == 8 and list(again.names) == ["a"]


def test_changes_are_told_to_observers(made):
    import vtk

    seen = []
    tag = made.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: seen.append(event))
    made.count = 4
    made.RemoveObserver(tag)
    made.count = 5
    assert seen == ["ModifiedEvent"]


def widgets(slicer):
    """One widget for each parameter that has one."""
    import ctk
    import qt

    return {
        "count": qt.QSpinBox(),
        "share": ctk.ctkSliderWidget(),
        "name": qt.QLineEdit(),
        "on": qt.QCheckBox(),
        "method": qt.QComboBox(),
        "unit": qt.QComboBox(),
        "folder": ctk.ctkPathLineEdit(),
        "volume": slicer.qMRMLNodeComboBox(),
        "least": ctk.ctkDoubleSpinBox(),
    }


def test_widgets_show_the_values_and_set_them(made, slicer):
    shown = widgets(slicer)
    shown["volume"].setMRMLScene(slicer.mrmlScene)
    shown["volume"].noneEnabled = True
    volume = a_volume(slicer)
    tag = made.connectParametersToGui(shown)
    assert shown["share"].value == 0.25 and shown["method"].currentText == "KNN"
    assert shown["unit"].count == 2 and shown["least"].value == 5
    shown["count"].value = 6
    shown["share"].value = 0.5
    shown["name"].text = "typed"
    shown["on"].checked = False
    shown["method"].currentIndex = 0
    shown["unit"].currentText = "iterations"
    shown["folder"].currentPath = "/typed"
    shown["volume"].setCurrentNode(volume)
    shown["least"].value = 9
    assert (made.count, made.share, made.name, made.on) == (6, 0.5, "typed", False)
    assert (made.method, made.unit, made.folder) == (Method.AUTOMATIC, "iterations", pathlib.Path("/typed"))
    assert made.volume is volume and made.least == 9 and isinstance(made.least, int)
    made.disconnectGui(tag)
    shown["count"].value = 1
    assert made.count == 6


def test_a_value_set_in_python_reaches_the_widgets(made, slicer):
    shown = widgets(slicer)
    tag = made.connectParametersToGui(shown)
    made.count, made.name, made.method = 7, "set", Method.AUTOMATIC
    assert shown["count"].value == 7 and shown["name"].text == "set" and shown["method"].currentIndex == 0
    made.disconnectGui(tag)


def test_a_node_set_in_python_is_shown_at_once(made, slicer):
    first, second = a_volume(slicer), a_volume(slicer)
    selector = widgets(slicer)["volume"]
    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    tag = made.connectParametersToGui({"volume": selector})
    for node in (first, second, None, second):
        made.volume = node
        assert selector.currentNode() is node
    made.disconnectGui(tag)


def test_a_widget_that_cannot_show_a_type_is_refused(made):
    import qt

    with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
        made.connectParametersToGui({"count": qt.QLineEdit()})


def test_a_slider_needs_limits(made):
    import ctk

    with pytest.raises(RuntimeError):
        made.connectParametersToGui({"count": ctk.ctkSliderWidget()})


def test_an_unknown_parameter_is_refused(made):
    import qt

    with pytest.raises(ValueError, match="Cannot find a param"):
        made.connectParametersToGui({"nothing": qt.QLineEdit()})
