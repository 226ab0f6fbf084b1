"""ctkDoubleSpinBox, and the spin box inside CTK's sliders."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QSizePolicy, QWidget

from ..qt_names import stands_for


class Spin(QDoubleSpinBox):
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
        self.spin = Spin(self)
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
