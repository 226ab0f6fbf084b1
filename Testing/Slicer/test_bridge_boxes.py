"""Boxes of the worker's lie exactly where it saw them."""

from bridge_scene import empty_scene  # noqa: F401 - a fixture that every test uses

# isort: split
import itertools

import numpy as np
import pytest
import slicer
from scipy.spatial.transform import Rotation
from SSLFewShotSlicer.bridge import NodeGoneError, place_box, take_volume

from bridge_scene import numpy_matrix, vtk_matrix
from tilted_grids import GRIDS, LPS, OBLIQUE, PARENTS, RIGID, numbered, under


def a_box(centre=(3.0, -8.0, 21.0), size=(11.0, 22.0, 33.0)):
    """A turned box as the worker gives it, and its corners in the world, (8, 3) RAS."""
    axes = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
    corners = (np.array(centre) + (signs * size) @ axes.T) @ LPS
    return {"centre": list(centre), "size": list(size), "axes": axes.T.tolist()}, corners


def corners_in_world(roi):
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
    matrix = numpy_matrix(roi.GetObjectToWorldMatrix())
    return (signs * roi.GetSize()) @ matrix[:3, :3].T + matrix[:3, 3]


def same_places(first, second):
    """Whether two sets of points are the same, in whatever order."""
    apart = np.linalg.norm(first[:, None] - second[None], axis=2)
    return apart.min(axis=0).max() < 1e-4 and apart.min(axis=1).max() < 1e-4


@pytest.mark.parametrize("parents", PARENTS.values(), ids=PARENTS)
@pytest.mark.parametrize("geometry", GRIDS.values(), ids=GRIDS)
def test_a_box_lies_where_the_worker_saw_it(geometry, parents):
    source = take_volume(numbered(geometry, under(parents)))
    box, corners = a_box()
    assert same_places(corners_in_world(place_box(box, source, "box")), corners)


def test_a_box_goes_with_its_scan_when_that_is_moved_and_when_it_was_moved_meanwhile():
    parent = under([RIGID])
    source = take_volume(numbered(OBLIQUE, parent))
    box, corners = a_box()
    first = place_box(box, source, "box")
    parent.SetMatrixTransformToParent(vtk_matrix(np.eye(4)))
    moved = (corners - RIGID[:3, 3]) @ RIGID[:3, :3]
    assert same_places(corners_in_world(first), moved)
    assert same_places(corners_in_world(place_box(box, source, "box")), moved)


def test_a_box_for_a_scan_that_is_gone_is_refused():
    volume = numbered(np.eye(4))
    source = take_volume(volume)
    slicer.mrmlScene.RemoveNode(volume)
    with pytest.raises(NodeGoneError):
        place_box(a_box()[0], source, "box")
