"""The few windows of their own that the panel opens: choosing files and folders, and questions that delete."""

import qt
import slicer


def choose_folder(title):
    """A folder that the user chooses, "" when cancelled."""
    return str(qt.QFileDialog.getExistingDirectory(_parent(), title) or "")


def choose_file(title, kinds):
    """A file that the user chooses to be read; kinds as in "Models (*.zip)"."""
    return _path(qt.QFileDialog.getOpenFileName(_parent(), title, "", kinds))


def choose_new_file(title, name, kinds):
    """A file that the user chooses to be written; the system asks before one is replaced."""
    return _path(qt.QFileDialog.getSaveFileName(_parent(), title, name, kinds))


def confirm(question):
    """Whether the user agrees; at once in testing mode."""
    return bool(slicer.util.confirmOkCancelDisplay(question, parent=_parent()))


def _parent():
    return slicer.util.mainWindow()


def _path(chosen):
    # Some bindings return the filter as well.
    return str((chosen[0] if isinstance(chosen, (tuple, list)) else chosen) or "")
