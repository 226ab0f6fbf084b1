"""`.ui` files: each class and property is held against the inventory, then Qt builds the form."""

from xml.etree import ElementTree

from PySide6.QtCore import QBuffer, QByteArray, QObject
from PySide6.QtUiTools import QUiLoader

from . import qt_names, signals
from .api import inventory
from .conversion import alive, to_python
from .qt_names import stands_for
from .wrapper import NotInHost, override

# Designer writes stdset="0" for these; a form edited by hand may leave it out.
DYNAMIC = {"SlicerParameterName", "SlicerParameterPackName"}


class WrongForm(ValueError):
    """The form uses what Slicer does not have."""


class _Builder(QUiLoader):
    """Makes every widget from Python, so that Python knows when Qt deletes it."""

    def createWidget(self, class_name, parent=None, name=""):
        made = qt_names.qt_class(class_name)
        if made is None:
            return super().createWidget(class_name, parent, name)
        widget = made(parent)
        widget.setObjectName(name)
        return widget


def load(text, parent=None):
    """The root widget of a form, as Qt object; WrongForm where the form uses what Slicer does not have."""
    form = ElementTree.fromstring(text)
    later = []
    for widget in form.iter("widget"):
        _check_widget(widget, later)
    connections = [_connection(one) for one in form.iter("connection")]
    for one in form.findall("connections"):
        form.remove(one)
    builder = _Builder()
    buffer = QBuffer()
    buffer.setData(QByteArray(ElementTree.tostring(form)))
    buffer.open(QBuffer.OpenModeFlag.ReadOnly)
    root = builder.load(buffer, parent)
    if root is None:
        raise WrongForm(builder.errorString())
    for name, key, value in later:
        setattr(to_python(_named(root, name)), key, value)
    for connection in connections:
        _connect(root, *connection)
    return root


def _check_widget(widget, later):
    class_name, name = widget.get("class"), widget.get("name")
    if class_name not in inventory().classes and class_name != "Line":
        raise WrongForm(f"widget '{name}': slicer-api.json has no class {class_name}")
    if class_name == "Line":
        return
    if qt_names.qt_class(class_name) is None:
        raise NotInHost(f"widget '{name}': the test host has no stand-in for {class_name} yet")
    for entry in list(widget.findall("property")):
        key = entry.get("name")
        found = inventory().lookup(class_name, key)
        if found is None or found[0] != "property":
            if entry.get("stdset") == "0" or key in DYNAMIC:
                continue
            raise WrongForm(f"widget '{name}': {inventory().why_not(class_name, key)}")
        if "write" not in found[2]:
            raise WrongForm(f"widget '{name}': {class_name}.{key} can only be read")
        if found[1] not in inventory().data["qt"]:
            later.append((name, key, _value(entry[0])))
            widget.remove(entry)


def _value(element):
    text = element.text or ""
    if element.tag == "bool":
        return text == "true"
    if element.tag == "number":
        return int(text)
    if element.tag == "double":
        return float(text)
    if element.tag == "stringlist":
        return [one.text or "" for one in element]
    return text  # strings, and the keys of enumerations and flags


def _connection(element):
    return tuple(element.findtext(part) for part in ("sender", "signal", "receiver", "slot"))


def _named(root, name):
    return root if root.objectName() == name else root.findChild(QObject, name)


def _connect(root, sender, signal, receiver, slot):
    ends = [_named(root, name) for name in (sender, receiver)]
    if None in ends:
        raise WrongForm(f"a connection joins '{sender}' and '{receiver}', and one of them is not in the form")
    signals.connect(to_python(ends[0]), signal, to_python(ends[1]), slot)


@stands_for("QUiLoader")
class FormLoader(QObject):
    """qt.QUiLoader as slicer.util.loadUI uses it."""

    def load(self, device, parent=None):
        return load(bytes(device.readAll()).decode("utf-8"), parent)


@override("QUiLoader", "load")
def _load(wrapper, device, parent=None):
    return to_python(alive(wrapper).load(alive(device), alive(parent) if parent is not None else None))
