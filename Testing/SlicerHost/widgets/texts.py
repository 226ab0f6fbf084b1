"""ctkMessageBox, ctkFittedTextBrowser and ctkSearchBox."""

from PySide6.QtCore import QSettings, QSize, Qt
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QCheckBox, QLineEdit, QMessageBox, QTextBrowser

from ..qt_names import stands_for


@stands_for("ctkMessageBox")
class MessageBox(QMessageBox):
    """A message box that can be told not to come again."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._key, self._roles = "", [QMessageBox.AcceptRole, QMessageBox.YesRole]

    def dontShowAgainSettingsKey(self):
        return self._key

    def setDontShowAgainSettingsKey(self, key):
        self._key = key
        self.setDontShowAgainVisible(bool(key))

    def dontShowAgain(self):
        return self.checkBox() is not None and self.checkBox().isChecked()

    def setDontShowAgain(self, dont):
        self.setDontShowAgainVisible(True)
        self.checkBox().setChecked(dont)

    def isDontShowAgainVisible(self):
        return self.checkBox() is not None

    dontShowAgainVisible = isDontShowAgainVisible

    def setDontShowAgainVisible(self, visible):
        if visible and self.checkBox() is None:
            self.setCheckBox(QCheckBox("Don't show this message again"))
        if not visible:
            self.setCheckBox(None)

    def dontShowAgainButtonRoles(self):
        return self._roles

    def setDontShowAgainButtonRoles(self, roles):
        self._roles = list(roles)

    def addDontShowAgainButtonRole(self, role):
        self._roles.append(role)

    def onFinished(self, code):
        if self._key and self.dontShowAgain():
            QSettings().setValue(self._key, code)


@stands_for("ctkFittedTextBrowser")
class FittedTextBrowser(QTextBrowser):
    """A text browser that is as high as its text."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._collapsed, self._collapsible = True, ""
        self._show_details, self._hide_details, self._no_scroll = "Show details...", "Hide details.", True
        self.setVerticalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        self.textChanged.connect(self.updateGeometry)

    def _height(self):
        self.document().setTextWidth(max(1, self.viewport().width()))
        return int(self.document().size().height()) + 2 * self.frameWidth()

    def sizeHint(self):
        return QSize(super().sizeHint().width(), self._height())

    def minimumSizeHint(self):
        return QSize(super().minimumSizeHint().width(), self._height())

    def resizeEvent(self, event):
        super().resizeEvent(event)
        if event.size().height() != self._height():
            self.updateGeometry()

    def collapsed(self):
        return self._collapsed

    def setCollapsed(self, collapsed):
        self._collapsed = collapsed

    def disableMouseScroll(self):
        return self._no_scroll

    def setDisableMouseScroll(self, disable):
        self._no_scroll = disable

    def showDetailsText(self):
        return self._show_details

    def setShowDetailsText(self, text):
        self._show_details = text

    def hideDetailsText(self):
        return self._hide_details

    def setHideDetailsText(self, text):
        self._hide_details = text

    def collapsibleText(self):
        return self._collapsible

    def setCollapsibleText(self, text):
        self._collapsible = text
        self.setText(text)

    setCollapsibleHtml = setCollapsiblePlainText = setCollapsibleText


@stands_for("ctkSearchBox")
class SearchBox(QLineEdit):
    def __init__(self, parent=None):
        super().__init__(parent)
        self._search_icon, self._clear_icon, self._show_icon = QIcon(), QIcon(), False
        self.setPlaceholderText("Search...")
        self.setClearButtonEnabled(True)

    def searchIcon(self):
        return self._search_icon

    def setSearchIcon(self, icon):
        self._search_icon = icon

    def clearIcon(self):
        return self._clear_icon

    def setClearIcon(self, icon):
        self._clear_icon = icon

    def showSearchIcon(self):
        return self._show_icon

    def setShowSearchIcon(self, show):
        self._show_icon = show
