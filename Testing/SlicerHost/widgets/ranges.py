"""ctkRangeWidget."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QSlider

from ..qt_names import stands_for
from .scales import Ranged
from .spin_boxes import Spin


@stands_for("ctkRangeWidget")
class RangeWidget(Ranged):
    """Two numbers of a range: a spin box for each and a slider between them."""

    minimumValueChanged = Signal(float)
    minimumValueIsChanging = Signal(float)
    maximumValueChanged = Signal(float)
    maximumValueIsChanging = Signal(float)
    valuesChanged = Signal(float, float)
    rangeChanged = Signal(float, float)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.low, self.slider, self.high = Spin(self), QSlider(Qt.Horizontal, self), Spin(self)
        self.slider.setEnabled(False)
        for part in (self.low, self.slider, self.high):
            layout.addWidget(part)
        self._range, self._values = [0.0, 99.0], [0.0, 99.0]
        self._symmetric, self._auto_width = False, True
        self._show()
        self.low.valueChanged.connect(lambda value: self.setValues(value, self._values[1]))
        self.high.valueChanged.connect(lambda value: self.setValues(self._values[0], value))

    def _show(self):
        for spin, value in ((self.low, self._values[0]), (self.high, self._values[1])):
            spin.blockSignals(True)
            spin.setMinimum(self._range[0])
            spin.setMaximum(self._range[1])
            spin.setValue(value)
            spin.blockSignals(False)

    def setValues(self, low, high):
        inside = [min(max(value, self._range[0]), self._range[1]) for value in sorted((low, high))]
        before, self._values = self._values, inside
        self._show()
        if inside[0] != before[0]:
            self.minimumValueChanged.emit(inside[0])
        if inside[1] != before[1]:
            self.maximumValueChanged.emit(inside[1])
        if inside != before:
            self.valuesChanged.emit(*inside)

    def minimumValue(self):
        return self._values[0]

    def setMinimumValue(self, value):
        self.setValues(value, max(value, self._values[1]))

    def maximumValue(self):
        return self._values[1]

    def setMaximumValue(self, value):
        self.setValues(min(value, self._values[0]), value)

    def minimum(self):
        return self._range[0]

    def setMinimum(self, value):
        self.setRange(value, max(value, self._range[1]))

    def maximum(self):
        return self._range[1]

    def setMaximum(self, value):
        self.setRange(min(value, self._range[0]), value)

    def setRange(self, low, high):
        if [low, high] != self._range:
            self._range = [low, high]
            self.rangeChanged.emit(low, high)
            self.setValues(*self._values)

    def reset(self):
        self.setValues(*self._range)

    def decimals(self):
        return self.low.decimals()

    def setDecimals(self, decimals):
        self.low.setDecimals(decimals)
        self.high.setDecimals(decimals)

    def prefix(self):
        return self.low.prefix()

    def setPrefix(self, prefix):
        self.low.setPrefix(prefix)
        self.high.setPrefix(prefix)

    def suffix(self):
        return self.low.suffix()

    def setSuffix(self, suffix):
        self.low.setSuffix(suffix)
        self.high.setSuffix(suffix)

    def symmetricMoves(self):
        return self._symmetric

    def setSymmetricMoves(self, symmetric):
        self._symmetric = symmetric
