"""ctkPathLineEdit and ctkDirectoryButton."""

import os

from PySide6.QtCore import QDir, QSettings, Qt, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QPushButton, QSizePolicy, QToolButton, QWidget

from .. import dialogs
from ..qt_names import stands_for

DIRS, FILES = 0x001, 0x002


@stands_for("ctkPathLineEdit")
class PathLineEdit(QWidget):
    """An editable combo box with the paths used before, and a button that browses."""

    validInputChanged = Signal(bool)
    currentPathChanged = Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        self._combo = QComboBox(self)
        self._combo.setEditable(True)
        self._combo.setMinimumContentsLength(17)
        self._combo.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self._combo.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self._browse = QToolButton(self)
        self._browse.setText("...")
        layout.addWidget(self._combo)
        layout.addWidget(self._browse)
        self._label, self._key, self._filters, self._name_filters = "", "", FILES, []
        self._options, self._policy, self._history, self._valid = 0, 2, True, False
        self._combo.editTextChanged.connect(self._on_text)
        self._browse.clicked.connect(self.browse)
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)

    def _on_text(self, text):
        valid = self._is_valid(text)
        if valid != self._valid:
            self._valid = valid
            self.validInputChanged.emit(valid)
        self.currentPathChanged.emit(text)

    def _is_valid(self, text):
        if not text:
            return False
        if self._filters & DIRS and not self._filters & FILES:
            return os.path.isdir(text)
        return os.path.exists(text) or not self._filters & 0x010

    def currentPath(self):
        return self._combo.currentText()

    def setCurrentPath(self, path):
        if path != self.currentPath():
            self._combo.setEditText(path)

    def browse(self):
        only_folders = self._filters & DIRS and not self._filters & FILES
        path = dialogs.chosen_path("Select a directory..." if only_folders else "Select a file")
        if path:
            self.setCurrentPath(path)

    def comboBox(self):
        return self._combo

    def label(self):
        return self._label

    def setLabel(self, label):
        self._label = label

    def filters(self):
        return self._filters

    def setFilters(self, filters):
        self._filters = int(filters)

    def nameFilters(self):
        return self._name_filters

    def setNameFilters(self, filters):
        self._name_filters = list(filters)

    def options(self):
        return self._options

    def setOptions(self, options):
        self._options = options

    def settingKey(self):
        return self._key

    def setSettingKey(self, key):
        self._key = key
        self.retrieveHistory()

    def retrieveHistory(self):
        text = self.currentPath()
        self._combo.clear()
        for path in QSettings().value(self._key) or [] if self._key else []:
            self._combo.addItem(path)
        self._combo.setEditText(text)

    def addCurrentPathToHistory(self):
        text = self.currentPath()
        if not text or not self._key:
            return
        known = [path for path in (QSettings().value(self._key) or []) if path != text]
        QSettings().setValue(self._key, [text, *known][:10])
        self.retrieveHistory()
        self._combo.setEditText(text)

    def showBrowseButton(self):
        return not self._browse.isHidden()

    def setShowBrowseButton(self, show):
        self._browse.setVisible(show)

    def showHistoryButton(self):
        return self._history

    def setShowHistoryButton(self, show):
        self._history = show
        self._combo.setStyleSheet(
            "" if show else "QComboBox::drop-down { border: 0px; } QComboBox { border: 1px solid gray; }"
        )

    def minimumContentsLength(self):
        return self._combo.minimumContentsLength()

    def setMinimumContentsLength(self, length):
        self._combo.setMinimumContentsLength(length)

    def sizeAdjustPolicy(self):
        return self._policy

    def setSizeAdjustPolicy(self, policy):
        self._policy = policy


@stands_for("ctkDirectoryButton")
class DirectoryButton(QWidget):
    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._button = QPushButton(self.style().standardIcon(self.style().StandardPixmap.SP_DirIcon), "", self)
        layout.addWidget(self._button)
        self._directory, self._caption, self._text, self._options = "", "", "", 0
        self._accept_mode, self._elide = QFileDialog.AcceptOpen, Qt.ElideMiddle
        self._button.clicked.connect(self.browse)
        self.setDirectory(QDir.currentPath())

    def directory(self):
        return self._directory

    def setDirectory(self, directory):
        directory = os.path.abspath(directory) if directory not in ("", ".") else directory
        changed = directory != self._directory
        self._directory = directory
        self._button.setText(self._text or directory)
        if changed:
            self.directoryChanged.emit(directory)

    def browse(self):
        chosen = dialogs.chosen_path(self._caption or "Select directory")
        if chosen:
            self.setDirectory(chosen)
            self.directorySelected.emit(self._directory)
        return self._directory

    def text(self):
        return self._text

    def setText(self, text):
        self._text = text
        self._button.setText(text or self._directory)

    def caption(self):
        return self._caption

    def setCaption(self, caption):
        self._caption = caption

    def icon(self):
        return self._button.icon()

    def setIcon(self, icon):
        self._button.setIcon(QIcon(icon))

    def options(self):
        return self._options

    def setOptions(self, options):
        self._options = options

    def acceptMode(self):
        return self._accept_mode

    def setAcceptMode(self, mode):
        self._accept_mode = mode

    def elideMode(self):
        return self._elide

    def setElideMode(self, mode):
        self._elide = mode
