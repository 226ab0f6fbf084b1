"""SSLFewShot: mark one scan, get the rest. The module's entry; what it does lies in SSLFewShotSlicer."""

# ruff: noqa: N802 - names that Slicer calls

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin
from SSLFewShotSlicer.console import ConsoleApi
from SSLFewShotSlicer.panel import Panel
from SSLFewShotSlicer.parameters import SSLFewShotParameters
from SSLFewShotSlicer.worker_session import close_shared_session


class SSLFewShot(ScriptedLoadableModule):
    """What Slicer shows of the module in its lists."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("SSLFewShot")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["SSLFewShot contributors"]
        self.parent.helpText = _(
            "Label one scan, get the rest: mark structures on one CT or MR scan, and have them found on others. "
            "All is computed on this computer, or on one that you name; nothing is sent anywhere else."
        )
        self.parent.acknowledgementText = _(
            "Self-supervised descriptors after Blendowski, Nickisch and Heinrich, How to learn from unlabeled "
            "volume data: self-supervised 3D context feature learning (MICCAI 2019)."
        )
        slicer.app.connect("startupCompleted()", register_sample_data)


class SSLFewShotWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel, and what Slicer tells it."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None

    def setup(self):
        """Called once, when the module is first opened."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = SSLFewShotLogic()
        self.panel = Panel(self.logic)
        self.layout.addWidget(self.panel.root)
        self.panel.set_scene(slicer.mrmlScene)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self):
        """Called when the application quits or the module is reloaded."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.close()
            self.panel = None
        close_shared_session()

    def enter(self):
        """Called each time the module is opened."""
        if self.panel is not None:
            self.initializeParameterNode()
            self.panel.enter()

    def exit(self):
        """Called each time another module is opened."""
        if self.panel is not None:
            self.panel.leave()

    def onSceneStartClose(self, caller, event):
        """Called just before the scene is closed."""
        self.panel.scene_closing()

    def onSceneEndClose(self, caller, event):
        """Called just after the scene is closed."""
        self.initializeParameterNode()

    def onSceneEndImport(self, caller, event):
        """Called just after a scene was loaded.

        Slicer's wrapper of the choices has read them before the nodes that they name were there, and reads them
        again only when they change: a new one is made.
        """
        self.panel.set_parameters(None)
        self.initializeParameterNode()

    def initializeParameterNode(self):
        """Make sure that the user's choices are there and shown."""
        if self.panel.parameters is None:
            self.panel.set_parameters(self.logic.getParameterNode())

    def onReload(self):
        """Called by the developer's button: reads module and packages anew."""
        from SSLFewShotSlicer.reloading import forget_packages

        self.cleanup()
        forget_packages()
        ScriptedLoadableModuleWidget.onReload(self)


class SSLFewShotLogic(ScriptedLoadableModuleLogic, ConsoleApi):
    """The module's work without its panel; see `ConsoleApi` for what scripts call."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)

    def getParameterNode(self):
        """The user's choices, as they are saved with the scene."""
        return SSLFewShotParameters(super().getParameterNode())


class SSLFewShotTest(ScriptedLoadableModuleTest):
    """The self-test, for Reload and Test and for ctest."""

    def setUp(self):
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run all of it; see `SSLFewShotSlicer.self_test`."""
        from SSLFewShotSlicer.self_test import run_self_test

        self.setUp()
        run_self_test(SSLFewShotLogic(), self.delayDisplay)


def register_sample_data():
    """List the samples in the module Sample Data."""
    from SSLFewShotSlicer import sample_data

    sample_data.register()
