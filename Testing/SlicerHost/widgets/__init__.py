"""Stand-ins for CTK's widgets, on Qt's own, with the look and the behaviour of the real ones."""

from . import buttons, collapsible, combos, paths, ranges, sliders, spin_boxes, texts  # noqa: F401
