"""Which widget shows which type, and how."""

import enum
import pathlib
import typing

import ctk
import qt
import slicer

from .annotations import Choice, Decimals, Maximum, Minimum, RangeBounds, SingleStep, WithinRange, first_of, split
from .storage import FloatRange


class Connector:
    def __init__(self, widget, signal, read, write):
        self._widget, self._signal, self.read, self.write = widget, signal, read, write
        self._callback = None

    def widget(self):
        return self._widget

    def changed(self):
        if self._callback:
            self._callback()

    def onChanged(self, callback):
        self._callback = callback
        if self._signal is None:
            return
        signal = getattr(self._widget, self._signal)
        signal.disconnect(self.changed) if callback is None else signal.connect(self.changed)


def _set_limits(widget, annotations, low, high):
    within, least = first_of(annotations, WithinRange), first_of(annotations, Minimum)
    most = first_of(annotations, Maximum)
    widget.minimum = within.minimum if within else least.minimum if least else low
    widget.maximum = within.maximum if within else most.maximum if most else high
    bounded = within is not None or (least is not None and most is not None)
    if not bounded and type(widget) in (ctk.ctkSliderWidget, qt.QSlider):
        raise RuntimeError("a slider needs limits: annotate the parameter with WithinRange")
    step = first_of(annotations, SingleStep)
    if step is not None:
        widget.singleStep = step.value


def _number(widget, kind, annotations):
    if kind is int:
        if type(widget) not in (qt.QSlider, qt.QSpinBox):
            widget.decimals = 0
        _set_limits(widget, annotations, -(2**31), 2**31 - 1)
        return Connector(
            widget, "valueChanged", lambda: int(widget.value), lambda v: setattr(widget, "value", int(v))
        )
    decimals = first_of(annotations, Decimals)
    if decimals is not None and type(widget) is not ctk.ctkDoubleSlider:
        widget.decimals = decimals.value
    _set_limits(widget, annotations, float("-inf"), float("inf"))
    return Connector(widget, "valueChanged", lambda: widget.value, lambda v: setattr(widget, "value", float(v)))


def _combo(widget, values, labels):
    widget.clear()
    for label in labels:
        widget.addItem(label)

    def write(value):
        widget.currentIndex = values.index(value)

    return Connector(widget, "currentIndexChanged", lambda: values[widget.currentIndex], write)


def _text(widget):
    def write(value):
        if value != widget.text:
            widget.text = value

    return Connector(widget, "textChanged", lambda: widget.text, write)


def _node_types(kind):
    kinds = [kind] if typing.get_origin(kind) is None else typing.get_args(kind)
    return [split(one)[0]().GetClassName() for one in kinds if split(one)[0] is not type(None)]


def _is_nodes(kind):
    kinds = [kind] if typing.get_origin(kind) is None else [split(one)[0] for one in typing.get_args(kind)]
    kinds = [one for one in kinds if one is not type(None)]
    return bool(kinds) and all(isinstance(one, type) and issubclass(one, slicer.vtkMRMLNode) for one in kinds)


def _property(widget, signal, name, convert=lambda value: value):
    return Connector(
        widget, signal, lambda: convert(getattr(widget, name)), lambda value: setattr(widget, name, value)
    )


def createGuiConnector(widget, hint):
    """The connector of a widget and a type; RuntimeError where Slicer would have none either."""
    kind, annotations = split(hint)
    shown = type(widget)
    if kind is bool and shown in (qt.QCheckBox, ctk.ctkCheckBox):
        return _property(widget, "stateChanged", "checked")
    if kind is bool and shown in (qt.QPushButton, ctk.ctkCheckablePushButton):
        widget.checkable = True
        return _property(widget, "toggled", "checked")
    if kind is int and shown in (qt.QSlider, qt.QSpinBox):
        return _number(widget, int, annotations)
    doubles = (qt.QDoubleSpinBox, ctk.ctkSliderWidget, ctk.ctkDoubleSlider, ctk.ctkDoubleSpinBox)
    if kind in (int, float) and shown in doubles:
        return _number(widget, kind, annotations)
    if shown in (qt.QComboBox, ctk.ctkComboBox):
        found = _for_combo(widget, kind, annotations)
        if found is not None:
            return found
    if kind is str and shown is qt.QLineEdit:
        return _text(widget)
    if kind is str and shown is qt.QLabel:
        return Connector(widget, None, lambda: widget.text, lambda value: setattr(widget, "text", value))
    if kind is str and shown is qt.QTextEdit:
        return Connector(widget, "textChanged", widget.toPlainText, widget.setPlainText)
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        if shown is ctk.ctkPathLineEdit:
            return Connector(
                widget,
                "currentPathChanged",
                lambda: kind(widget.currentPath),
                lambda v: setattr(widget, "currentPath", str(v)),
            )
        if shown is ctk.ctkDirectoryButton:
            return Connector(
                widget,
                "directoryChanged",
                lambda: kind(widget.directory),
                lambda v: setattr(widget, "directory", str(v)),
            )
    if kind is FloatRange and shown is ctk.ctkRangeWidget:
        bounds = first_of(annotations, RangeBounds)
        widget.setRange(bounds.minimum, bounds.maximum)
        return Connector(
            widget, "valuesChanged", lambda: FloatRange(widget.minimumValue, widget.maximumValue),
            lambda value: widget.setValues(value.minimum, value.maximum),
        )  # fmt: skip
    if shown is slicer.qMRMLNodeComboBox and _is_nodes(kind):
        widget.nodeTypes = _node_types(kind)
        return Connector(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{hint}' to widget type '{shown}'.")


def _for_combo(widget, kind, annotations):
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        values = list(kind)
        labels = [one.label() if hasattr(one, "label") else one.name for one in values]
        return _combo(widget, values, labels)
    choice = first_of(annotations, Choice)
    if choice is not None and kind in (int, float, str, bool):
        return _combo(widget, list(choice.choices), [str(one) for one in choice.choices])
    return None
