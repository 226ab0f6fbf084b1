"""Values between Python and Qt, with PythonQt's strict and lenient rules."""

import enum
import math
import os

from PySide6 import QtCore, QtGui

from . import qt_names
from .api import inventory
from .enumerations import enum_class, owner_of, qt_enumeration

INTEGERS = {
    *[
        "int",
        "uint",
        "long",
        "ulong",
        "short",
        "ushort",
        "uchar",
        "char",
        "size_t",
        "WId",
        "quintptr",
        "qsizetype",
        "vtkIdType",
        "qlonglong",
        "qulonglong",
    ],
    *["qint8", "quint8", "qint16", "quint16", "qint32", "quint32", "qint64", "quint64", "Qt::HANDLE"],
    *("unsigned int", "unsigned long", "unsigned short", "unsigned char", "long long"),
}
REALS = {"double", "float", "qreal"}
TEXTS = {"QString", "qSlicerIO::IOFileType", "char*", "QStringView", "QLatin1String", "std::string"}
LISTS = {
    "QStringList": "QString",
    "QVariantList": "QVariant",
    "QObjectList": "QObject*",
    "QByteArrayList": "QByteArray",
}
MAPS = {
    "qSlicerIO::IOProperties",
    "QVariantMap",
    "QVariantHash",
    "QHash<QString,QVariant>",
    "QMap<QString,QVariant>",
}


class Mismatch(Exception):
    """A value is not of the kind that an overload takes."""


def raw_of(wrapper):
    return object.__getattribute__(wrapper, "pythonqt_object")


def is_wrapper(value):
    from .wrapper import Wrapper

    return isinstance(value, Wrapper)


def api_name_of(value):
    return type(value).api_name


def to_qt(value, kind, class_name, strict):
    """`value` for a parameter of C++ type `kind`; Mismatch where PythonQt would not take it."""
    if kind in TEXTS:
        return _text(value, strict)
    if kind == "bool":
        if strict and not isinstance(value, bool):
            raise Mismatch
        return bool(value)
    if kind in INTEGERS:
        return _integer(value, strict)
    if kind in REALS:
        if isinstance(value, float) or (not strict and isinstance(value, int)):
            return float(value)
        raise Mismatch
    enumeration = owner_of(kind, class_name) if "*" not in kind else None
    if enumeration:
        return _enumeration(value, enumeration)
    if kind in LISTS or kind.startswith(("QList<", "QVector<")):
        return _sequence(value, LISTS.get(kind) or kind[kind.index("<") + 1 : -1], class_name, strict)
    if kind in MAPS:
        if not isinstance(value, dict):
            raise Mismatch
        return {str(key): unwrapped(one) for key, one in value.items()}
    if kind in ("QVariant", "PyObject*", "void*"):
        return unwrapped(value)
    if kind == "QByteArray" and isinstance(value, (bytes, str)):
        return QtCore.QByteArray(value.encode() if isinstance(value, str) else value)
    return _object(value, kind)


def _text(value, strict):
    if isinstance(value, str):
        return value
    if strict:
        raise Mismatch
    return str(value)


def _integer(value, strict):
    if isinstance(value, enum.Enum):
        raise Mismatch
    if isinstance(value, bool):
        if strict:
            raise Mismatch
        return int(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and not strict and math.isfinite(value):
        return math.floor(value)
    if hasattr(value, "__index__"):
        return value.__index__()
    raise Mismatch


def _enumeration(value, enumeration):
    owner, kind = enumeration
    qt_type = qt_enumeration(owner, kind)
    if isinstance(value, str):
        keys = enum_class(owner, kind).keys_
        value = _key_number(value, keys)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Mismatch
    if qt_type is None:
        return int(value)
    try:
        return qt_type(int(value))
    except ValueError:
        raise Mismatch from None


def _key_number(text, keys):
    total = 0
    for key in text.split("|"):
        key = key.strip().rsplit("::", 1)[-1]
        if keys.get(key) is None:
            raise Mismatch
        total |= keys[key]
    return total


def _sequence(value, kind, class_name, strict):
    if isinstance(value, str):
        if strict:
            raise Mismatch
        return list(value)  # as PythonQt does: single characters
    if not isinstance(value, (list, tuple)):
        raise Mismatch
    return [to_qt(one, kind, class_name, strict) for one in value]


def _object(value, kind):
    name = kind.rstrip("*")
    if value is None:
        if kind.endswith("*"):
            return None
        raise Mismatch
    if name.startswith("vtk"):
        if hasattr(value, "IsA") and value.IsA(name):
            return value
        raise Mismatch
    if is_wrapper(value) and name in inventory().chain(api_name_of(value)):
        return alive(value)
    return _implicit(value, name)


def _implicit(value, name):
    """What PythonQt converts by itself: slicer.util calls setOverrideCursor(qt.Qt.WaitCursor)."""
    shape = isinstance(value, int) and type(value).__name__
    if name == "QCursor" and shape == "CursorShape":
        return QtGui.QCursor(QtCore.Qt.CursorShape(int(value)))
    if name in ("QColor", "QBrush") and shape == "GlobalColor":
        return getattr(QtGui, name)(QtCore.Qt.GlobalColor(int(value)))
    if name == "QBrush" and is_wrapper(value) and api_name_of(value) == "QColor":
        return QtGui.QBrush(alive(value))
    raise Mismatch


def alive(wrapper):
    """The Qt object behind a wrapper; ValueError where Qt has deleted it."""
    from .wrapper import raise_if_deleted

    raise_if_deleted(wrapper)
    return raw_of(wrapper)


def unwrapped(value):
    """A value as it goes into a QVariant."""
    if is_wrapper(value):
        return alive(value)
    if isinstance(value, (list, tuple)):
        return [unwrapped(one) for one in value]
    if isinstance(value, dict):
        return {str(key): unwrapped(one) for key, one in value.items()}
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return value


def to_python(value, kind="", class_name=""):
    """What PythonQt hands to Python for a Qt value."""
    from .wrapper import wrapped

    if value is None or isinstance(value, (bool, str, float, bytes)):
        return value
    if isinstance(value, enum.Enum):
        return _enumerated(value, kind, class_name)
    if isinstance(value, int):
        enumeration = owner_of(kind, class_name) if kind and kind not in INTEGERS else None
        return enum_class(*enumeration)(value) if enumeration else value
    if isinstance(value, (list, tuple)):
        return tuple(to_python(one, class_name=class_name) for one in value)
    if isinstance(value, dict):
        return {key: to_python(one, class_name=class_name) for key, one in value.items()}
    if hasattr(value, "IsA") and not isinstance(value, QtCore.QObject):
        return value
    name = registered_name(value)
    return wrapped(value, name) if name else value


def _enumerated(value, kind, class_name):
    enumeration = owner_of(kind, class_name) if kind else None
    number = value.value
    if enumeration is None:
        enumeration = _owner_by_type(type(value))
    return enum_class(*enumeration)(number) if enumeration else int(number)


def _owner_by_type(qt_type):
    words = qt_type.__qualname__.split(".")
    if len(words) < 2:
        return None
    return owner_of("::".join(words[-2:]), words[-2])


def registered_name(value):
    """Name of the most derived class of the inventory that a Qt object is of, or None."""
    for cls in type(value).__mro__:
        name = cls.__dict__.get("api_name") or cls.__name__
        if name in inventory().classes and (cls.__dict__.get("api_name") or cls is qt_names._plain_qt_class(name)):
            return name
    return None
