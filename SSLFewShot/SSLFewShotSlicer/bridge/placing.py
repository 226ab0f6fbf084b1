"""The worker's result → nodes of the scene. Main thread only."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import slicer

from SSLFewShotSlicer.bridge.confidence import add_confidence
from SSLFewShotSlicer.bridge.errors import ResultError, SegmentExistsError, SegmentsError
from SSLFewShotSlicer.bridge.labelmaps import labelmap_of, replace_labelmaps
from SSLFewShotSlicer.bridge.nodes import NodeReference, find_node, own_geometry, transform_between
from SSLFewShotSlicer.bridge.placed import PlacedResult
from SSLFewShotSlicer.bridge.results import ResultLayer, SegmentationResult
from SSLFewShotSlicer.bridge.segment_keys import SegmentInfo
from SSLFewShotSlicer.bridge.segments import list_segments
from SSLFewShotSlicer.bridge.surfaces import remove_surfaces
from SSLFewShotSlicer.bridge.volumes import VolumeSource

EXISTING = ("rename", "replace", "refuse")


@dataclass(frozen=True)
class _Plan:
    """What becomes of one segment of the result: its new name, or the ID of the segment that it replaces."""

    segment: SegmentInfo
    name: str
    replaces: str = ""


def conflicting_segments(result: SegmentationResult, segmentation) -> list[str]:
    """Names of segments of the result that a segmentation node (or its ID) has already: ask before replacing."""
    there = list_segments(segmentation)
    return [s.name for s in result.segments if any(s.same_structure(other) for other in there)]


def place_result(result: SegmentationResult, volume, **settings) -> PlacedResult:
    """Put a result into the scene as one step that can be undone; see `place_in_steps`."""
    steps = place_in_steps(result, volume, **settings)
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return finished.value


def place_in_steps(
    result: SegmentationResult,
    volume,
    into=None,
    existing: str = "rename",
    name: str | None = None,
    with_confidence: bool = True,
    provenance: dict[str, str] | None = None,
) -> Generator[None, None, PlacedResult]:
    """Put a result into the scene as one step that can be undone; between two yields the application may live.

    volume: the scan it was made of: the `VolumeSource` that was sent (then a scan that was changed meanwhile is
        found out), a node or its ID.
    into: a segmentation node or its ID; None makes a new node, with the volume's transform, called `name`.
    existing: what to do with segments that `into` has already, matched by name and terminology: "rename" gives the
        new ones other names, "replace" puts the new voxels in their place and keeps all else of them, "refuse"
        raises. Segments that are not in the result are never touched.
    provenance: attributes for the segmentation node, see `provenance_of`.

    Raises NodeGoneError, UnusableNodeError, SegmentExistsError, SegmentsError; ResultError when the result is not
    on the volume's grid. The scene is then as before, and so it is when the steps are closed half-way.
    """
    if existing not in EXISTING:
        raise ValueError(f"existing: one of {', '.join(EXISTING)} was expected, not {existing}")
    node = _target_volume(result, volume)
    segmentation = None if into is None else find_node(into, "vtkMRMLSegmentationNode")
    plans = _plans(result, segmentation, existing)
    geometry = _geometry_in(segmentation, node)
    if slicer.mrmlScene.GetUndoFlag():
        slicer.mrmlScene.SaveStateForUndo()
    new = segmentation is None
    segmentation = _new_segmentation(node, name) if new else segmentation
    placed = PlacedResult(NodeReference(segmentation), empty=result.empty, _new_node=new)
    scan = NodeReference(node)
    try:
        # Every view, list and tree of the application takes its time for a node that is added or filled.
        yield
        _fill(placed.segmentation.find(), result, plans, geometry, placed)
        if with_confidence and result.confidence is not None:
            yield
            node = scan.find()
            shown = add_confidence(result.confidence, node, f"{node.GetName()} confidence")
            placed.confidence = NodeReference(shown)
            placed.segmentation.find().SetNodeReferenceID("SSLFewShot.confidence", shown.GetID())
        _describe(placed.segmentation.find(), provenance or {})
    except BaseException:
        placed.undo()
        raise
    if isinstance(volume, VolumeSource) and volume.changed():
        placed.notes.append(
            f"{volume.name}: its image has changed since it was segmented (another frame is shown, or it was "
            "edited); the result belongs to the image as it was"
        )
    if slicer.mrmlScene.GetUndoFlag():
        placed.follow_scene_undo()
    return placed


def _target_volume(result: SegmentationResult, volume):
    """The volume's node, once the result fits it."""
    source = volume if isinstance(volume, VolumeSource) else None
    kind = "vtkMRMLScalarVolumeNode"
    node = find_node(volume, kind) if source is None else source.reference.find(kind)
    image = node.GetImageData()
    if image is None or image.GetDimensions()[::-1] != result.shape:
        raise ResultError(
            f"{node.GetName()}: its image was changed or removed while it was segmented; segment it again"
        )
    if source is not None and not np.allclose(own_geometry(node), source.own_geometry, rtol=0, atol=1e-6):
        raise ResultError(f"{node.GetName()}: its position was changed while it was segmented; segment it again")
    if source is not None and not _same_grid(result.geometry, source.seen_geometry, result.shape):
        raise ResultError(f"{node.GetName()}: the result belongs to another scan; segment it again")
    return node


def _same_grid(first: np.ndarray, second: np.ndarray, shape: tuple[int, int, int]) -> bool:
    corners = np.array([[n * bit for n, bit in zip(shape[::-1], bits)] + [1] for bits in np.ndindex(2, 2, 2)])
    apart = corners @ (np.linalg.inv(second) @ first - np.eye(4)).T
    return bool(np.abs(apart).max() < 1e-3)


