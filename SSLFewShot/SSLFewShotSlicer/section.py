"""`Section`: what every section of the panel has: a form, the choices, the session, a place for messages."""

from pathlib import Path

import qt
import slicer
from slicer.util import VTKObservationMixin

from SSLFewShotSlicer.messages import Message

FORMS = Path(__file__).resolve().parents[1] / "Resources" / "UI"


def load_form(name):
    """A form of Qt Designer as a widget."""
    return slicer.util.loadUI(str(FORMS / f"{name}.ui"))


def plain_table(table):
    """A table of narrow rows without numbers."""
    rows = table.verticalHeader()
    rows.hide()
    rows.minimumSectionSize = rows.defaultSectionSize = _row_height(table)
    table.horizontalHeader().highlightSections = False


def fit_height(view, most):
    """Make a list or table as high as what it holds, up to so many rows; then it scrolls."""
    if hasattr(view, "rowCount"):
        height = view.horizontalHeader().sizeHint.height() + _row_height(view) * min(max(view.rowCount, 1), most)
    else:
        height = max(view.sizeHintForRow(0), 16) * min(max(view.count, 2), most)
    height += 2 * view.frameWidth + 2
    view.minimumHeight = height
    view.maximumHeight = height


def show_widget(widget, shown):
    """Show or hide, and leave alone what is so already: the panel would be laid out anew."""
    if widget.isHidden() == shown:
        widget.visible = shown


def show_entries(selector, entries, chosen):
    """Let a combo box offer [(data, title)] and show the one with the chosen data, else the first."""
    if [(selector.itemData(n), selector.itemText(n)) for n in range(selector.count)] != entries:
        selector.clear()
        for data, title in entries:
            selector.addItem(title, data)
    selector.currentIndex = max(0, selector.findData(chosen))


def _row_height(table):
    return qt.QFontMetrics(table.font).height() + 8


class PanelPart:
    """A section of the panel, or a part of one; `panel` is the `Panel` that it is part of."""

    def __init__(self, panel):
        self.panel = panel

    @property
    def ui(self):
        """All widgets of the panel by name."""
        return self.panel.ui

    @property
    def parameters(self):
        """The user's choices, or None while no scene is there."""
        return self.panel.parameters

    @property
    def session(self):
        """The background process and its jobs."""
        return self.panel.session

    def offer(self, button, missing=""):
        """Enable a button that has the background process work, or let its tooltip say why it is not enabled.

        missing: a sentence about what is to be done first. While packages are missing no such button is enabled.
        """
        missing = self.panel.obstacle() or missing
        usual = self.panel.usual_tips.setdefault(button.name, button.toolTip)
        button.enabled = not missing
        button.toolTip = missing or usual


class Section(PanelPart, VTKObservationMixin):
    """One section of the panel.

    Subclasses name their form and the label for messages, connect their widgets in `set_up`, show the state of the
    choices in `refresh`, and let go of everything in `close`.
    """

    form = ""
    message_label = ""

    def __init__(self, panel):
        PanelPart.__init__(self, panel)
        VTKObservationMixin.__init__(self)
        self.closed = False
        self.message = Message(getattr(panel.ui, self.message_label))

    def set_up(self):
        """Connect the widgets; called once."""

    def tie_folder(self, edit, name):
        """Have a path edit change the parameter `name`; `show_folder` does the other way."""

        def changed(path):
            if self.parameters is not None and getattr(self.parameters, name) != str(path):
                setattr(self.parameters, name, str(path))

        edit.connect("currentPathChanged(QString)", changed)

    def show_folder(self, edit, name):
        """Show the folder that the parameter `name` holds."""
        if edit.currentPath != getattr(self.parameters, name):
            edit.currentPath = getattr(self.parameters, name)

    def refresh(self):
        """Show the choices as they are now."""

    def scene_closing(self):
        """Let go of nodes."""
        self.removeObservers()
        self.message.clear()

    def close(self):
        """The panel goes away: no callback may reach it any more."""
        self.closed = True
        self.removeObservers()
