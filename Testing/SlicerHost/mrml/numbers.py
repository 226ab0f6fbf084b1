"""qMRMLSliderWidget, qMRMLSpinBox and qMRMLRangeWidget: CTK's, which also know a scene and its units."""

from PySide6.QtCore import Signal

from ..qt_names import stands_for
from ..widgets.ranges import RangeWidget
from ..widgets.sliders import SliderWidget
from ..widgets.spin_boxes import DoubleSpinBox
from .roots import SCENE_SIGNAL


class _InScene:
    def mrmlScene(self):
        return self.__dict__.get("scene")

    def setMRMLScene(self, scene):
        self.scene = scene
        self.mrmlSceneChanged.emit(scene)

    def quantity(self):
        return self.__dict__.get("kept_quantity", "")

    def setQuantity(self, quantity):
        self.kept_quantity = quantity

    def unitAwareProperties(self):
        return self.__dict__.get("kept_unit_aware", 0)

    def setUnitAwareProperties(self, flags):
        self.kept_unit_aware = flags


@stands_for("qMRMLSliderWidget", SCENE_SIGNAL)
class MRMLSliderWidget(_InScene, SliderWidget):
    mrmlSceneChanged = Signal(object)


@stands_for("qMRMLSpinBox", SCENE_SIGNAL)
class MRMLSpinBox(_InScene, DoubleSpinBox):
    mrmlSceneChanged = Signal(object)


@stands_for("qMRMLRangeWidget", SCENE_SIGNAL)
class MRMLRangeWidget(_InScene, RangeWidget):
    mrmlSceneChanged = Signal(object)
