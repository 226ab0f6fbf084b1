"""Enumerations as PythonQt shows them: keys on the class and on the type, values that are ints."""

import functools

from PySide6 import QtCore

from . import qt_names
from .api import inventory


class EnumType(type):
    """`Class.Enum.Key`."""

    def __getattr__(cls, key):
        plain = key[:-1] if key == "None_" else key
        if not key.startswith("__") and plain in cls.__dict__.get("keys_", {}):
            return cls(cls.keys_[plain])
        raise AttributeError(f"{cls.__name__} has no key '{key}' in slicer-api.json")


@functools.cache
def enum_class(owner, kind):
    """The int subclass for an enumeration of a class."""
    keys = dict(inventory().enumeration(owner, kind))
    qt_type = qt_enumeration(owner, kind)
    for key, value in keys.items():
        if value is None and qt_type is not None:
            keys[key] = int(getattr(qt_type, key).value)
    return EnumType(kind, (int,), {"keys_": keys, "__module__": owner})


def enum_value(owner, kind, key, value):
    made = enum_class(owner, kind)
    if value is None:
        value = made.keys_[key]
    return made(value)


@functools.cache
def qt_enumeration(owner, kind):
    """PySide6's enumeration of the same name, or None."""
    entry = inventory().classes.get(owner, {})
    name = entry.get("flags", {}).get(kind, {}).get("enum") or kind
    home = QtCore.Qt if owner == "Qt" else qt_names.qt_class(owner)
    return getattr(home, name, None) or getattr(home, kind, None)


@functools.cache
def owner_of(kind, class_name):
    """(class, enumeration) that a C++ type name such as `Qt::Alignment` means, or None."""
    if kind.startswith("QFlags<"):
        kind = kind[len("QFlags<") : -1]
    if "::" in kind:
        owner, name = kind.rsplit("::", 1)
        owners = inventory().chain(owner)
    else:
        owners, name = inventory().chain(class_name), kind
    for owner in owners:
        entry = inventory().classes[owner]
        if name in entry.get("enums", {}) or name in entry.get("flags", {}):
            return owner, name
        if any(flags.get("enum") == name for flags in entry.get("flags", {}).values()):
            return owner, name
    return None
