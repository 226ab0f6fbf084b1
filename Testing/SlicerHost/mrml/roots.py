"""qMRMLWidget and qSlicerWidget: widgets that hand a scene on."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from ..qt_names import stands_for

SCENE_SIGNAL = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}


@stands_for("qMRMLWidget", SCENE_SIGNAL)
class MRMLWidget(QWidget):
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


@stands_for("qSlicerWidget", SCENE_SIGNAL)
class SlicerWidget(MRMLWidget):
    pass
