"""Closed surfaces are made one at a time, and are the ones that Slicer itself would make."""

import numpy as np
import pytest
from vtk.util import numpy_support

from bridge_scene import COLOURS, add_segmentation, blobs

NAMES = dict(enumerate(COLOURS, start=1))


@pytest.fixture
def surfaces_made(host):
    from SSLFewShotSlicer.bridge import surfaces_made

    return surfaces_made


def surfaces(node):
    contents = node.GetSegmentation()
    found = (node.GetClosedSurfaceInternalRepresentation(key) for key in contents.GetSegmentIDs())
    return [numpy_support.vtk_to_numpy(surface.GetPoints().GetData()).copy() for surface in found]


@pytest.mark.parametrize("smoothing", ["0.5", "0.1"])
def test_they_are_slicers_own(surfaces_made, smoothing):
    made, own = (add_segmentation(blobs(), names=NAMES) for _ in range(2))
    for node in (made, own):
        node.GetSegmentation().SetConversionParameter("Smoothing factor", smoothing)
    own.CreateClosedSurfaceRepresentation()
    assert len(list(surfaces_made(made))) == 3, "a step for each"
    for ours, theirs in zip(surfaces(made), surfaces(own), strict=True):
        assert np.array_equal(ours, theirs)


def test_they_appear_all_at_once(surfaces_made):
    # Slicer's views leave out for good a segment whose surface comes before those of the others.
    node = add_segmentation(blobs(), names=NAMES)
    kind = "Closed surface"
    for _ in surfaces_made(node):
        assert not node.GetSegmentation().ContainsRepresentation(kind)
    assert node.GetSegmentation().ContainsRepresentation(kind)


def test_those_that_are_there_are_left_alone(surfaces_made):
    node = add_segmentation(blobs(), names=NAMES)
    node.CreateClosedSurfaceRepresentation()
    assert list(surfaces_made(node)) == []


def test_segments_that_are_smoothed_together_are_converted_together(surfaces_made):
    node = add_segmentation(blobs(), names=NAMES)
    node.GetSegmentation().SetConversionParameter("Joint smoothing", "1")
    assert list(surfaces_made(node)) == []
    assert all(len(points) for points in surfaces(node))


def test_a_segment_removed_between_two_steps_is_passed_over(surfaces_made):
    node = add_segmentation(blobs(), names=NAMES)
    steps = surfaces_made(node)
    next(steps)
    node.GetSegmentation().RemoveSegment("Id_脾")
    list(steps)
    assert len(surfaces(node)) == 2
