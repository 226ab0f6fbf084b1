"""Stand-ins for the qMRML widgets that a segmentation module uses, on the real MRML of slicer-core."""

from . import checkable_nodes, node_combo, roots, segment_editor, segment_selector, segments_table, table_view  # noqa: F401
