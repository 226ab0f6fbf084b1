"""A Qt object as PythonQt shows it: properties are attributes, getters are methods, the rest is not there."""

import weakref

import shiboken6
from PySide6 import QtCore

from . import qt_names, signals
from .api import inventory
from .calls import Method, construct
from .conversion import Mismatch, alive, raw_of, to_python, to_qt, unwrapped
from .enumerations import enum_class, enum_value

_living = weakref.WeakValueDictionary()
_classes = {}

# (class, name): function(wrapper, *arguments) for what PySide6 does differently; `overrides` fills it.
OVERRIDES = {}
# (class, name): function(*arguments), for static functions.
STATIC_OVERRIDES = {}


class NotInSlicer(AttributeError):
    """The name does not exist in Slicer's Python; slicer-api.json says so."""


class NotInHost(NotImplementedError):
    """Slicer has it; this test host has no stand-in for it yet."""


def override(class_name, *names):
    """Decorator: how the host does what PySide6 does differently from PythonQt."""

    def register(function):
        for name in names:
            OVERRIDES[class_name, name] = function
        return function

    return register


def static_override(class_name, *names):
    def register(function):
        for name in names:
            STATIC_OVERRIDES[class_name, name] = function
        return function

    return register


def raise_if_deleted(wrapper):
    raw = raw_of(wrapper)
    if isinstance(raw, shiboken6.Object) and not shiboken6.isValid(raw):
        raise ValueError(f"this {type(wrapper).api_name} was deleted by Qt and cannot be used any more")


class WrapperType(type):
    """Enumerations, static functions and unbound methods of a wrapped class."""

    def __getattr__(cls, name):
        api_name = cls.__dict__.get("api_name") or getattr(super(), "api_name", None)
        if name.startswith("__") or api_name is None:
            raise AttributeError(name)
        found = inventory().lookup(api_name, name)
        if found is None:
            raise NotInSlicer(inventory().why_not(api_name, name))
        kind, owner, detail = found
        if kind == "enum value":
            return enum_value(owner, detail[0], name.rstrip("_"), detail[1])
        if kind == "enum type":
            return enum_class(owner, detail)
        if kind == "static":
            special = STATIC_OVERRIDES.get((owner, name))
            return special or Method(None, api_name, owner, name, detail)
        if kind in ("method", "builtin"):
            return lambda self, *arguments: Wrapper.__getattr__(self, name, unbound=True)(*arguments)
        raise NotInSlicer(f"{api_name}.{name} is a {kind}: it is reached through an object only")


class Wrapper(metaclass=WrapperType):
    """Base of all wrapped classes; they are siblings, as in PythonQt."""

    api_name = None

    def __init__(self, *arguments, **keywords):
        if keywords:
            raise ValueError(f"{type(self).api_name}: PythonQt takes no keyword arguments")
        raw = construct(self, type(self).api_name, arguments)
        object.__setattr__(self, "pythonqt_object", raw)
        _remember(self, raw)

    def __getattr__(self, name, unbound=False):
        if name.startswith("__") or name == "pythonqt_object":
            raise AttributeError(name)
        api_name = type(self).api_name
        found = inventory().lookup(api_name, name)
        if found is None:
            return self._dynamic(name)
        kind, owner, detail = found
        if kind == "property":
            return _read(self, owner, name, detail)
        if kind == "signal":
            raise_if_deleted(self)
            return signals.SignalObject(self, name, detail)
        if kind == "enum value":
            return enum_value(owner, detail[0], name.rstrip("_"), detail[1])
        if kind == "enum type":
            return enum_class(owner, detail)
        plain = name[:-1] if name.endswith("_") and len(name) > 2 else name
        special = OVERRIDES.get((owner, plain))
        if special is not None:
            return lambda *arguments, **keywords: _without_keywords(special, self, arguments, keywords)
        if kind == "field":
            return to_python(getattr(alive(self), plain), "", api_name)
        if kind == "builtin":
            raise NotInHost(f"the test host does not have {api_name}.{name} yet")
        return Method(self, api_name, owner, plain, detail)

    def _dynamic(self, name):
        """A dynamic property or a child of that name, else the AttributeError that Slicer would raise."""
        api_name = type(self).api_name
        raw = raw_of(self)
        if isinstance(raw, QtCore.QObject) and shiboken6.isValid(raw):
            if name.encode() in [bytes(one) for one in raw.dynamicPropertyNames()]:
                return to_python(raw.property(name))
            child = raw.findChild(QtCore.QObject, name, QtCore.Qt.FindDirectChildrenOnly)
            if child is not None:
                return to_python(child)
        raise NotInSlicer(inventory().why_not(api_name, name))

    def __setattr__(self, name, value):
        found = inventory().lookup(type(self).api_name, name)
        if found and found[0] == "property":
            _write(self, found[1], name, found[2], value)
            return
        if type(self).__dict__.get("api_name") is None and not found:
            object.__setattr__(self, name, value)  # a Python subclass takes attributes of its own
            return
        raw = raw_of(self)
        if isinstance(raw, QtCore.QObject) and name.encode() in [bytes(one) for one in raw.dynamicPropertyNames()]:
            raw.setProperty(name, unwrapped(value))
            return
        if found:
            raise NotInSlicer(f"{type(self).api_name}.{name} is a {found[0]} in Slicer's Python: it cannot be set")
        raise NotInSlicer(inventory().why_not(type(self).api_name, name))

    def __eq__(self, other):
        if not isinstance(other, Wrapper):
            return NotImplemented
        mine, others = raw_of(self), raw_of(other)
        if isinstance(mine, QtCore.QObject) or isinstance(others, QtCore.QObject):
            return shiboken6.getCppPointer(mine)[0] == shiboken6.getCppPointer(others)[0]
        return mine == others

    def __hash__(self):
        raw = raw_of(self)
        return hash(shiboken6.getCppPointer(raw)[0]) if isinstance(raw, shiboken6.Object) else id(raw)

    def __bool__(self):
        raw = raw_of(self)
        if isinstance(raw, shiboken6.Object) and not shiboken6.isValid(raw):
            return False
        slots = [slot for owner in inventory().chain(type(self).api_name) for slot in
                 inventory().classes[owner].get("typeslots", [])]  # fmt: skip
        if "NonZero" not in slots:
            return True
        for question, answer in (("isNull", False), ("isEmpty", False), ("isValid", True)):
            if hasattr(raw, question):
                return getattr(raw, question)() is answer
        return True

    def __repr__(self):
        raw = raw_of(self)
        if isinstance(raw, QtCore.QObject) and shiboken6.isValid(raw) and raw.objectName():
            return f"{type(self).api_name} '{raw.objectName()}'"
        return f"{type(self).api_name} at {hex(id(raw))}"


