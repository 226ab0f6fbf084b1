"""slicer.app: one QApplication with Slicer's scene, managers and settings."""

import os
import sys
import tempfile

from PySide6.QtCore import QCoreApplication, QObject, QProcessEnvironment, QSettings, Signal
from PySide6.QtWidgets import QApplication, QMainWindow

from .qt_names import stands_for
from .wrapper import static_override

# What the host claims to be; the wheel slicer-core gives MRML of about this version.
VERSION = (5, 13, 0)


@stands_for("qSlicerModuleManager")
class ModuleManager(QObject):
    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.modules = {}

    def module(self, name):
        return self.modules.get(name)

    def modulesNames(self):
        return list(self.modules)


@stands_for("qSlicerMainWindow")
class MainWindow(QMainWindow):
    initialWindowShown = Signal()

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setObjectName("qSlicerMainWindow")
        self.statusBar()


@stands_for("qSlicerApplication", {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"})
class Application(QApplication):
    startupCompleted = Signal()
    renderPaused = Signal(bool)
    mrmlSceneChanged = Signal(object)
    testing = False

    def __init__(self):
        super().__init__([sys.argv[0] or "SlicerHost"])
        self._folder = tempfile.TemporaryDirectory(prefix="slicerhost-")
        self.setApplicationName("Slicer")
        self.setOrganizationName("NA-MIC")
        QSettings.setDefaultFormat(QSettings.IniFormat)
        QSettings.setPath(QSettings.IniFormat, QSettings.UserScope, self._folder.name)
        self.setQuitOnLastWindowClosed(False)
        self.logics = self.layout_manager = self.main_window = None
        self.module_manager = ModuleManager(self)
        self._environment = QProcessEnvironment.systemEnvironment()
        self._io_manager = None
        self._temporary_path = self._folder.name

    def cache_folder(self):
        """Slicer's cache for downloads; SSLFEWSHOT_HOST_CACHE lets it outlive the run."""
        folder = os.environ.get("SSLFEWSHOT_HOST_CACHE") or os.path.join(self._folder.name, "cache")
        os.makedirs(folder, exist_ok=True)
        return folder

    def close_down(self):
        """Remove the settings and temporary files of this run."""
        self._folder.cleanup()

    @staticmethod
    def testingEnabled():
        return Application.testing

    def mrmlScene(self):
        return self.logics.scene

    def applicationLogic(self):
        return self.logics.application

    def moduleLogic(self, name):
        return self.logics.by_module.get(name)

    def moduleManager(self):
        return self.module_manager

    def layoutManager(self):
        return self.layout_manager

    def coreIOManager(self):
        if self._io_manager is None:
            from .files import FileManager

            self._io_manager = FileManager(self)
        return self._io_manager

    ioManager = coreIOManager

    def settings(self):
        return QSettings()

    userSettings = revisionUserSettings = defaultSettings = settings

    def startupEnvironment(self):
        return self._environment

    environment = startupEnvironment

    def temporaryPath(self):
        return self._temporary_path

    def setTemporaryPath(self, path):
        self._temporary_path = path

    def slicerHome(self):
        return self._folder.name

    def mainApplicationName(self):
        return "Slicer"

    mainApplicationDisplayName = mainApplicationName

    def majorVersion(self):
        return VERSION[0]

    mainApplicationMajorVersion = majorVersion

    def minorVersion(self):
        return VERSION[1]

    mainApplicationMinorVersion = minorVersion

    def repositoryRevision(self):
        return "0"

    mainApplicationRepositoryRevision = revision = mainApplicationRevision = repositoryRevision

    def applicationVersion(self):
        return ".".join(str(part) for part in VERSION)

    def isInstalled(self):
        return False

    def documentationBaseUrl(self):
        return "https://slicer.readthedocs.io/en/latest/"

    def moduleDocumentationUrl(self, name):
        return f"{self.documentationBaseUrl()}user_guide/modules/{name.lower()}.html"

    def launcherExecutableFilePath(self):
        return os.path.realpath(sys.executable)

    def setRenderPaused(self, pause):
        self.renderPaused.emit(pause)

    def pauseRender(self):
        self.setRenderPaused(True)

    def resumeRender(self):
        self.setRenderPaused(False)

    def pythonConsole(self):
        return None

    def logUsageEvent(self, component, event):
        """Usage is not logged."""

    def openNodeModule(self, node, role="", context=""):
        """Another module would open; the host has only the one under test."""


@static_override("QCoreApplication", "translate")
def _translate(context, text, *_):
    return str(text)


@static_override("QCoreApplication", "processEvents")
def _process_events(*_):
    QCoreApplication.processEvents()
