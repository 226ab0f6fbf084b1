"""Connections as PythonQt makes them, and what went wrong in a callback."""

import inspect
import sys
import traceback

from PySide6 import QtCore

from .api import inventory
from .conversion import alive, is_wrapper, to_python, unwrapped
from .signatures import normalised, signal_types

# (address of the sender): [(signature, what was connected, the function Qt calls)]
_connections = {}

# Exceptions that callbacks let out, newest last: PythonQt prints them and goes on, and so does the host.
callback_errors = []


class NoSuchSignal(ValueError):
    """In Slicer `connect` would return False and print a line that nobody reads; here it is an error."""


def positional_limit(function):
    """How many arguments PythonQt passes to a callable, None for as many as there are."""
    bound = inspect.ismethod(function)
    plain = function.__func__ if bound else function
    if not inspect.isfunction(plain):
        return None
    if plain.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return plain.__code__.co_argcount - (1 if bound else 0)


def report_exception():
    """Print the exception in flight and keep it for the tests."""
    error = sys.exc_info()[1]
    callback_errors.append(error)
    traceback.print_exception(error)


def _caller(function, types, class_name):
    limit = positional_limit(function)

    def deliver(*arguments):
        arguments = arguments[: len(types)]
        if limit is not None:
            arguments = arguments[:limit]
        try:
            converted = [to_python(one, kind, class_name) for one, kind in zip(arguments, types, strict=False)]
            function(*converted)
        except Exception:
            report_exception()

    return deliver


def find_signal(wrapper, text):
    """Signature in the inventory; NoSuchSignal names what there is."""
    class_name = type(wrapper).api_name
    wanted = normalised(str(text))
    signatures = [signature for _, signature in inventory().signals(class_name)]
    if wanted in signatures:
        return wanted
    name = wanted.split("(")[0]
    there = [signature for signature in signatures if signature.split("(")[0] == name]
    hint = f"; there is {', '.join(there)}" if there else f"; it has {', '.join(sorted(set(signatures)))}"
    raise NoSuchSignal(f"{class_name} has no signal '{wanted}' in Slicer{hint}")


def carried_by(raw, signature):
    """The bound signal of a stand-in that carries a signature, or None where Qt has the signal itself."""
    carried = getattr(type(raw), "carried_signals", {})
    if signature in carried:
        return getattr(raw, carried[signature])
    if raw.metaObject().indexOfSignal(signature) >= 0:
        return None
    name = signature.split("(")[0]
    own = any(
        name in vars(cls) for cls in type(raw).__mro__ if "api_name" in vars(cls) or "carried_signals" in vars(cls)
    )
    if own and isinstance(getattr(raw, name, None), QtCore.SignalInstance):
        return getattr(raw, name)
    raise NoSuchSignal(
        f"{type(raw).__name__} has no signal '{signature}' in Qt {QtCore.qVersion()}"
        if not hasattr(type(raw), "api_name")
        else f"the test host's stand-in for {type(raw).api_name} does not carry the signal '{signature}' yet"
    )


def _attach(raw, signature, deliver):
    bound = carried_by(raw, signature)
    if bound is not None:
        bound.connect(deliver)
    elif not QtCore.QObject.connect(raw, QtCore.SIGNAL(signature), deliver):
        raise NoSuchSignal(f"Qt did not connect '{signature}'")


def _detach(raw, signature, deliver):
    bound = carried_by(raw, signature)
    if bound is not None:
        bound.disconnect(deliver)
    else:
        QtCore.QObject.disconnect(raw, QtCore.SIGNAL(signature), deliver)


def _address(raw):
    import shiboken6

    return shiboken6.getCppPointer(raw)[0]


def connect(wrapper, signal, *target):
    """connect(signal, callable) and connect(signal, receiver, slot)."""
    signature = find_signal(wrapper, signal)
    function = _target(target)
    raw = alive(wrapper)
    deliver = _caller(function, signal_types(signature), type(wrapper).api_name)
    _attach(raw, signature, deliver)
    address = _address(raw)
    if address not in _connections:
        _connections[address] = []
        raw.destroyed.connect(lambda *_: _connections.pop(address, None))
    _connections[address].append((signature, function, deliver))
    return True


def _target(target):
    if len(target) == 1 and callable(target[0]):
        return target[0]
    if len(target) >= 2 and is_wrapper(target[0]):
        slot = normalised(str(target[1]))
        receiver, name = target[0], slot.split("(")[0]
        found = inventory().lookup(type(receiver).api_name, name)
        if found is None or found[0] not in ("method", "signal", "static"):
            raise NoSuchSignal(f"{type(receiver).api_name} has no slot '{slot}' in Slicer")
        count = len(signal_types(slot))
        return lambda *arguments: getattr(receiver, name)(*arguments[:count])
    raise ValueError("connect takes a callable, or a receiver and a slot's signature")


def disconnect(wrapper, signal, *target):
    """disconnect(signal) and disconnect(signal, callable); False where nothing was connected."""
    signature = find_signal(wrapper, signal)
    raw = alive(wrapper)
    there = _connections.get(_address(raw), [])
    wanted = [one for one in there if one[0] == signature and (not target or one[1] == target[0])]
    if target:
        wanted = wanted[-1:]
    for one in wanted:
        _detach(raw, signature, one[2])
        there.remove(one)
    return bool(wanted)


class SignalObject:
    """`widget.clicked`: connect, disconnect, emit and call, all on the first overload listed."""

    def __init__(self, wrapper, name, signatures):
        self._wrapper, self._name, self._signature = wrapper, name, signatures[0]

    def connect(self, function):
        return connect(self._wrapper, self._signature, function)

    def disconnect(self, *function):
        return disconnect(self._wrapper, self._signature, *function)

    def emit(self, *arguments):
        raw = alive(self._wrapper)
        bound = carried_by(raw, self._signature) or getattr(raw, self._name)
        bound.emit(*[unwrapped(one) for one in arguments])

    __call__ = emit
