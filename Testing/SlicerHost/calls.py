"""Calls: overloads by number of arguments, first strictly, then leniently, as PythonQt picks them."""

from PySide6 import QtCore

from . import qt_names
from .api import inventory
from .conversion import Mismatch, alive, to_python, to_qt
from .shells import shell_class
from .signatures import parsed


class Method:
    """A bound method or a static function."""

    def __init__(self, wrapper, api_name, owner, name, overloads):
        self._wrapper, self._api_name, self._owner, self._name = wrapper, api_name, owner, name
        self._overloads = overloads

    def __repr__(self):
        return f"<method {self._api_name}.{self._name}>"

    def __eq__(self, other):
        return isinstance(other, Method) and (self._wrapper, self._name) == (other._wrapper, other._name)

    def __hash__(self):
        return hash((self._api_name, self._name))

    def __call__(self, *arguments, **keywords):
        if keywords:
            raise ValueError(f"{self._api_name}.{self._name}: PythonQt takes no keyword arguments")
        function = self._function()
        returns, value = call(function, self._overloads, arguments, self._owner, f"{self._api_name}.{self._name}")
        if isinstance(value, tuple) and returns in ("QString", "QStringList"):
            value = value[0]  # PySide6 returns what C++ writes through pointers too, PythonQt does not
        return None if returns == "void" else to_python(value, returns, self._owner)

    def _function(self):
        if self._wrapper is None:
            home = QtCore.Qt if self._owner == "Qt" else qt_names.qt_class(self._owner)
            function = getattr(home, self._name, None)
        else:
            raw = alive(self._wrapper)
            shell = getattr(type(raw), "pythonqt_base", None)
            if shell is not None:  # reached past the Python subclass: the C++ implementation is meant
                plain = getattr(shell, self._name, None)
                function = None if plain is None else (lambda *arguments: plain(raw, *arguments))
            else:
                function = getattr(raw, self._name, None)
        if function is None:
            from .wrapper import NotInHost, NotInSlicer

            if self._api_name in qt_names.STAND_INS:
                raise NotInHost(
                    f"the test host's stand-in for {self._api_name} does not have '{self._name}()' yet"
                )
            raise NotInSlicer(f"{self._owner}.{self._name}() is not in Qt {QtCore.qVersion()}")
        return function


def call(function, overloads, arguments, owner, title):
    """(return type, value) of the first overload that takes the arguments; ValueError where none does."""
    fitting = [parsed(text) for text in overloads if parsed(text).takes(len(arguments))]
    refused = None
    for strict in (True, False):
        for signature in fitting:
            try:
                converted = [
                    to_qt(value, argument.kind, owner, strict)
                    for value, argument in zip(arguments, signature.arguments, strict=False)
                ]
            except Mismatch:
                continue
            try:
                return signature.returns, function(*converted)
            except TypeError as error:
                if error.__traceback__.tb_next is not None:
                    raise  # raised inside a stand-in, not by the call itself
                refused = error
    there = ", ".join(overloads)
    raise ValueError(f"{title} takes {there}; it was called with {arguments!r}") from refused


def construct(wrapper, api_name, arguments):
    """A new Qt object for a wrapper, by one of the constructors that Python can call."""
    from .wrapper import NotInHost

    entry = inventory().classes[api_name]
    if not entry.get("ctor"):
        raise TypeError(f"{api_name} cannot be made from Python in Slicer: it has no constructor there")
    made = qt_names.qt_class(api_name)
    if made is None:
        raise NotInHost(f"the test host has no stand-in for {api_name} yet")
    if type(wrapper).__dict__.get("api_name") is None:
        made = shell_class(made, type(wrapper))
    raw = call(made, entry["ctor"], arguments, api_name, api_name)[1]
    if getattr(made, "pythonqt_base", None) is not None:
        raw.pythonqt_wrapper = wrapper
    return raw
