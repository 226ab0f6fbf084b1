"""`PlacedResult`: what was put into the scene, and how to take it out again. Main thread only."""

from __future__ import annotations

from dataclasses import dataclass, field

import slicer


@dataclass
class PlacedResult:
    """The nodes and segments that a result became.

    segment_ids: the support's segment name → the segment's ID in the node; renamed: that name → the one it got,
    where another segment had it; replaced: names of segments whose voxels were replaced; empty: names of segments
    of which nothing was found.
    """

    segmentation_id: str
    confidence_id: str | None = None
    segment_ids: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    _new_node: bool = field(default=True, repr=False)
    _added: list[str] = field(default_factory=list, repr=False)
    _before: dict[str, tuple] = field(default_factory=dict, repr=False)

    def follow_scene_undo(self) -> None:
        """Let the scene's own undo take the new nodes out: it passes over nodes that have not asked for it."""
        for node_id in filter(None, (self.confidence_id, self.segmentation_id if self._new_node else None)):
            node = slicer.mrmlScene.GetNodeByID(node_id)
            for each in (node, node.GetDisplayNode()):
                each.SetUndoEnabled(True)

    def undo(self) -> None:
        """Take the result out of the scene, and put back what it replaced; what the user removed stays removed."""
        scene = slicer.mrmlScene
        for node_id in filter(None, (self.confidence_id, self.segmentation_id if self._new_node else None)):
            node = scene.GetNodeByID(node_id)
            if node is not None:
                _remove(node)
        self.confidence_id = None
        node = None if self._new_node else scene.GetNodeByID(self.segmentation_id)
        if node is not None:
            contents = node.GetSegmentation()
            for segment_id in self._added:
                if contents.GetSegment(segment_id) is not None:
                    contents.RemoveSegment(segment_id)
            for segment_id, (image, value) in self._before.items():
                if contents.GetSegment(segment_id) is not None:
                    set_labelmap(node, segment_id, image, value)
            if self._before:
                recreate_surfaces(node)
        self._added, self._before = [], {}


def _remove(node) -> None:
    """Remove a node with what was made for it alone: a scene keeps the display node of a node that goes."""
    scene = slicer.mrmlScene
    for number in reversed(range(node.GetNumberOfDisplayNodes())):
        if node.GetNthDisplayNode(number) is not None:
            scene.RemoveNode(node.GetNthDisplayNode(number))
    scene.RemoveNode(node)


def set_labelmap(node, segment_id: str, image, value: int) -> tuple:
    """Give a segment another binary labelmap; neighbours that shared its old one keep theirs.

    Returns (labelmap, value) that it had, with no voxel of any other segment.
    """
    contents = node.GetSegmentation()
    kind = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    contents.SeparateSegmentLabelmap(segment_id)
    segment = contents.GetSegment(segment_id)
    before = segment.GetRepresentation(kind), int(segment.GetLabelValue())
    segment.SetLabelValue(value)
    segment.AddRepresentation(kind, image)
    return before


def recreate_surfaces(node) -> None:
    """Make the closed surfaces of a segmentation anew, when it has any."""
    kind = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    if node.GetSegmentation().ContainsRepresentation(kind):
        node.GetSegmentation().RemoveRepresentation(kind)
        node.CreateClosedSurfaceRepresentation()