def _without_keywords(function, wrapper, arguments, keywords):
    if keywords:
        raise ValueError("PythonQt takes no keyword arguments")
    raise_if_deleted(wrapper)
    return function(wrapper, *arguments)


def _read(wrapper, owner, name, detail):
    raw = alive(wrapper)
    getter = getattr(raw, detail["read"], None) if "read" in detail else None
    if getter is not None:
        return to_python(getter(), detail.get("type", ""), owner)
    if raw.metaObject().indexOfProperty(name) >= 0:
        return to_python(raw.property(name), detail.get("type", ""), owner)
    raise _absent(raw, owner, name)


def _write(wrapper, owner, name, detail, value):
    raw = alive(wrapper)
    if "write" not in detail:
        raise NotInSlicer(f"{type(wrapper).api_name}.{name} can only be read in Slicer's Python")
    for strict in (True, False):
        try:
            converted = to_qt(value, detail["type"], owner, strict)
            break
        except Mismatch:
            continue
    else:
        raise NotInSlicer(f"{type(wrapper).api_name}.{name} takes {detail['type']}, not {value!r}")
    setter = getattr(raw, detail["write"], None)
    if setter is not None:
        setter(converted)
    elif raw.metaObject().indexOfProperty(name) >= 0:
        raw.setProperty(name, converted)
    else:
        raise _absent(raw, owner, name)


def _absent(raw, owner, name):
    if qt_names.STAND_INS.get(getattr(type(raw), "api_name", None)):
        return NotInHost(f"the test host's stand-in for {type(raw).api_name} does not have '{name}' yet")
    return NotInSlicer(f"{owner}.{name} is not in Qt {QtCore.qVersion()}, with which Slicer is built too")


def wrapper_class(name):
    """The class that Python meets for a class of the inventory."""
    if name not in _classes:
        _classes[name] = WrapperType(name, (Wrapper,), {"api_name": name, "__module__": "PythonQt"})
    return _classes[name]


def _remember(wrapper, raw):
    if isinstance(raw, QtCore.QObject):
        _living[shiboken6.getCppPointer(raw)[0]] = wrapper


def wrapped(raw, name):
    """The wrapper of a Qt object: the one in use, or a new one."""
    if isinstance(raw, QtCore.QObject):
        known = _living.get(shiboken6.getCppPointer(raw)[0])
        if known is not None and shiboken6.isValid(raw_of(known)) and type(known).api_name == name:
            return known
    wrapper = object.__new__(wrapper_class(name))
    object.__setattr__(wrapper, "pythonqt_object", raw)
    _remember(wrapper, raw)
    return wrapper
