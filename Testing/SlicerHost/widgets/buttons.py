"""CTK's buttons and check boxes."""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QColor, QIcon, QPixmap
from PySide6.QtWidgets import QCheckBox, QPushButton, QStyle, QStyleOptionButton, QStylePainter, QToolButton

from ..qt_names import stands_for


@stands_for("ctkCheckBox")
class CheckBox(QCheckBox):
    def indicatorIcon(self):
        return getattr(self, "_indicator_icon", QIcon())

    def setIndicatorIcon(self, icon):
        self._indicator_icon = icon

    def indicatorIconSize(self):
        return getattr(self, "_indicator_size", QSize())

    def setIndicatorIconSize(self, size):
        self._indicator_size = size


@stands_for("ctkPushButton")
class PushButton(QPushButton):
    def __init__(self, parent=None):
        super().__init__(parent)
        self._text_alignment, self._icon_alignment = Qt.AlignCenter, Qt.AlignLeft | Qt.AlignVCenter
        self._elide = Qt.ElideNone

    def buttonTextAlignment(self):
        return self._text_alignment

    def setButtonTextAlignment(self, alignment):
        self._text_alignment = alignment

    def iconAlignment(self):
        return self._icon_alignment

    def setIconAlignment(self, alignment):
        self._icon_alignment = alignment

    def elideMode(self):
        return self._elide

    def setElideMode(self, mode):
        self._elide = mode


@stands_for("ctkCheckablePushButton", {"checkStateChanged(Qt::CheckState)": "checkStateChanged"})
class CheckablePushButton(PushButton):
    checkBoxToggled = Signal(bool)
    checkStateChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._controls_button, self._controls_toggle = True, False
        self._user_checkable = True
        self._state = Qt.Unchecked
        self._indicator = Qt.AlignLeft | Qt.AlignVCenter

    def checkBoxControlsButton(self):
        return self._controls_button

    def setCheckBoxControlsButton(self, controls):
        self._controls_button = controls

    def checkBoxControlsButtonToggleState(self):
        return self._controls_toggle

    def setCheckBoxControlsButtonToggleState(self, controls):
        self._controls_toggle = controls

    def isCheckBoxUserCheckable(self):
        return self._user_checkable

    checkBoxUserCheckable = isCheckBoxUserCheckable

    def setCheckBoxUserCheckable(self, checkable):
        self._user_checkable = checkable

    def checkState(self):
        return self._state

    def setCheckState(self, state):
        if state == self._state:
            return
        self._state = state
        self.update()
        self.checkStateChanged.emit(state)
        self.checkBoxToggled.emit(state == Qt.Checked)

    def indicatorAlignment(self):
        return self._indicator

    def setIndicatorAlignment(self, alignment):
        self._indicator = alignment


@stands_for("ctkMenuButton")
class MenuButton(QPushButton):
    """A push button with a small arrow of its own that opens the menu."""

    ARROW = 18

    def sizeHint(self):
        return super().sizeHint() + QSize(self.ARROW, 0)

    def mousePressEvent(self, event):
        if self.menu() is not None and event.position().x() >= self.width() - self.ARROW:
            self.showMenu()
            return
        menu = self.menu()
        self.setMenu(None)  # a press beside the arrow is a click, it does not open the menu
        super().mousePressEvent(event)
        self.setMenu(menu)

    def paintEvent(self, event):
        painter = QStylePainter(self)
        option = QStyleOptionButton()
        self.initStyleOption(option)
        option.features &= ~QStyleOptionButton.HasMenu
        painter.drawControl(QStyle.CE_PushButton, option)
        arrow = QStyleOptionButton()
        arrow.initFrom(self)
        arrow.rect = self.rect().adjusted(self.width() - self.ARROW + 4, 0, -4, 0)
        arrow.rect.setHeight(10)
        arrow.rect.moveTop((self.height() - 10) // 2)
        painter.drawPrimitive(QStyle.PE_IndicatorArrowDown, arrow)


@stands_for("ctkExpandButton")
class ExpandButton(QToolButton):
    def __init__(self, parent=None):
        super().__init__(parent)
        self.setCheckable(True)
        self.setArrowType(Qt.RightArrow)
        self._orientation, self._mirror = Qt.Horizontal, True
        self.toggled.connect(lambda on: self.setArrowType(Qt.LeftArrow if on and self._mirror else Qt.RightArrow))

    def orientation(self):
        return self._orientation

    def setOrientation(self, orientation):
        self._orientation = orientation

    def mirrorOnExpand(self):
        return self._mirror

    def setMirrorOnExpand(self, mirror):
        self._mirror = mirror


@stands_for("ctkColorPickerButton")
class ColorPickerButton(QPushButton):
    colorChanged = Signal(QColor)
    colorNameChanged = Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._color, self._name, self._show_name = QColor(Qt.black), "", True
        self._options = 0
        self._show()

    def _show(self):
        swatch = QPixmap(16, 16)
        swatch.fill(self._color)
        self.setIcon(QIcon(swatch))
        self.setText((self._name or self._color.name()) if self._show_name else "")

    def color(self):
        return self._color

    def setColor(self, color):
        if color == self._color:
            return
        self._color = color
        self._show()
        self.colorChanged.emit(color)

    def colorName(self):
        return self._name

    def setColorName(self, name):
        if name != self._name:
            self._name = name
            self._show()
            self.colorNameChanged.emit(name)

    def displayColorName(self):
        return self._show_name

    def setDisplayColorName(self, show):
        self._show_name = show
        self._show()

    def dialogOptions(self):
        return self._options

    def setDialogOptions(self, options):
        self._options = options
