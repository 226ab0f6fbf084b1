"""Stand-ins for the qMRML widgets that a segmentation module uses, on the real MRML of slicer-core."""

from . import (  # noqa: F401
    checkable_nodes,
    node_combo,
    numbers,
    roots,
    segment_editor,
    segment_selector,
    segments_table,
    table_view,
)
