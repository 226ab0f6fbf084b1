"""`PlacedResult`: what was put into the scene, and how to take it out again. Main thread only."""

from __future__ import annotations

from dataclasses import dataclass, field

import slicer

from SSLFewShotSlicer.bridge.labelmaps import Replaced, put_back, remove_segments
from SSLFewShotSlicer.bridge.nodes import NodeReference
from SSLFewShotSlicer.bridge.surfaces import remove_surfaces


@dataclass
class PlacedResult:
    """The nodes and segments that a result became.

    segment_ids: the support's segment name → the segment's ID in the node; renamed: that name → the one it got,
    where another segment had it; replaced: names of segments whose voxels were replaced; empty: names of segments
    of which nothing was found; notes: plain sentences that the user should read.
    lacks_surfaces: the segmentation had closed surfaces, which `surfaces_made` is to make anew.
    """

    segmentation: NodeReference
    confidence: NodeReference | None = None
    segment_ids: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lacks_surfaces: bool = False
    _new_node: bool = field(default=True, repr=False)
    _added: list[str] = field(default_factory=list, repr=False)
    _replaced: Replaced | None = field(default=None, repr=False)

    @property
    def segmentation_id(self) -> str:
        """The ID of the segmentation node."""
        return self.segmentation.node_id

    @property
    def confidence_id(self) -> str | None:
        """The ID of the confidence's volume node, None when there is none."""
        return None if self.confidence is None else self.confidence.node_id

    def follow_scene_undo(self) -> None:
        """Let the scene's own undo take the new nodes out: it passes over nodes that have not asked for it."""
        for reference in filter(None, (self.confidence, self.segmentation if self._new_node else None)):
            node = reference.find()
            for each in (node, node.GetDisplayNode()):
                each.SetUndoEnabled(True)

    def undo(self) -> None:
        """Take the result out of the scene, and put back what it replaced; what the user removed stays removed."""
        confidence = None if self.confidence is None else self.confidence.find_or_none()
        if confidence is not None:
            _remove(confidence)
        self.confidence = None
        node = self.segmentation.find_or_none()
        if node is not None:
            had_surfaces = remove_surfaces(node) or self.lacks_surfaces
            remove_segments(node, self._added)
            if self._replaced is not None:
                put_back(node, self._replaced)
            if had_surfaces and node.GetSegmentation().GetNumberOfSegments():
                node.CreateClosedSurfaceRepresentation()
            if self._new_node and not node.GetSegmentation().GetNumberOfSegments():
                _remove(node)
        self._added, self._replaced, self.lacks_surfaces = [], None, False


def _remove(node) -> None:
    """Remove a node with what was made for it alone: a scene keeps the display node of a node that goes."""
    displays = [node.GetNthDisplayNode(number) for number in range(node.GetNumberOfDisplayNodes())]
    for each in (node, *displays):
        if each is not None:
            slicer.mrmlScene.RemoveNode(each)
