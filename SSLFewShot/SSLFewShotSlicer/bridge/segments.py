"""Segmentation node → the labels that the worker reads, on the grid of the scan they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import vtk

from SSLFewShotSlicer.bridge.errors import SegmentsError
from SSLFewShotSlicer.bridge.nodes import find_node, transform_between
from SSLFewShotSlicer.bridge.nrrd import NrrdImage, write_nrrd
from SSLFewShotSlicer.bridge.segment_keys import SegmentInfo, keys_of
from SSLFewShotSlicer.bridge.segment_voxels import Mask, SegmentReader
from SSLFewShotSlicer.bridge.volumes import VolumeSource, take_volume


@dataclass
class LabelSource:
    """The chosen segments of a segmentation node as they were when they were taken, on a volume's grid.

    empty: names of chosen segments without a voxel on this grid, known once `write` has run (they are in the file
    all the same). notes: plain sentences that the user should read.
    """

    node_id: str
    name: str
    volume: VolumeSource
    segments: list[SegmentInfo]
    masks: list[Mask] = field(repr=False)
    notes: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write a raw .seg.nrrd: one layer, and another wherever segments overlap. Any thread.

        Raises SegmentsError when no chosen segment has a voxel, OutputError when the file cannot be written.
        """
        array, layers = self._layers()
        size = tuple(int(n) for n in array.shape[2::-1])
        keys = keys_of(self.segments, layers, size)
        write_nrrd(NrrdImage(array, self.volume.seen_geometry, keys), path)

    def _layers(self) -> tuple[np.ndarray, list[int]]:
        """(K, J, I, L) labels 1..S, and the layer of each segment."""
        shape = self.volume.array.shape
        kind = np.uint8 if len(self.segments) < 256 else np.int16
        layers: list[np.ndarray] = []
        places: list[int] = []
        empty = []
        for number, mask in enumerate(self.masks):
            where, voxels = mask.on_grid(shape)
            if not voxels.any():
                empty.append(self.segments[number].name)
            free = (n for n, layer in enumerate(layers) if not layer[where][voxels].any())
            place = next(free, len(layers))
            if place == len(layers):
                layers.append(np.zeros(shape, kind))
            layers[place][where][voxels] = number + 1
            places.append(place)
        self.empty = empty
        if len(empty) == len(self.segments):
            raise SegmentsError(
                f"{self.name}: no voxel of {self.volume.name} is marked in {_listed(empty)}; paint at least one "
                "structure, or check that both lie in the same place"
            )
        return np.stack(layers, axis=-1) if len(layers) > 1 else layers[0][..., np.newaxis], places


def list_segments(segmentation) -> list[SegmentInfo]:
    """The segments of a segmentation node (or its ID) in their order. Main thread, no voxels are looked at."""
    node = find_node(segmentation, "vtkMRMLSegmentationNode")
    display = node.GetDisplayNode()
    contents = node.GetSegmentation()
    found = []
    for number in range(contents.GetNumberOfSegments()):
        segment_id = contents.GetNthSegmentID(number)
        segment = contents.GetSegment(segment_id)
        visible = display is None or bool(display.GetSegmentVisibility(segment_id))
        colour = tuple(float(channel) for channel in segment.GetColor())
        name = segment.GetName() or segment_id
        found.append(SegmentInfo(segment_id, name, colour, _terminology(segment), visible=visible))
    return found


def take_segments(segmentation, volume, segment_ids=None, visible_only: bool = False) -> LabelSource:
    """Take segments of a segmentation node for the worker, on the grid of `volume`. Main thread.

    volume: a volume node, its ID, or the `VolumeSource` taken of it. segment_ids: None for all; hidden segments
    are among them unless `visible_only`.

    A labelmap whose voxels are the volume's, in any order of the axes, is copied as it is. Another one is
    resampled (nearest voxel), a fractional one is cut at half, a closed surface is filled on the volume's grid;
    a transform between segmentation and volume is taken into account, linear or not. The node is not changed.

    Raises NodeGoneError, UnusableNodeError; SegmentsError when no segment is chosen, one is not there or has
    nothing to read, or two have the same name.
    """
    node = find_node(segmentation, "vtkMRMLSegmentationNode")
    source = volume if isinstance(volume, VolumeSource) else take_volume(volume)
    volume_node = source.reference.find("vtkMRMLVolumeNode")
    name = node.GetName() or "the segmentation"
    chosen = _chosen(list_segments(node), name, segment_ids, visible_only)
    reader = SegmentReader(
        node, transform_between(node, volume_node), source.own_geometry, source.array.shape, source.name
    )
    masks = [reader.mask(segment.segment_id, segment.name) for segment in chosen]
    return LabelSource(node.GetID(), name, source, chosen, masks, reader.notes())


def _chosen(segments: list[SegmentInfo], name: str, ids, visible_only: bool) -> list[SegmentInfo]:
    if not segments:
        raise SegmentsError(f"{name}: has no segment; add one and mark a structure")
    wanted = None if ids is None else list(ids)
    known = {segment.segment_id: segment for segment in segments}
    missing = [segment_id for segment_id in wanted or [] if segment_id not in known]
    if missing:
        raise SegmentsError(f"{name}: has no segment {_listed(missing)} any more; choose the segments again")
    chosen = segments if wanted is None else [known[segment_id] for segment_id in dict.fromkeys(wanted)]
    chosen = [segment for segment in chosen if segment.visible] if visible_only else chosen
    if not chosen:
        what = "visible" if visible_only and wanted is None else "chosen"
        raise SegmentsError(f"{name}: no segment is {what}; choose at least one")
    names = [segment.name for segment in chosen]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise SegmentsError(
            f"{name}: several segments are called {_listed(twice)}; rename them, each is told by its name"
        )
    return chosen


def _terminology(segment) -> str:
    """The serialised terminology entry of a vtkSegment, "" when it has none."""
    entry = vtk.reference("")
    return str(entry) if segment.GetTag(segment.GetTerminologyEntryTagName(), entry) else ""


def _listed(names: list[str]) -> str:
    return ", ".join(names)
