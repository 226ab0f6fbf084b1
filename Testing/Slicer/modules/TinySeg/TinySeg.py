"""A small module, built as Slicer's extension wizard builds one: what the host is tried on."""

from typing import Annotated, Optional

import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class TinySeg(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("TinySeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.contributors = ["SSLFewShot contributors"]
        self.parent.helpText = _("Thresholds a volume.")


@parameterNodeWrapper
class TinySegParameterNode:
    volume: Optional[vtkMRMLScalarVolumeNode]  # noqa: UP045  (as the wizard writes it)
    segmentation: vtkMRMLSegmentationNode
    threshold: Annotated[float, WithinRange(0, 200)] = 100
    invert: bool = False


class TinySegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.parameters = self.guiTag = None
        self.events = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/TinySeg.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = TinySegLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.ui.segmentationSelector.connect(
            "currentNodeChanged(vtkMRMLNode*)", self.ui.segmentsTable.setSegmentationNode
        )
        self.initializeParameterNode()

    def cleanup(self):
        self.events.append("cleanup")
        # A reload comes without exit: the widgets go, and the node is observed on.
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.events.append("enter")
        self.initializeParameterNode()

    def exit(self):
        self.events.append("exit")
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameters):
        if self.parameters:
            self.parameters.disconnectGui(self.guiTag)
            self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self.checkCanApply)
        self.parameters = parameters
        if self.parameters:
            self.guiTag = self.parameters.connectGui(self.ui)
            self.addObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self.checkCanApply)
            self.checkCanApply()

    def checkCanApply(self, caller=None, event=None):
        self.ui.applyButton.enabled = bool(
            self.parameters and self.parameters.volume and self.parameters.segmentation
        )

    def onApply(self):
        with slicer.util.tryWithErrorDisplay(_("Failed to compute results."), waitCursor=True):
            self.logic.process(
                self.parameters.volume,
                self.parameters.segmentation,
                self.parameters.threshold,
                self.parameters.invert,
            )


class TinySegLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return TinySegParameterNode(super().getParameterNode())

    def process(self, volume, segmentation, threshold, invert):
        array = slicer.util.arrayFromVolume(volume)
        mask = (array < threshold) if invert else (array >= threshold)
        if segmentation.GetDisplayNode() is None:
            segmentation.CreateDefaultDisplayNodes()
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        segmentId = segmentation.GetSegmentation().AddEmptySegment("", "thresholded", [0.2, 0.9, 0.3])
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype("uint8"), segmentation, segmentId, volume)
        return segmentId


class TinySegTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        self.setUp()
        self.test_threshold()

    def test_threshold(self):
        import numpy as np

        self.delayDisplay("Starting the test")
        volume = slicer.util.addVolumeFromArray(np.arange(27.0).reshape(3, 3, 3))
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        segmentId = TinySegLogic().process(volume, segmentation, 20, False)
        found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentId, volume)
        self.assertEqual(int(found.sum()), 7)
