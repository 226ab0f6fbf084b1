"""ctkSliderWidget and ctkDoubleSlider."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QSlider

from ..qt_names import stands_for
from .scales import Ranged, Scale
from .spin_boxes import Spin


@stands_for("ctkSliderWidget")
class SliderWidget(Ranged):
    """A slider and a spin box for one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.slider = QSlider(Qt.Horizontal, self)
        self.spin = Spin(self)
        self.spin.setRange(0.0, 99.0)
        layout.addWidget(self.slider)
        layout.addWidget(self.spin)
        self._scale, self._popup, self._siblings = Scale(self.slider), False, 3
        self.spin.valueChanged.connect(self._on_spin)
        self.slider.valueChanged.connect(self._on_slider)

    def _on_spin(self, value):
        self.slider.blockSignals(True)
        self.slider.setValue(self._scale.position(value))
        self.slider.blockSignals(False)
        self.valueChanged.emit(value)

    def _on_slider(self, position):
        value = self._scale.value(position)
        if self._step:
            value = self._scale.low + round((value - self._scale.low) / self._step) * self._step
        self.spin.setValue(value)

    def value(self):
        return self.spin.value()

    def setValue(self, value):
        self.spin.setValue(value)

    def minimum(self):
        return self._scale.low

    def setMinimum(self, value):
        self._scale.low = value
        self._scale.high = max(self._scale.high, value)
        self._rescale()

    def maximum(self):
        return self._scale.high

    def setMaximum(self, value):
        self._scale.high = value
        self._scale.low = min(self._scale.low, value)
        self._rescale()

    def _rescale(self):
        self.spin.setMinimum(self._scale.low)
        self.spin.setMaximum(self._scale.high)
        self.slider.blockSignals(True)
        self.slider.setValue(self._scale.position(self.spin.value()))
        self.slider.blockSignals(False)

    def reset(self):
        self.setValue(max(0.0, self._scale.low))

    def decimals(self):
        return self.spin.decimals()

    def setDecimals(self, decimals):
        if decimals != self.spin.decimals():
            self.spin.setDecimals(decimals)
            self.decimalsChanged.emit(decimals)

    def setSingleStep(self, step):
        super().setSingleStep(step)
        self.spin.setSingleStep(step)

    def prefix(self):
        return self.spin.prefix()

    def setPrefix(self, prefix):
        self.spin.setPrefix(prefix)

    def suffix(self):
        return self.spin.suffix()

    def setSuffix(self, suffix):
        self.spin.setSuffix(suffix)

    def spinBoxAlignment(self):
        return self.spin.alignment()

    def setSpinBoxAlignment(self, alignment):
        self.spin.setAlignment(alignment)

    def isSpinBoxVisible(self):
        return not self.spin.isHidden()

    def setSpinBoxVisible(self, visible):
        self.spin.setVisible(visible)

    def hasPopupSlider(self):
        return self._popup

    def setPopupSlider(self, popup):
        self._popup = popup

    def synchronizeSiblings(self):
        return self._siblings

    def setSynchronizeSiblings(self, siblings):
        self._siblings = siblings


@stands_for("ctkDoubleSlider")
class DoubleSlider(Ranged):
    valueChanged = Signal(float)
    sliderMoved = Signal(float)
    sliderPressed = Signal()
    sliderReleased = Signal()
    rangeChanged = Signal(float, float)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.slider = QSlider(Qt.Horizontal, self)
        layout.addWidget(self.slider)
        self._scale, self._value = Scale(self.slider), 0.0
        self.slider.valueChanged.connect(lambda position: self._set(self._scale.value(position)))
        self.slider.sliderMoved.connect(lambda position: self.sliderMoved.emit(self._scale.value(position)))
        self.slider.sliderPressed.connect(self.sliderPressed)
        self.slider.sliderReleased.connect(self.sliderReleased)

    def _set(self, value):
        value = min(max(value, self._scale.low), self._scale.high)
        if value != self._value:
            self._value = value
            self.valueChanged.emit(value)

    def value(self):
        return self._value

    sliderPosition = value

    def setValue(self, value):
        self._set(value)
        self.slider.blockSignals(True)
        self.slider.setValue(self._scale.position(self._value))
        self.slider.blockSignals(False)

    setSliderPosition = setValue

    def minimum(self):
        return self._scale.low

    def maximum(self):
        return self._scale.high

    def setMinimum(self, value):
        self._set_range(value, max(value, self._scale.high))

    def setMaximum(self, value):
        self._set_range(min(value, self._scale.low), value)

    def _set_range(self, low, high):
        if (low, high) != (self._scale.low, self._scale.high):
            self._scale.low, self._scale.high = low, high
            self.rangeChanged.emit(low, high)
            self.setValue(self._value)

    def orientation(self):
        return self.slider.orientation()

    def setOrientation(self, orientation):
        self.slider.setOrientation(orientation)

    def handleToolTip(self):
        return self.slider.toolTip()

    def setHandleToolTip(self, text):
        self.slider.setToolTip(text)
