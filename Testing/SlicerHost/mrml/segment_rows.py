"""The segments of a segmentation node, in order, as rows for lists and tables."""

import slicer

EVENTS = ("SegmentAdded", "SegmentRemoved", "SegmentModified", "SegmentsOrderModified")


def segment_ids(node):
    """Segment IDs in the order of the segmentation; none where there is no node."""
    if node is None or node.GetSegmentation() is None:
        return []
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]


def watch_segments(watch, node, method_name):
    for name in EVENTS:
        event = getattr(slicer.vtkSegmentation, name)
        watch.observe(node, event, method_name)
    watch.observe(node, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent, method_name)
