"""ctkComboBox and ctkCheckableComboBox."""

from PySide6.QtCore import QModelIndex, Qt, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QComboBox, QStyle, QStyleOptionComboBox, QStylePainter

from ..qt_names import stands_for


@stands_for("ctkComboBox")
class ComboBox(QComboBox):
    """A combo box with a text of its own for no choice."""

    returnRelease = Signal()

    def __init__(self, parent=None):
        super().__init__(parent)
        self._default_text, self._default_icon, self._force = "", QIcon(), False
        self._elide, self._scroll = Qt.ElideNone, 1

    def defaultText(self):
        return self._default_text

    def setDefaultText(self, text):
        self._default_text = text
        self.update()

    def defaultIcon(self):
        return self._default_icon

    def setDefaultIcon(self, icon):
        self._default_icon = icon
        self.update()

    def isDefaultForced(self):
        return self._force

    def forceDefault(self, force=None):
        if force is None:
            return self._force
        self._force = force
        self.update()
        return None

    def elideMode(self):
        return self._elide

    def setElideMode(self, mode):
        self._elide = mode

    def scrollWheelEffect(self):
        return self._scroll

    def setScrollWheelEffect(self, effect):
        self._scroll = effect

    def currentUserDataAsString(self):
        data = self.currentData()
        return "" if data is None else str(data)

    def setCurrentUserDataAsString(self, text):
        for index in range(self.count()):
            data = self.itemData(index)
            if ("" if data is None else str(data)) == text:
                self.setCurrentIndex(index)
                return

    def paintEvent(self, event):
        if self.currentIndex() >= 0 and not self._force:
            super().paintEvent(event)
            return
        painter = QStylePainter(self)
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        option.currentText, option.currentIcon = self._default_text, self._default_icon
        painter.drawComplexControl(QStyle.CC_ComboBox, option)
        painter.drawControl(QStyle.CE_ComboBoxLabel, option)


@stands_for("ctkCheckableComboBox")
class CheckableComboBox(QComboBox):
    """A combo box whose items have check boxes; the field shows what is checked."""

    checkedIndexesChanged = Signal()
    returnRelease = Signal()

    def __init__(self, parent=None):
        super().__init__(parent)
        self.model().dataChanged.connect(self._on_data)
        self.model().rowsInserted.connect(self._on_rows)
        self.view().viewport().installEventFilter(self)

    def _on_rows(self, parent, first, last):
        for row in range(first, last + 1):
            # By its index: Python's object for an item of Qt's own outlives it, and stands for what comes next.
            index = self.model().index(row, 0, parent)
            if self.model().data(index, Qt.CheckStateRole) is None:
                self.model().setData(index, Qt.Unchecked, Qt.CheckStateRole)

    def _on_data(self, first, last, roles):
        if not roles or Qt.CheckStateRole in roles:
            self.update()
            self.checkedIndexesChanged.emit()

    def eventFilter(self, watched, event):
        if event.type() == event.Type.MouseButtonRelease and watched is self.view().viewport():
            index = self.view().indexAt(event.position().toPoint())
            if index.isValid():
                checked = self.checkState(index) == Qt.Checked
                self.setCheckState(index, Qt.Unchecked if checked else Qt.Checked)
                return True
        return super().eventFilter(watched, event)

    def checkableModel(self):
        return self.model()

    def setCheckableModel(self, model):
        self.setModel(model)

    def checkState(self, index):
        state = self.model().data(index, Qt.CheckStateRole)
        return Qt.CheckState(state) if state is not None else Qt.Unchecked

    def setCheckState(self, index, state):
        self.model().setData(index, state, Qt.CheckStateRole)

    def _indexes(self):
        return [self.model().index(row, 0, QModelIndex()) for row in range(self.count())]

    def checkedIndexes(self):
        return [index for index in self._indexes() if self.checkState(index) == Qt.Checked]

    def allChecked(self):
        return len(self.checkedIndexes()) == self.count()

    def noneChecked(self):
        return not self.checkedIndexes()

    def allPatiallyChecked(self):
        return bool(self.count()) and all(self.checkState(one) == Qt.PartiallyChecked for one in self._indexes())

    def paintEvent(self, event):
        painter = QStylePainter(self)
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        checked = [self.itemText(index.row()) for index in self.checkedIndexes()]
        if self.noneChecked():
            option.currentText = "None"
        elif self.allChecked():
            option.currentText = "All"
        else:
            option.currentText = ", ".join(checked)
        painter.drawComplexControl(QStyle.CC_ComboBox, option)
        painter.drawControl(QStyle.CE_ComboBoxLabel, option)
