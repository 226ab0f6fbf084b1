"""Which Qt or host class stands behind a class name of the inventory."""

import functools

from PySide6 import QtCore, QtGui, QtNetwork, QtWidgets

MODULES = (QtWidgets, QtGui, QtCore, QtNetwork)

# Classes of ctk and slicer that the host has a stand-in for; `stands_for` fills it.
STAND_INS = {}


def stands_for(name, signals=None):
    """Class decorator: this Qt class stands for `name` of ctk or slicer.

    `signals` maps a signature of the inventory to the attribute that carries it, where that is not the
    attribute of the same name.
    """

    def register(cls):
        cls.api_name = name
        cls.carried_signals = {**getattr(cls, "carried_signals", {}), **(signals or {})}
        STAND_INS[name] = cls
        return cls

    return register


@functools.cache
def _plain_qt_class(name):
    return next((getattr(module, name) for module in MODULES if hasattr(module, name)), None)


def qt_class(name):
    """The class to make objects from, or None where neither PySide6 nor the host has one."""
    return STAND_INS.get(name) or _plain_qt_class(name)
