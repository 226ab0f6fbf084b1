"""What CTK's sliders for real numbers have in common: a scale of whole numbers, and their settings."""

import math

from PySide6.QtWidgets import QSizePolicy, QSlider, QWidget

STEPS = 10000


class Scale:
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


class Ranged(QWidget):
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
