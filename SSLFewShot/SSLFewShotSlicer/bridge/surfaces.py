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
    # Smoothed together, segments can only be converted together.
    if contents.GetSourceRepresentationName() == source and settings[names[-1]] in ("", "0"):
        for name, value in settings.items():
            if value:
                rule.SetConversionParameter(name, value)
        for segment_id in contents.GetSegmentIDs():
            segment = contents.GetSegment(segment_id)
            if segment is not None and segment.GetRepresentation(_kind()) is None:
                rule.Convert(segment)
                yield
    node.CreateClosedSurfaceRepresentation()


def _kind() -> str:
    return slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
