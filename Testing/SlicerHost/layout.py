"""slicer.app.layoutManager(): three slice views that hold their nodes and logics, without a window."""

import vtk
from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QWidget

from .qt_names import stands_for


@stands_for("qMRMLSliceView")
class SliceView(QWidget):
    def __init__(self, parent=None, logic=None):
        super().__init__(parent)
        self._logic = logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode() if self._logic else None

    def forceRender(self):
        """Nothing to draw: the host has no views."""

    scheduleRender = forceRender


@stands_for("qMRMLSliceWidget")
class SliceWidget(QWidget):
    def __init__(self, parent=None, logic=None):
        super().__init__(parent)
        self._logic = logic
        self._view = SliceView(self, logic)

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    mrmlAbstractViewNode = mrmlSliceNode

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def sliceView(self):
        return self._view

    def sliceViewName(self):
        return self._logic.GetSliceNode().GetLayoutName()

    def sliceOrientation(self):
        return self._logic.GetSliceNode().GetOrientation()

    def setSliceOrientation(self, orientation):
        self._logic.GetSliceNode().SetOrientation(orientation)

    def fitSliceToBackground(self):
        self._logic.FitSliceToBackground()


@stands_for("qSlicerLayoutManager")
class LayoutManager(QObject):
    layoutChanged = Signal(int)

    def __init__(self, parent, logics):
        super().__init__(parent)
        self._logics, self._layout = logics, 3
        self._widgets = {name: SliceWidget(None, logic) for name, logic in logics.slices.items()}

    def sliceViewNames(self):
        return list(self._widgets)

    def sliceWidget(self, name):
        return self._widgets.get(name)

    def mrmlSliceLogics(self):
        collection = vtk.vtkCollection()
        for logic in self._logics.slices.values():
            collection.AddItem(logic)
        return collection

    def mrmlScene(self):
        return self._logics.scene

    def layout(self):
        return self._layout

    def setLayout(self, layout):
        if layout != self._layout:
            self._layout = layout
            self.layoutChanged.emit(layout)

    def resetSliceViews(self):
        for logic in self._logics.slices.values():
            logic.FitSliceToAll()

    def threeDViewCount(self):
        return 0

    tableViewCount = plotViewCount = threeDViewCount

    def _nothing(self, *_):
        """No view to render or to reset."""

    resetThreeDViews = pauseRender = resumeRender = setRenderPaused = _nothing
