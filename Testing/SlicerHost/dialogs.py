"""Modal dialogs: what was asked is recorded, and answered by the test, so that no test hangs."""

from collections import deque

from PySide6.QtCore import QCoreApplication, QEvent, QTimer
from PySide6.QtWidgets import QDialog, QMessageBox

from .conversion import alive, to_python
from .wrapper import override, static_override

# What the dialogs asked, oldest first: (title, text).
asked = []
_answers = deque()


def answer(*values):
    """Queue answers for the next modal dialogs.

    A standard button or dialog code; a path for a file dialog; a text for an input dialog; or a function that
    is called with the open dialog. A dialog without an answer is cancelled.
    """
    _answers.extend(values)


def forget():
    asked.clear()
    _answers.clear()


def _next():
    return _answers.popleft() if _answers else None


def run_modal(raw):
    """exec() of a dialog, with the next answer given as soon as it is open."""
    text = raw.text() if isinstance(raw, QMessageBox) else ""
    asked.append((raw.windowTitle(), text))
    given = _next()
    # slicer.util calls deleteLater before exec: in Slicer, where an event loop runs already, that takes effect
    # after it. Tests run outside of any loop, where Qt would delete the dialog as soon as it is open.
    QCoreApplication.removePostedEvents(raw, QEvent.Type.DeferredDelete)
    QTimer.singleShot(0, raw, lambda: _give(raw, given))
    return raw.exec()


def _give(raw, given):
    if callable(given):
        given(to_python(raw))
        return
    if isinstance(raw, QMessageBox):
        button = raw.button(QMessageBox.StandardButton(int(given))) if given is not None else raw.escapeButton()
        if button is not None:
            button.click()
            return
    raw.done(int(given) if given is not None else QDialog.Rejected)


@override("QDialog", "exec", "exec_")
def _exec(wrapper):
    return int(run_modal(alive(wrapper)))


def _message(icon):
    def show(parent, title, text, buttons=QMessageBox.Ok.value, default=0):
        box = QMessageBox(icon, title, text, QMessageBox.StandardButton(int(buttons)))
        result = run_modal(box)
        from .enumerations import enum_class

        return enum_class("QMessageBox", "StandardButton")(int(result))

    return show


for _name, _icon in (
    ("question", QMessageBox.Question), ("information", QMessageBox.Information),
    ("warning", QMessageBox.Warning), ("critical", QMessageBox.Critical),
):  # fmt: skip
    static_override("QMessageBox", _name)(_message(_icon))


def chosen_path(title):
    """The path that the test answers a file dialog with; empty where it is cancelled."""
    asked.append((title, ""))
    given = _next()
    return "" if given is None else str(given)


@static_override("QFileDialog", "getExistingDirectory", "getOpenFileName", "getSaveFileName")
def _file_dialog(parent=None, caption="", directory="", *_):
    return chosen_path(caption)


@static_override("QFileDialog", "getOpenFileNames")
def _files_dialog(parent=None, caption="", directory="", *_):
    asked.append((caption, ""))
    return tuple(str(path) for path in _next() or ())


@static_override("QInputDialog", "getText", "getItem", "getInt", "getDouble", "getMultiLineText")
def _input_dialog(parent, title, label, *_):
    asked.append((title, label))
    return _next() or ""
