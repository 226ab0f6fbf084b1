"""Closed surfaces of segments, made one at a time: of a large scan all of them take seconds. Main thread only."""

from __future__ import annotations

from collections.abc import Iterator

import slicer


def has_surfaces(node) -> bool:
    """Whether a segmentation has closed surfaces."""
    return node.GetSegmentation().ContainsRepresentation(_kind())


def remove_surfaces(node) -> bool:
    """Remove the closed surfaces of a segmentation; returns whether it had any."""
    had = has_surfaces(node)
    if had:
        node.GetSegmentation().RemoveRepresentation(_kind())
    return had


def surfaces_made(node) -> Iterator[None]:
    """Make the closed surfaces that are missing: of one segment each time that this is asked for the next one.

    The application can live in between. As Slicer would make them, with the segmentation's own settings.
    """
    contents = node.GetSegmentation()
    rule = slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule()
    names = [
        rule.GetDecimationFactorParameterName(),
        rule.GetSmoothingFactorParameterName(),
        rule.GetComputeSurfaceNormalsParameterName(),
        rule.GetJointSmoothingParameterName(),
    ]
    settings = {name: contents.GetConversionParameter(name) for name in names}
    source = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    made = {}
    # Smoothed together, segments can only be converted together.
    if contents.GetSourceRepresentationName() == source and settings[names[-1]] in ("", "0"):
        for name, value in settings.items():
            if value:
                rule.SetConversionParameter(name, value)
        for segment_id in contents.GetSegmentIDs():
            segment = contents.GetSegment(segment_id)
            if segment is not None and segment.GetRepresentation(_kind()) is None:
                # In a segment beside it: views take a segmentation of which some segments have surfaces for whole.
                copy = slicer.vtkSegment()
                copy.SetLabelValue(segment.GetLabelValue())
                copy.AddRepresentation(source, segment.GetRepresentation(source))
                rule.Convert(copy)
                made[segment_id] = copy.GetRepresentation(source), copy.GetRepresentation(_kind())
                yield
    for segment_id, (labelmap, surface) in made.items():
        segment = contents.GetSegment(segment_id)
        # One that was painted on in between is converted anew.
        if segment is not None and surface is not None and segment.GetRepresentation(source) is labelmap:
            segment.AddRepresentation(_kind(), surface)
    node.CreateClosedSurfaceRepresentation()


def _kind() -> str:
    return slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
