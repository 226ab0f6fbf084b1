"""ctkCollapsibleButton and ctkCollapsibleGroupBox: sections that fold."""

from PySide6.QtCore import QEvent, QRect, QSize, Qt, Signal
from PySide6.QtWidgets import (
    QAbstractButton,
    QFrame,
    QGroupBox,
    QSizePolicy,
    QStyle,
    QStyleOption,
    QStyleOptionButton,
    QStyleOptionGroupBox,
    QStylePainter,
    QWidget,
)

from ..qt_names import stands_for

# What a child's own show() and hide() asked for, while the section is folded; CTK's own name for it.
ASKED_FOR = "visibilityToParent"

TEXT = (Qt.AlignLeft | Qt.AlignVCenter).value | Qt.TextShowMnemonic.value


class _Folding:
    """Hides the children while folded, and remembers which of them were hidden anyway."""

    def _start_folding(self):
        self._folded = False
        self._forcing = False

    def childEvent(self, event):
        if event.type() == QEvent.Type.ChildAdded and isinstance(event.child(), QWidget):
            event.child().installEventFilter(self)
        super().childEvent(event)

    def eventFilter(self, child, event):
        kind = event.type()
        if kind in (QEvent.Type.ShowToParent, QEvent.Type.HideToParent) and not self._forcing:
            child.setProperty(ASKED_FOR, kind == QEvent.Type.ShowToParent)
            self._fold_child(child)
        return False

    def _fold_child(self, child):
        if not self.testAttribute(Qt.WA_WState_Created):
            return
        asked_for = child.property(ASKED_FOR) is not False
        self._forcing = True
        child.setVisible(asked_for and not self._folded)
        if asked_for:
            child.setAttribute(Qt.WA_WState_ExplicitShowHide, False)
        self._forcing = False

    def _fold(self, folded):
        self._folded = folded
        for child in self.children():
            if isinstance(child, QWidget) and not child.isWindow():
                self._fold_child(child)
        self.setSizePolicy(
            self.sizePolicy().horizontalPolicy(), QSizePolicy.Fixed if folded else QSizePolicy.Preferred
        )
        self.updateGeometry()

    def showEvent(self, event):
        for child in self.children():
            if isinstance(child, QWidget) and not child.isWindow():
                self._fold_child(child)
        super().showEvent(event)


