"""Modules as the application holds them, and the panel of a scripted one."""

import importlib.util
import sys
from pathlib import Path

import slicer
from PySide6.QtCore import QObject
from PySide6.QtGui import QIcon, QImage
from PySide6.QtWidgets import QVBoxLayout

from .conversion import to_python
from .mrml.roots import SlicerWidget
from .qt_names import stands_for


class _Module(QObject):
    def __init__(self, name, logic=None, path=""):
        super().__init__()
        self._name, self._logic, self._path = name, logic, path

    def name(self):
        return self._name

    def path(self):
        return self._path

    def logic(self):
        return self._logic

    def mrmlScene(self):
        return slicer.mrmlScene

    def isBuiltIn(self):
        return False

    isInstalled = isBuiltIn

    def widgetRepresentation(self):
        return None

    createNewWidgetRepresentation = widgetRepresentation


@stands_for("qSlicerLoadableModule")
class LoadableModule(_Module):
    """One of Slicer's own modules: its logic is real, its panel is not here."""

    def title(self):
        return self._name


# Property: what it holds before the module file has set it.
DESCRIPTION = {
    **dict.fromkeys(("title", "helpText", "acknowledgementText"), ""),
    **{name: [] for name in ("categories", "contributors", "dependencies", "associatedNodeTypes")},
    **{"hidden": False, "index": -1, "icon": None, "extensions": {}},
}


@stands_for("qSlicerScriptedLoadableModule")
class ScriptedModule(_Module):
    """A module in Python: the real file is imported, and described by its own class."""

    def __init__(self, path):
        super().__init__(Path(path).stem, path=str(path))
        self._described = dict(DESCRIPTION, icon=QIcon())
        self._panel = None
        self.instance = None

    def load(self):
        """Import the file and make its description; what Slicer does at start."""
        folder = str(Path(self._path).parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        spec = importlib.util.spec_from_file_location(self._name, self._path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[self._name] = module
        spec.loader.exec_module(module)
        self.instance = getattr(module, self._name)(to_python(self))
        setattr(slicer.modules, f"{self._name}Instance", self.instance)

    def logo(self):
        return QImage()

    def widgetRepresentation(self):
        if self._panel is None:
            self._panel = ScriptedModuleWidget()
            self._panel.start(self)
        return self._panel

    def createNewWidgetRepresentation(self):
        panel = ScriptedModuleWidget()
        panel.start(self)
        return panel

    def close_panel(self):
        if self._panel is not None:
            self._panel.leave()
            self._panel.deleteLater()
            self._panel = None


def _described(name):
    def read(self):
        return self._described[name]

    def write(self, value):
        self._described[name] = value

    setattr(ScriptedModule, "isHidden" if name == "hidden" else name, read)
    setattr(ScriptedModule, f"set{name[0].upper()}{name[1:]}", write)


for _name in DESCRIPTION:
    _described(_name)


@stands_for("qSlicerScriptedLoadableModuleWidget", {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"})
class ScriptedModuleWidget(SlicerWidget):
    """The widget that a module's panel is built in."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._module = self._python = None
        self._entered = False
        QVBoxLayout(self)

    def start(self, module):
        self._module = module
        self.setObjectName(f"{module.name()}ModuleWidget")
        self.setMRMLScene(slicer.mrmlScene)
        self._build()

    def _build(self):
        name = f"{self._module.name()}Widget"
        self._python = getattr(sys.modules[self._module.name()], name)(to_python(self))
        setattr(slicer.modules, name, self._python)
        self._python.setup()

    def reload(self):
        self._build()
        if self._entered and hasattr(self._python, "enter"):
            self._python.enter()

    def self(self):
        return self._python

    def moduleName(self):
        return self._module.name()

    def module(self):
        return self._module

    def isEntered(self):
        return self._entered

    def enter(self):
        self._entered = True
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self):
        self._entered = False
        if hasattr(self._python, "exit"):
            self._python.exit()

    leave = exit
