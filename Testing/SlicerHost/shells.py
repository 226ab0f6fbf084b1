"""Python subclasses of Qt classes: Qt calls the methods that the subclass overrides."""

import functools

from PySide6 import QtCore

from .conversion import is_wrapper, to_python, unwrapped
from .signals import report_exception

# Virtuals whose answer Qt acts on.
ANSWERED = ("event", "eventFilter")


@functools.cache
def shell_class(base, subclass):
    """A class under `base` whose virtuals call those that the Python class `subclass` defines."""
    defined = {}
    for cls in reversed(subclass.__mro__):
        if "api_name" in vars(cls) or cls is object:
            continue
        for name, function in vars(cls).items():
            if callable(function) and not name.startswith("__") and hasattr(base, name):
                defined[name] = _forward(name, base)
    if not issubclass(base, QtCore.QObject):
        defined = {}
    return type(subclass.__name__, (base,), {**defined, "pythonqt_base": base})


def _forward(name, base):
    def virtual(self, *arguments):
        wrapper = getattr(self, "pythonqt_wrapper", None)
        if wrapper is None:  # Qt calls virtuals while its constructor runs
            return getattr(base, name)(self, *arguments)
        try:
            result = getattr(wrapper, name)(*[to_python(one) for one in arguments])
        except Exception:  # PythonQt prints it; Qt cannot be handed an exception
            report_exception()
            return False if name in ANSWERED else None
        if name in ANSWERED:
            return bool(result)
        return unwrapped(result) if is_wrapper(result) else result

    virtual.__name__ = name
    return virtual
