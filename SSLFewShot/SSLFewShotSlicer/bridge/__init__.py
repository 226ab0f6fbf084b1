"""The MRML bridge: nodes of the scene ↔ files of the worker, exactly.

Main thread (MRML is touched; short, nothing is computed over all voxels but a copy of cropped labelmaps):

    take_volume(volume) -> VolumeSource              a node or its ID; .name .modality .notes .changed()
    list_segments(segmentation) -> [SegmentInfo]     .segment_id .name .colour .terminology .visible
    take_segments(segmentation, volume, segment_ids=None, visible_only=False) -> LabelSource
    place_result(result, volume, into=None, existing="rename", name=None, with_confidence=True,
                 provenance=None) -> PlacedResult
                                                     into: a segmentation node or ID, None for a new one;
                                                     existing: "rename", "replace", "refuse" (SegmentExistsError);
                                                     .segmentation_id .confidence_id .segment_ids {name: id}
                                                     .renamed {name: new name} .replaced .empty [names] .notes
                                                     .lacks_surfaces .undo()
    place_in_steps(...)                              the same as steps, between which the event loop may run
    surfaces_made(segmentation_node)                 to iterate over: makes missing closed surfaces, one a step
    conflicting_segments(result, segmentation) -> [names]   to ask the user before "replace"
    show_confidence(confidence, opacity=0.5), hide_confidence(confidence)
    place_box(box, volume_source, name, colour=None) -> Markups ROI node     of a box as the worker gives it
    show_handles(box, shown), hide_box(box)
    add_volume(class_name, name, array, own_geometry, volume) -> node     in a volume's place, sharing the memory
    provenance_of(report) -> {key: text}   of a report of the worker's, for place_result
    find_node(node_or_id, class_name="vtkMRMLNode") -> node, or NodeGoneError

Any thread (no MRML):

    VolumeSource.write(path), LabelSource.write(path)          .nrrd and .seg.nrrd, raw; LabelSource.empty after it
    read_result(segmentation, confidence=None) -> SegmentationResult
    JobFolder(parent=None)      .path .results .file(kind, name, ending=".nrrd") .result(given, "seg", ending)
                                .explain(message) .close(); a context manager

Errors, all `InputError` with one sentence: BridgeError > NodeGoneError, UnusableNodeError, SegmentsError,
SegmentExistsError (.names), ResultError.

A request, with the worker's format "seg.nrrd":

    support, labels = take_volume(marked), take_segments(segmentation, marked)
    target = take_volume(scan)
    with JobFolder() as folder:
        image, marks = folder.file("support", support.name), folder.file("labels", labels.name, ".seg.nrrd")
        given = folder.file("target", target.name)
        support.write(image); labels.write(marks); target.write(given)
        ...                                          # segment {supports, targets: [given], output: folder.results}
        result = read_result(folder.result(given, "seg", ".seg.nrrd"), folder.result(given, "confidence"))
    placed = place_result(result, target)

Geometry, transforms: see volumes.py (why the worker sees a scan in the world, and why the way back is exact).
"""

from SSLFewShotSlicer.bridge.added_volumes import add_volume
from SSLFewShotSlicer.bridge.boxes import hide_box, place_box, show_handles
from SSLFewShotSlicer.bridge.confidence import hide_confidence, show_confidence
from SSLFewShotSlicer.bridge.errors import (
    BridgeError,
    NodeGoneError,
    ResultError,
    SegmentExistsError,
    SegmentsError,
    UnusableNodeError,
)
from SSLFewShotSlicer.bridge.job_folder import JobFolder
from SSLFewShotSlicer.bridge.nodes import find_node
from SSLFewShotSlicer.bridge.placed import PlacedResult
from SSLFewShotSlicer.bridge.placing import conflicting_segments, place_in_steps, place_result
from SSLFewShotSlicer.bridge.provenance import provenance_of
from SSLFewShotSlicer.bridge.results import SegmentationResult, read_result
from SSLFewShotSlicer.bridge.segment_keys import SegmentInfo
from SSLFewShotSlicer.bridge.segments import LabelSource, list_segments, take_segments
from SSLFewShotSlicer.bridge.surfaces import surfaces_made
from SSLFewShotSlicer.bridge.volumes import VolumeSource, take_volume

__all__ = [
    "BridgeError",
    "JobFolder",
    "LabelSource",
    "NodeGoneError",
    "PlacedResult",
    "ResultError",
    "SegmentExistsError",
    "SegmentInfo",
    "SegmentationResult",
    "SegmentsError",
    "UnusableNodeError",
    "VolumeSource",
    "add_volume",
    "conflicting_segments",
    "find_node",
    "hide_box",
    "hide_confidence",
    "list_segments",
    "place_box",
    "place_in_steps",
    "place_result",
    "provenance_of",
    "read_result",
    "show_confidence",
    "show_handles",
    "surfaces_made",
    "take_segments",
    "take_volume",
]
