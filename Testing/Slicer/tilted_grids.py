"""Scans on oblique and sheared grids under transforms of all kinds, for tests of what lies where."""

import numpy as np
from scipy.spatial.transform import Rotation

from bridge_scene import add_linear, add_volume

LPS = np.diag([-1.0, -1.0, 1.0])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [20, -35, 70], degrees=True).as_matrix() @ np.diag([0.9, 1.1, 2.2])
OBLIQUE[:3, 3] = [-20, 5, -14]
SHEARED = OBLIQUE @ np.array([[1, 0.2, 0, 0], [0, 1, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
RIGID = np.eye(4)
RIGID[:3, :3] = Rotation.from_euler("xyz", [5, 15, -40], degrees=True).as_matrix()
RIGID[:3, 3] = [31, -7, 12]
STRETCHED = np.array([[0.0, -1, 0, 5], [1, 0.2, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
PARENTS = {
    "none": [],
    "rigid": [RIGID],
    "nested": [RIGID, np.linalg.inv(RIGID) @ np.diag([1.0, 1, 1, 1]), RIGID @ RIGID],
    "stretched": [STRETCHED],
    "mirrored": [np.diag([-1.0, 1, 1, 1])],
}
GRIDS = {"plain": np.eye(4), "oblique": OBLIQUE, "sheared": SHEARED}


def under(matrices):
    """A chain of linear transforms, the first one on top; None for none."""
    node = None
    for matrix in matrices:
        node = add_linear(matrix, node)
    return node


def numbered(geometry, parent=None):
    """A scan in which every voxel has another value."""
    return add_volume(np.arange(12 * 14 * 16, dtype=np.int16).reshape(12, 14, 16), geometry, "scan", parent)
