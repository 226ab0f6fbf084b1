"""Slicer's look: the Fusion style with its light and its dark palette."""

from PySide6.QtGui import QColor, QFont, QPalette
from PySide6.QtWidgets import QStyleFactory

# Role: colour in the light and in the dark palette.
COLOURS = {
    "Window": ("#efefef", "#353535"),
    "WindowText": ("#000000", "#ffffff"),
    "Base": ("#ffffff", "#191919"),
    "AlternateBase": ("#f7f7f7", "#353535"),
    "Text": ("#000000", "#ffffff"),
    "Button": ("#efefef", "#353535"),
    "ButtonText": ("#000000", "#ffffff"),
    "BrightText": ("#ffffff", "#ff0000"),
    "Highlight": ("#308cc6", "#2a82da"),
    "HighlightedText": ("#ffffff", "#000000"),
    "Link": ("#0000ff", "#2a82da"),
    "ToolTipBase": ("#ffffdc", "#353535"),
    "ToolTipText": ("#000000", "#ffffff"),
    "PlaceholderText": ("#7f7f7f", "#8f8f8f"),
}


def palette(dark=False):
    made = QPalette()
    for role, colours in COLOURS.items():
        made.setColor(getattr(QPalette.ColorRole, role), QColor(colours[dark]))
    faded = QColor("#7f7f7f" if dark else "#a0a0a0")
    for role in ("WindowText", "Text", "ButtonText", "HighlightedText"):
        made.setColor(QPalette.ColorGroup.Disabled, getattr(QPalette.ColorRole, role), faded)
    return made


def dress(application, dark=False):
    """Set style, font and palette of the application."""
    application.setStyle(QStyleFactory.create("Fusion"))
    application.setFont(QFont("DejaVu Sans", 9))
    application.setPalette(palette(dark))