@stands_for("ctkCollapsibleButton")
class CollapsibleButton(_Folding, QAbstractButton):
    contentsCollapsed = Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._start_folding()
        self._flat = False
        self._collapsed_height = 0
        self._indicator = self._text_alignment = Qt.AlignLeft | Qt.AlignVCenter
        self._frame = [QFrame.NoFrame, QFrame.Plain, 1, 0]
        self.setSizePolicy(QSizePolicy.Preferred, QSizePolicy.Preferred)
        self.setCheckable(True)
        self.setChecked(True)
        self._set_header_margin()
        self.toggled.connect(self._on_toggled)

    def _header_height(self):
        return max(self.fontMetrics().height() + 8, self.style().pixelMetric(QStyle.PM_IndicatorHeight) + 8)

    def _set_header_margin(self):
        self.setContentsMargins(0, self._header_height(), 0, 0)

    def _on_toggled(self, checked):
        self._fold(not checked)
        self.contentsCollapsed.emit(not checked)

    def collapsed(self):
        return self._folded

    def setCollapsed(self, collapsed):
        if self.isCheckable():
            self.setChecked(not collapsed)
        elif collapsed != self._folded:
            self._on_toggled(not collapsed)

    def collapsedHeight(self):
        return self._collapsed_height

    def setCollapsedHeight(self, height):
        self._collapsed_height = height
        self.updateGeometry()

    def isFlat(self):
        return self._flat

    def setFlat(self, flat):
        self._flat = flat
        self.update()

    def indicatorAlignment(self):
        return self._indicator

    def setIndicatorAlignment(self, alignment):
        self._indicator = alignment
        self.update()

    def buttonTextAlignment(self):
        return self._text_alignment

    def setButtonTextAlignment(self, alignment):
        self._text_alignment = alignment
        self.update()

    def contentsFrameShape(self):
        return self._frame[0]

    def setContentsFrameShape(self, shape):
        self._frame[0] = shape

    def contentsFrameShadow(self):
        return self._frame[1]

    def setContentsFrameShadow(self, shadow):
        self._frame[1] = shadow

    def contentsLineWidth(self):
        return self._frame[2]

    def setContentsLineWidth(self, width):
        self._frame[2] = width

    def contentsMidLineWidth(self):
        return self._frame[3]

    def setContentsMidLineWidth(self, width):
        self._frame[3] = width

    def sizeHint(self):
        header = QSize(self.fontMetrics().horizontalAdvance(self.text()) + 40, self._header_height())
        if self._folded or self.layout() is None:
            return QSize(header.width(), header.height() + (self._collapsed_height if self._folded else 0))
        inside = self.layout().totalSizeHint()
        return QSize(max(header.width(), inside.width()), max(header.height(), inside.height()))

    def minimumSizeHint(self):
        if self._folded or self.layout() is None:
            return QSize(0, self._header_height())
        return self.layout().totalMinimumSize()

    def hitButton(self, position):
        return position.y() <= self._header_height()

    def paintEvent(self, event):
        painter = QStylePainter(self)
        height = self._header_height()
        option = QStyleOptionButton()
        option.initFrom(self)
        option.rect = QRect(0, 0, self.width(), height)
        option.state |= QStyle.State_Raised
        if self.isDown():
            option.state = (option.state & ~QStyle.State_Raised) | QStyle.State_Sunken
        if self._flat:
            option.features |= QStyleOptionButton.Flat
        painter.drawControl(QStyle.CE_PushButtonBevel, option)
        arrow = QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QRect(7, (height - 10) // 2, 10, 10)
        kind = QStyle.PE_IndicatorArrowRight if self._folded else QStyle.PE_IndicatorArrowDown
        painter.drawPrimitive(kind, arrow)
        text = QRect(24, 0, self.width() - 28, height)
        role = self.palette().ColorRole.ButtonText
        painter.drawItemText(text, TEXT, option.palette, self.isEnabled(), self.text(), role)


@stands_for("ctkCollapsibleGroupBox")
class CollapsibleGroupBox(_Folding, QGroupBox):
    def __init__(self, parent=None):
        super().__init__(parent)
        self._start_folding()
        self._collapsed_height = 14
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(lambda checked: self._fold(not checked))

    def collapsed(self):
        return self._folded

    def setCollapsed(self, collapsed):
        self.setChecked(not collapsed)

    def collapsedHeight(self):
        return self._collapsed_height

    def setCollapsedHeight(self, height):
        self._collapsed_height = height
        self.updateGeometry()

    def _title_height(self):
        return self.fontMetrics().height() + 6

    def sizeHint(self):
        if self._folded:
            return QSize(super().sizeHint().width(), self._title_height() + self._collapsed_height // 2)
        return super().sizeHint()

    def minimumSizeHint(self):
        if self._folded:
            return QSize(0, self._title_height() + self._collapsed_height // 2)
        return super().minimumSizeHint()

    def paintEvent(self, event):
        painter = QStylePainter(self)
        option = QStyleOptionGroupBox()
        self.initStyleOption(option)
        box = self.style().subControlRect(QStyle.CC_GroupBox, option, QStyle.SC_GroupBoxCheckBox, self)
        option.subControls &= ~QStyle.SC_GroupBoxCheckBox
        if self._folded:
            option.subControls &= ~QStyle.SC_GroupBoxFrame
        text = option.text
        option.text = ""
        painter.drawComplexControl(QStyle.CC_GroupBox, option)
        label = self.style().subControlRect(QStyle.CC_GroupBox, option, QStyle.SC_GroupBoxLabel, self)
        arrow = QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QRect(box.x() + 2, box.center().y() - 5, 10, 10)
        painter.drawPrimitive(
            QStyle.PE_IndicatorArrowRight if self._folded else QStyle.PE_IndicatorArrowDown, arrow
        )
        label = QRect(box.right() + 5, box.center().y() - 10, self.width(), 20)
        painter.drawItemText(label, TEXT, option.palette, True, text, self.palette().ColorRole.WindowText)
