"""To the Segment Editor and back: nodes chosen there, and a button to come back here."""

import qt
import slicer

from SSLFewShotSlicer import views
from SSLFewShotSlicer.translation import _

MODULE = "SSLFewShot"
_button = None


def go(panel, segmentation, volume):
    """Open the Segment Editor on these nodes; False when there is none, or no window to open it in."""
    if getattr(slicer.modules, "segmenteditor", None) is None or slicer.util.mainWindow() is None:
        return False
    editor = slicer.modules.segmenteditor.widgetRepresentation()
    if editor is None:
        return False
    views.show_scan(volume)
    views.show_marks(segmentation, True)
    slicer.util.selectModule("SegmentEditor")
    widget = editor.self().editor
    widget.setSegmentationNode(segmentation)
    set_source = getattr(widget, "setSourceVolumeNode", None) or widget.setMasterVolumeNode
    set_source(volume)
    _offer_return(editor)
    return True


def back():
    """Return to this module and take the button away."""
    slicer.util.selectModule(MODULE)
    forget()


def forget():
    """Take the button out of the Segment Editor."""
    global _button
    button, _button = _button, None
    if button:
        button.hide()
        button.deleteLater()


def _offer_return(editor):
    global _button
    forget()
    layout = editor.layout()
    if layout is None:
        return
    _button = qt.QPushButton(_("‹ Back to SSLFewShot"))
    _button.toolTip = _("The structures are marked: go back and segment the other scans.")
    _button.connect("clicked(bool)", lambda _checked: back())
    layout.insertWidget(0, _button)
