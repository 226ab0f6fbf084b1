"""Where PySide6 and PythonQt differ in more than the way a name is reached."""

import shiboken6
from PySide6 import QtCore, QtWidgets

from . import signals
from .conversion import alive, raw_of, registered_name, to_python, unwrapped
from .wrapper import Wrapper, override, static_override, wrapper_class


@override("QObject", "connect")
def _connect(wrapper, *arguments):
    if isinstance(arguments[0], Wrapper):  # connect(sender, signal, slot): this object is the receiver
        sender, signal, slot = arguments[:3]
        return signals.connect(sender, signal, wrapper, slot)
    return signals.connect(wrapper, *arguments)


@override("QObject", "disconnect")
def _disconnect(wrapper, *arguments):
    return signals.disconnect(wrapper, *arguments)


@override("QObject", "children")
def _children(wrapper):
    return tuple(to_python(child) for child in alive(wrapper).children() if registered_name(child))


@override("QObject", "parent")
def _parent(wrapper):
    return to_python(alive(wrapper).parent())


def _kind(wanted):
    if isinstance(wanted, str):
        return wanted
    return wanted.api_name


def _matching(wrapper, wanted, name):
    found = alive(wrapper).findChildren(QtCore.QObject)
    for child in found:
        if name and child.objectName() != name:
            continue
        wrapped = to_python(child)
        if isinstance(wrapped, Wrapper) and inherits(wrapped, _kind(wanted)):
            yield wrapped


@override("QObject", "findChild")
def _find_child(wrapper, wanted, name=""):
    return next(_matching(wrapper, wanted, name), None)


@override("QObject", "findChildren")
def _find_children(wrapper, wanted, name=""):
    return tuple(_matching(wrapper, wanted, name))


@override("QObject", "property")
def _property(wrapper, name):
    from .wrapper import inventory

    raw = alive(wrapper)
    found = inventory().lookup(type(wrapper).api_name, str(name))
    if found and found[0] == "property":
        return getattr(wrapper, str(name))
    return to_python(raw.property(str(name)))


@override("QObject", "setProperty")
def _set_property(wrapper, name, value):
    from .wrapper import inventory

    found = inventory().lookup(type(wrapper).api_name, str(name))
    if found and found[0] == "property":
        setattr(wrapper, str(name), value)
        return True
    return alive(wrapper).setProperty(str(name), unwrapped(value))


@override("QObject", "tr")
def _tr(wrapper, text, *_):
    return str(text)


@override("PythonQt", "className")
def _class_name(wrapper):
    return type(wrapper).api_name


def inherits(wrapper, name):
    from .wrapper import inventory

    return name in inventory().chain(type(wrapper).api_name)


@override("PythonQt", "inherits")
def _inherits(wrapper, name):
    return inherits(wrapper, name)


@override("PythonQt", "delete")
def _delete(wrapper):
    raw = raw_of(wrapper)
    if isinstance(raw, shiboken6.Object) and shiboken6.isValid(raw):
        shiboken6.delete(raw)


@override("PythonQt", "help")
def _help(wrapper):
    print(type(wrapper).api_name)


@static_override("QTimer", "singleShot")
def _single_shot(milliseconds, receiver_or_callable, member=None):
    # As slicerqt.py does it: a timer that belongs to the application.
    timer = wrapper_class("QTimer")(to_python(QtWidgets.QApplication.instance()))
    timer.setSingleShot(True)
    raw = raw_of(timer)
    if callable(receiver_or_callable):
        timer.connect("timeout()", receiver_or_callable)
    else:
        timer.connect("timeout()", receiver_or_callable, member)
    raw.timeout.connect(raw.deleteLater)
    timer.start(milliseconds)


@static_override("QObject", "connect")
def _static_connect(sender, signal, *target):
    return signals.connect(sender, signal, *target)


@static_override("QObject", "disconnect")
def _static_disconnect(sender, signal, *target):
    return signals.disconnect(sender, signal, *target)


@override("QSettings", "value")
def _settings_value(wrapper, key, default=None):
    return to_python(alive(wrapper).value(str(key), unwrapped(default)))


@override("QByteArray", "data")
def _bytes(wrapper):
    return bytes(alive(wrapper).data())


@override("QTableWidgetItem", "setTextAlignment")
def _set_text_alignment(wrapper, alignment):
    alive(wrapper).setTextAlignment(QtCore.Qt.AlignmentFlag(int(alignment)))