def _plans(result: SegmentationResult, segmentation, existing: str) -> list[_Plan]:
    there = [] if segmentation is None else list_segments(segmentation)
    same = {s.name: [other for other in there if s.same_structure(other)] for s in result.segments}
    if existing == "refuse" and any(same.values()):
        names = [name for name, others in same.items() if others]
        raise SegmentExistsError(
            f"{segmentation.GetName()}: has {', '.join(names)} already; replace them, keep both, or choose "
            "another segmentation",
            names,
        )
    plans = []
    taken = {segment.name for segment in there}
    replaced: set[str] = set()
    for segment in result.segments:
        free = [other for other in same[segment.name] if other.segment_id not in replaced]
        if existing == "replace" and free:
            replaced.add(free[0].segment_id)
            plans.append(_Plan(segment, segment.name, free[0].segment_id))
            continue
        new_name, number = segment.name, 1
        while new_name in taken:
            number += 1
            new_name = f"{segment.name} ({number})"
        taken.add(new_name)
        plans.append(_Plan(segment, new_name))
    return plans


def _geometry_in(segmentation, volume) -> np.ndarray:
    """(4, 4) from the volume's indices to the coordinates of the segmentation that is to hold them."""
    if segmentation is None:
        return own_geometry(volume)
    kind = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    contents = segmentation.GetSegmentation()
    if contents.GetNumberOfSegments() and contents.GetSourceRepresentationName() != kind:
        raise SegmentsError(
            f"{segmentation.GetName()}: is stored as {contents.GetSourceRepresentationName()}, where labels would "
            "lose their exact place; choose another one, or make binary labelmap its source representation"
        )
    between = transform_between(volume, segmentation)
    if not isinstance(between, np.ndarray):
        raise SegmentsError(
            f"{segmentation.GetName()}: a non-linear transform is between it and {volume.GetName()}; put both "
            "under the same transform, or choose a new segmentation"
        )
    return between @ own_geometry(volume)


def _new_segmentation(volume, name: str | None):
    scene = slicer.mrmlScene
    called = name or f"{volume.GetName()} segmentation"
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(called))
    node.CreateDefaultDisplayNodes()
    # The transform first: the reference geometry is in the segmentation's own coordinates.
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    hierarchy = scene.GetSubjectHierarchyNode()
    if hierarchy is not None:
        beside = hierarchy.GetItemByDataNode(volume)
        item = hierarchy.GetItemByDataNode(node)
        if beside and item:
            hierarchy.SetItemParent(item, hierarchy.GetItemParent(beside))
    return node


def _fill(
    node, result: SegmentationResult, plans: list[_Plan], geometry: np.ndarray, placed: PlacedResult
) -> None:
    """Add or replace the segments. Those of a layer share one labelmap, as the Segment Editor's do."""
    modifying = node.StartModify()
    try:
        _fill_quietly(node, result, plans, geometry, placed)
    finally:
        node.EndModify(modifying)


def _fill_quietly(node, result, plans, geometry, placed) -> None:
    contents = node.GetSegmentation()
    kind = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    # Slicer would make one of each segment as it is added.
    placed.lacks_surfaces = remove_surfaces(node)
    if not contents.GetNumberOfSegments():
        contents.SetSourceRepresentationName(kind)
    where = {id(s): (number, value) for number, layer in enumerate(result.layers) for value, s in layer.segments}
    shared = [None] * len(result.layers)
    changes = {}
    for plan in plans:
        number, value = where[id(plan.segment)]
        layer = result.layers[number]
        if plan.replaces:
            # On its own: a labelmap that is shared with segments of another origin is easily damaged.
            changes[plan.replaces] = _labelmap(layer, geometry, [value]), value
            placed.replaced.append(plan.name)
            placed.segment_ids[plan.segment.name] = plan.replaces
            continue
        if shared[number] is None:
            adding = {id(p.segment) for p in plans if not p.replaces}
            values = [v for v, s in layer.segments if id(s) in adding]
            shared[number] = _labelmap(layer, geometry, values)
        segment = slicer.vtkSegment()
        segment.SetName(plan.name)
        segment.SetColor(*plan.segment.colour)
        for key, text in plan.segment.tags.items():
            segment.SetTag(key, text)
        if plan.segment.terminology:
            segment.SetTag(segment.GetTerminologyEntryTagName(), plan.segment.terminology)
        segment.SetLabelValue(value)
        segment.AddRepresentation(kind, shared[number])
        segment_id = contents.GenerateUniqueSegmentID(plan.segment.segment_id or plan.name)
        if not contents.AddSegment(segment, segment_id):
            raise SegmentsError(f"{node.GetName()}: {plan.name} could not be added; choose a new segmentation")
        placed._added.append(segment_id)
        placed.segment_ids[plan.segment.name] = segment_id
        if plan.name != plan.segment.name:
            placed.renamed[plan.segment.name] = plan.name
    if changes:
        placed._replaced = replace_labelmaps(node, changes)


def _describe(node, attributes: dict[str, str]) -> None:
    modifying = node.StartModify()
    for key, text in attributes.items():
        node.SetAttribute(key, text)
    node.EndModify(modifying)


def _labelmap(layer: ResultLayer, geometry: np.ndarray, values: list[int]):
    """The VTK labelmap of some values of a layer, in its place; it has voxels of its own."""
    corner, labels = layer.corner, layer.labels
    if len(values) == 1:
        box = layer.boxes.get(values[0], (slice(0, 1),) * 3)
        corner = tuple(low + part.start for low, part in zip(corner, box))
        labels = labels[box] * (labels[box] == values[0])
    elif len(values) < len(layer.segments):
        lookup = np.zeros(max(value for value, _ in layer.segments) + 1, labels.dtype)
        lookup[values] = values
        labels = lookup[labels]
    return labelmap_of(labels, corner, geometry)
