"""ctkDoubleSpinBox, ctkSliderWidget, ctkDoubleSlider and ctkRangeWidget."""

import math

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QSizePolicy, QSlider, QWidget

from ..qt_names import stands_for

STEPS = 10000


class _Spin(QDoubleSpinBox):
    """Takes infinite limits without asking for the room to write them."""

    def sizeHint(self):
        hint = super().sizeHint()
        hint.setWidth(min(hint.width(), 120))
        return hint

    def minimumSizeHint(self):
        hint = super().minimumSizeHint()
        hint.setWidth(min(hint.width(), 70))
        return hint


@stands_for("ctkDoubleSpinBox", {"valueChanged(double)": "valueChanged", "valueChanged(QString)": "textChanged"})
class DoubleSpinBox(QWidget):
    valueChanged = Signal(float)
    textChanged = Signal(str)
    editingFinished = Signal()
    decimalsChanged = Signal(int)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.spin = _Spin(self)
        layout.addWidget(self.spin)
        self.setSizePolicy(QSizePolicy.Preferred, QSizePolicy.Fixed)
        self._options, self._set_mode, self._hint_policy, self._inverted = 4, 1, 0, False
        self.spin.valueChanged.connect(self.valueChanged)
        self.spin.textChanged.connect(self.textChanged)
        self.spin.editingFinished.connect(self.editingFinished)

    def __getattr__(self, name):
        # The rest is Qt's spin box's own.
        if name in FORWARDED:
            return getattr(self.spin, name)
        raise AttributeError(name)

    def isReadOnly(self):
        return self.spin.isReadOnly()

    def frame(self):
        return self.spin.hasFrame()

    def invertedControls(self):
        return self._inverted

    def setInvertedControls(self, inverted):
        self._inverted = inverted

    def isSettingValue(self):
        return False

    def setDecimals(self, decimals):
        if decimals != self.spin.decimals():
            self.spin.setDecimals(decimals)
            self.decimalsChanged.emit(decimals)

    def decimalsOption(self):
        return self._options

    def setDecimalsOption(self, options):
        self._options = options

    def setMode(self):
        return self._set_mode

    def setSetMode(self, mode):
        self._set_mode = mode

    def sizeHintPolicy(self):
        return self._hint_policy

    def setSizeHintPolicy(self, policy):
        self._hint_policy = policy

    def setValueIfDifferent(self, value):
        self.spin.setValue(value)

    setValueAlways = setValueIfDifferent


FORWARDED = {
    *[
        "alignment",
        "setAlignment",
        "cleanText",
        "decimals",
        "setFrame",
        "maximum",
        "setMaximum",
        "minimum",
        "setMinimum",
        "prefix",
        "setPrefix",
    ],
    *[
        "setReadOnly",
        "singleStep",
        "setSingleStep",
        "suffix",
        "setSuffix",
        "value",
        "setValue",
        "stepUp",
        "stepDown",
    ],
}


class _Scale:
    """Between a slider's whole numbers and doubles."""

    def __init__(self, slider):
        self.slider, self.low, self.high = slider, 0.0, 99.0
        slider.setRange(0, STEPS)

    def position(self, value):
        if not math.isfinite(self.high - self.low) or self.high <= self.low:
            return 0
        return round((value - self.low) / (self.high - self.low) * STEPS)

    def value(self, position):
        if not math.isfinite(self.high - self.low):
            return self.low
        return self.low + (self.high - self.low) * position / STEPS


class _Ranged(QWidget):
    """minimum, maximum, steps and ticks, kept by name: what the slider widgets share."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self._step, self._page, self._tick, self._ticks = 1.0, 10.0, 0.0, QSlider.NoTicks
        self._tracking, self._inverted, self._inverted_controls = True, False, False

    def singleStep(self):
        return self._step

    def setSingleStep(self, step):
        self._step = step

    def pageStep(self):
        return self._page

    def setPageStep(self, step):
        self._page = step

    def tickInterval(self):
        return self._tick

    def setTickInterval(self, interval):
        self._tick = interval

    def tickPosition(self):
        return self._ticks

    def setTickPosition(self, position):
        self._ticks = position

    def tracking(self):
        return self._tracking

    hasTracking = tracking

    def setTracking(self, tracking):
        self._tracking = tracking

    def invertedAppearance(self):
        return self._inverted

    def setInvertedAppearance(self, inverted):
        self._inverted = inverted

    def invertedControls(self):
        return self._inverted_controls

    def setInvertedControls(self, inverted):
        self._inverted_controls = inverted


@stands_for("ctkSliderWidget")
class SliderWidget(_Ranged):
    """A slider and a spin box for one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.slider = QSlider(Qt.Horizontal, self)
        self.spin = _Spin(self)
        self.spin.setRange(0.0, 99.0)
        layout.addWidget(self.slider)
        layout.addWidget(self.spin)
        self._scale, self._popup, self._siblings = _Scale(self.slider), False, 3
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
class DoubleSlider(_Ranged):
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
        self._scale, self._value = _Scale(self.slider), 0.0
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


@stands_for("ctkRangeWidget")
class RangeWidget(_Ranged):
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
        self.low, self.slider, self.high = _Spin(self), QSlider(Qt.Horizontal, self), _Spin(self)
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
