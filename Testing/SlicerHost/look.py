"""Slicer's look: the Fusion style with Slicer's margins, its light and its dark palette."""

from PySide6.QtGui import QColor, QFont, QPalette
from PySide6.QtWidgets import QLabel, QProxyStyle, QStyle

# Role: colour in the light and in the dark palette. Light as in the picture of Slicer that the project keeps,
# dark as qSlicerStyle sets it.
COLOURS = {
    "Window": ("#efefef", "#323232"),
    "WindowText": ("#000000", "#ffffff"),
    "Base": ("#ffffff", "#1e1e1e"),
    "AlternateBase": ("#f7f7f7", "#323232"),
    "Text": ("#000000", "#ffffff"),
    "Button": ("#efefef", "#323232"),
    "ButtonText": ("#000000", "#ffffff"),
    "BrightText": ("#ffffff", "#ff4444"),
    "Highlight": ("#308cc6", "#3ca4ff"),
    "HighlightedText": ("#ffffff", "#ffffff"),
    "Link": ("#0000ff", "#3ca4ff"),
    "ToolTipBase": ("#ffffdc", "#ffffff"),
    "ToolTipText": ("#000000", "#323232"),
    "PlaceholderText": ("#7f7f7f", "#c0c0c0"),
}
SHADES = {"Light": "#828284", "Midlight": "#5a5a5b", "Dark": "#232323", "Mid": "#2b2b2b", "Shadow": "#141414"}
DISABLED = {
    "WindowText": ("#bebebe", "#6d6d6d"),
    "Text": ("#bebebe", "#6d6d6d"),
    "ButtonText": ("#bebebe", "#b4b4b4"),
}

MARGINS = {
    QStyle.PM_LayoutLeftMargin,
    QStyle.PM_LayoutTopMargin,
    QStyle.PM_LayoutRightMargin,
    QStyle.PM_LayoutBottomMargin,
}
METRICS = {QStyle.PM_LayoutHorizontalSpacing: 3, QStyle.PM_LayoutVerticalSpacing: 3, QStyle.PM_SliderLength: 12}


class SlicerStyle(QProxyStyle):
    def __init__(self):
        super().__init__("Fusion")

    def pixelMetric(self, metric, option=None, widget=None):
        if metric in MARGINS:
            return 4 if getattr(widget, "api_name", "") == "ctkCollapsibleButton" else 6
        if metric in METRICS:
            return METRICS[metric]
        return super().pixelMetric(metric, option, widget)


def palette(dark=False):
    made = QPalette()
    for role, colours in COLOURS.items():
        made.setColor(getattr(QPalette.ColorRole, role), QColor(colours[dark]))
    for role, colours in DISABLED.items():
        made.setColor(QPalette.ColorGroup.Disabled, getattr(QPalette.ColorRole, role), QColor(colours[dark]))
    for role, colour in SHADES.items() if dark else ():
        made.setColor(getattr(QPalette.ColorRole, role), QColor(colour))
    return made


def dress(application, dark=False):
    """Set style, font and palette of the application, as if it had been started with them."""
    if not isinstance(application.style(), SlicerStyle):
        application.slicer_style = SlicerStyle()
        application.setStyle(application.slicer_style)
        application.setFont(QFont("DejaVu Sans", 9))
    application.setPalette(palette(dark))
    for widget in application.allWidgets():
        if widget.styleSheet():  # colours such as palette(base) are looked up when a sheet is set
            widget.setStyleSheet(widget.styleSheet())
        if isinstance(widget, QLabel) and "<a " in widget.text():  # so is the colour of links
            text = widget.text()
            widget.setText("")
            widget.setText(text)
