"""How a value of a type lies in a parameter node: as text, or as references to nodes."""

import enum
import pathlib
import types
import typing

import slicer

from .annotations import IsInstance, NotNone, split


class FloatRange:
    def __init__(self, minimum=0.0, maximum=0.0):
        if minimum > maximum:
            raise ValueError("minimum must not be above maximum")
        self.minimum, self.maximum = float(minimum), float(maximum)

    def __eq__(self, other):
        return isinstance(other, FloatRange) and (self.minimum, self.maximum) == (other.minimum, other.maximum)

    __hash__ = None


class Text:
    """One parameter string, with functions between it and the value."""

    def __init__(self, kind, to_text, from_text, default):
        self.to_text, self.from_text, self.start = to_text, from_text, default
        self.validators = [NotNone(), IsInstance((int, float) if kind is float else kind)]

    def default(self):
        return self.start

    def present(self, node, name):
        return node.HasParameter(name)

    def write(self, node, name, value):
        for validator in self.validators:
            validator.validate(value)
        node.SetParameter(name, self.to_text(value))

    def read(self, node, name):
        return self.from_text(node.GetParameter(name))

    def remove(self, node, name):
        node.UnsetParameter(name)


class NodeReference:
    """A reference of the role of that name; None for no node. As in Slicer, a parameter tells that it is there."""

    def __init__(self, kind):
        self.validators = [IsInstance(kind)]

    def default(self):
        return None

    def present(self, node, name):
        return node.HasParameter(name)

    def write(self, node, name, value):
        for validator in self.validators:
            validator.validate(value)
        if value is not None and value.GetScene() is None:
            raise ValueError("Cannot reference a node that is not in a scene")
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name):
        return node.GetNodeReference(name)

    def remove(self, node, name):
        node.UnsetParameter(name)
        node.SetNodeReferenceID(name, None)


class Observed(list):
    """A list that writes itself back when it is changed in place."""

    def __init__(self, values, changed):
        super().__init__(values)
        self._changed = changed


def _changing(name):
    plain = getattr(list, name)

    def method(self, *arguments, **keywords):
        result = plain(self, *arguments, **keywords)
        self._changed(list(self))
        return result

    setattr(Observed, name, method)


for _name in ("append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"):
    _changing(_name)
for _name in ("__setitem__", "__delitem__", "__iadd__"):
    _changing(_name)


class ListOf:
    def __init__(self, item):
        self.item = item
        self.validators = [NotNone(), IsInstance((list, tuple))]

    def default(self):
        return []

    def present(self, node, name):
        return node.HasParameter(f"{name}_len")

    def write(self, node, name, value):
        for validator in self.validators:
            validator.validate(value)
        before = node.StartModify()
        try:
            for index in range(len(value), self._length(node, name)):
                self.item.remove(node, f"{name}_{index}")
            node.SetParameter(f"{name}_len", str(len(value)))
            for index, one in enumerate(value):
                self.item.write(node, f"{name}_{index}", one)
        finally:
            node.EndModify(before)

    def _length(self, node, name):
        return int(node.GetParameter(f"{name}_len") or 0)

    def read(self, node, name):
        values = [self.item.read(node, f"{name}_{index}") for index in range(self._length(node, name))]
        return Observed(values, lambda changed: self.write(node, name, changed))

    def remove(self, node, name):
        for index in range(self._length(node, name)):
            self.item.remove(node, f"{name}_{index}")
        node.UnsetParameter(f"{name}_len")


class OrNone:
    """Optional of what lies as text."""

    def __init__(self, item):
        self.item = item

    def default(self):
        return None

    def present(self, node, name):
        return node.HasParameter(f"{name}_none") or self.item.present(node, name)

    def write(self, node, name, value):
        if value is None:
            self.item.remove(node, name)
            node.SetParameter(f"{name}_none", "1")
            return
        self.item.write(node, name, value)
        node.UnsetParameter(f"{name}_none")

    def read(self, node, name):
        return None if node.HasParameter(f"{name}_none") else self.item.read(node, name)

    def remove(self, node, name):
        self.item.remove(node, name)
        node.UnsetParameter(f"{name}_none")


def _range_from(text):
    low, high = text.split(",")
    return FloatRange(float(low), float(high))


def storage_for(hint):
    """The storage of a type; TypeError where there is none."""
    kind, _ = split(hint)
    if kind in (int, float):
        return Text(kind, str, kind, 0)
    if kind is str:
        return Text(str, str, str, "")
    if kind is bool:
        return Text(bool, str, lambda text: text == "True", False)
    if kind is FloatRange:
        return Text(FloatRange, lambda one: f"{one.minimum},{one.maximum}", _range_from, FloatRange())
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return Text(kind, lambda one: one.name, lambda text: kind[text], next(iter(kind)))
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return Text(kind, str, kind, kind())
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return NodeReference(kind)
    return _compound(kind)


def _compound(kind):
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return ListOf(storage_for(inside[0]))
    if origin in (typing.Union, types.UnionType):
        given = [one for one in inside if one is not type(None)]
        kinds = tuple(split(one)[0] for one in given)
        if all(isinstance(one, type) and issubclass(one, slicer.vtkMRMLNode) for one in kinds):
            return NodeReference(kinds)
        if len(given) == 1:
            return OrNone(storage_for(given[0]))
    raise TypeError(
        f"the host's own parameterNodeWrapper has no storage for {kind!r}: "
        "let SSLFEWSHOT_SLICER_PYTHON name Slicer's"
    )
