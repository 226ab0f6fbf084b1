"""The modules `qt` and `ctk`, and the widget classes in `slicer`."""

import sys
import types

from PySide6 import QtCore

from .api import inventory
from .wrapper import NotInHost, NotInSlicer, wrapper_class

QT_FUNCTIONS = {
    "SIGNAL": lambda text: "2" + text,
    "SLOT": lambda text: "1" + text,
    "qVersion": QtCore.qVersion,
    "qWarning": QtCore.qWarning,
    "qDebug": QtCore.qDebug,
    "qCritical": QtCore.qCritical,
}


def _class_or_none(name, module):
    entry = inventory().classes.get(name)
    if entry is not None and entry.get("in_namespace") == module:
        return wrapper_class(name)
    return None


class QtModule(types.ModuleType):
    """`qt`: what PythonQt's generated wrappers hold."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name in QT_FUNCTIONS:
            return QT_FUNCTIONS[name]
        found = _class_or_none(name, "qt")
        if found is not None:
            return found
        if any(name in names for names in inventory().data["qt_namespace"].values()):
            raise NotInHost(f"qt.{name} exists in Slicer, but slicer-api.json does not list its members")
        raise NotInSlicer(f"qt.{name} is not in slicer-api.json")


class CtkModule(types.ModuleType):
    """`ctk`: the widgets and classes that CTK's wrapping shows."""

    def __getattr__(self, name):
        found = None if name.startswith("__") else _class_or_none(name, "ctk")
        if found is None:
            raise NotInSlicer(f"ctk.{name} is not in slicer-api.json")
        return found


def slicer_attribute(name):
    """What `slicer.<name>` is when no MRML class has that name."""
    found = None if name.startswith("__") else _class_or_none(name, "slicer")
    if found is None:
        raise NotInSlicer(f"slicer.{name} is neither in slicer-core nor in slicer-api.json")
    return found


def install():
    """Make `import qt`, `import ctk` and `slicer.qMRML…` work."""
    sys.modules["qt"] = QtModule("qt", "Qt as Slicer's Python sees it")
    sys.modules["ctk"] = CtkModule("ctk", "CTK as Slicer's Python sees it")
