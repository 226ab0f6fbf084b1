"""@parameterNodeWrapper: typed attributes over a parameter node, tied to widgets."""

import typing
import weakref

import slicer
import vtk

from .annotations import Default, Validator, first_of, split
from .connectors import Connector, createGuiConnector
from .storage import storage_for

SlicerParameterNamePropertyName = "SlicerParameterName"


class Parameter:
    def __init__(self, name, hint, owner):
        self.name, self.hint = name, hint
        kind, annotations = split(hint)
        self.storage = storage_for(kind)
        self.validators = [one for one in annotations if isinstance(one, Validator)]
        if hasattr(owner, name):
            self.default = Default(getattr(owner, name))
        else:
            self.default = first_of(annotations, Default) or Default(generator=self.storage.default)

    def write(self, node, value):
        for validator in self.validators:
            validator.validate(value)
        self.storage.write(node, self.name, value)

    def read(self, node):
        if not self.storage.present(node, self.name):
            self.write(node, self.default.value)
        return self.storage.read(node, self.name)


def _attribute(parameter):
    return property(
        lambda self: self.getValue(parameter.name),
        lambda self, value: self.setValue(parameter.name, value),
    )


def _is_node(hint):
    kind, _ = split(hint)
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


class Wrapper:
    """What a wrapped class gets besides its parameters."""

    def __init__(self, parameterNode, prefix=None):
        self.parameterNode = parameterNode
        self._guis, self._next, self._showing = {}, 0, False
        for parameter in self.allParameters.values():
            if not parameter.storage.present(parameterNode, parameter.name):
                parameter.write(parameterNode, parameter.default.value)
        # As in Slicer: a node is looked up when the parameter node says that it has changed, and kept until then.
        self._nodes = {}
        self._keep_nodes()
        this = weakref.ref(self)
        parameterNode.AddObserver(
            vtk.vtkCommand.ModifiedEvent, lambda caller, event: this() and this()._keep_nodes()
        )

    def _keep_nodes(self):
        for name, parameter in self.allParameters.items():
            if _is_node(parameter.hint):
                self._nodes[name] = parameter.read(self.parameterNode)

    def _known(self, name):
        if name not in self.allParameters:
            raise ValueError(
                f"Cannot find a param with the given name: {name}; there are {list(self.allParameters)}"
            )
        return self.allParameters[name]

    def getValue(self, name):
        parameter = self._known(name)
        return self._nodes[name] if name in self._nodes else parameter.read(self.parameterNode)

    def setValue(self, name, value):
        parameter = self._known(name)
        # As in Slicer: observers are told once the new value is kept, and widgets show it and not the last one.
        before = self.parameterNode.StartModify()
        try:
            parameter.write(self.parameterNode, value)
            if name in self._nodes:
                self._nodes[name] = parameter.read(self.parameterNode)
        finally:
            self.parameterNode.EndModify(before)

    def default(self, name):
        return self._known(name).default

    def dataType(self, name):
        return self._known(name).hint

    def connectGui(self, gui):
        """Tie the widgets that carry the property SlicerParameterName; the tag is for disconnectGui."""
        widgets = gui.findChildren("QWidget") if hasattr(gui, "findChildren") else list(vars(gui).values())
        named = {}
        for widget in widgets:
            name = widget.property(SlicerParameterNamePropertyName)
            if name:
                named[name] = widget
        return self.connectParametersToGui(named)

    def connectParametersToGui(self, mapping):
        for name in mapping:
            self._known(name)
        connectors = {
            name: one if isinstance(one, Connector) else createGuiConnector(one, self.dataType(name))
            for name, one in mapping.items()
        }
        tag, self._next = self._next, self._next + 1
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._taking(name, connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._show())
        self._guis[tag] = connectors, observer
        return tag

    def disconnectGui(self, tag):
        # As in Slicer, the node goes on being observed.
        connectors, _observer = self._guis.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.onChanged(None)

    def _taking(self, name, connector):
        def take():
            if not self._showing:
                before = self.StartModify()
                try:
                    self.setValue(name, connector.read())
                finally:
                    self.EndModify(before)

        return take

    def _show(self):
        if self._showing:
            return
        self._showing = True
        before = self.StartModify()
        try:
            for connectors, _ in list(self._guis.values()):
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._showing = False
            self.EndModify(before)

    def StartModify(self):
        return self.parameterNode.StartModify()

    def EndModify(self, before):
        return self.parameterNode.EndModify(before)

    def AddObserver(self, event, callback, priority=0.0):
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        self.parameterNode.RemoveObserver(tag)

    def Modified(self):
        self.parameterNode.Modified()


def _wrap(cls):
    hints = typing.get_type_hints(cls, include_extras=True)
    parameters = {name: Parameter(name, hint, cls) for name, hint in hints.items()}
    taken = [name for name in parameters if hasattr(Wrapper, name)]
    if taken:
        raise ValueError(f"Cannot use reserved name '{taken[0]}' in a parameterNodeWrapper")
    cls.allParameters = parameters
    for name, function in vars(Wrapper).items():
        if callable(function) and name not in ("__class__",):
            setattr(cls, name, function)
    for name, parameter in parameters.items():
        setattr(cls, name, _attribute(parameter))
    cls._is_parameter_node_wrapper = True
    return cls


def parameterNodeWrapper(cls=None):
    return _wrap if cls is None else _wrap(cls)


def isParameterNodeWrapper(cls_or_object):
    return getattr(cls_or_object, "_is_parameter_node_wrapper", False)
