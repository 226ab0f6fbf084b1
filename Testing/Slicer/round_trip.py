"""Labels through the whole bridge and back, and how much of them lies where it was, in the world's coordinates."""

import bridge_scene  # noqa: F401 - lets the module's packages be imported

# isort: split
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from SSLFewShotLib.imaging.files import read_labels, read_volume, write_labels, write_volume
from SSLFewShotSlicer.bridge import JobFolder, place_result, read_result, take_segments, take_volume

from bridge_scene import add_linear, add_segmentation, add_volume, blobs, numpy_matrix

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Outcome:
    """dice: the worst segment's, of sets of points in the world; seen: the same for what the library read;
    apart: mm, the largest distance between a voxel's centre for the library and in the scene's world."""

    dice: float
    seen: float
    apart: float


def permutations_and_flips(spacing=(0.9, 1.3, 2.1), origin=(-31.7, 12.4, 55.1)):
    """The 48 grids (4 × 4 IJK to RAS) whose axes are the patient's in some order and direction."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.eye(4)
            matrix[:3, :3] = np.eye(3)[:, order] * signs * spacing
            matrix[:3, 3] = origin
            name = "".join(
                "RAS LPI"[axis + (0 if sign > 0 else 4)] for axis, sign in zip(order, signs, strict=True)
            )
            yield name, matrix


def oblique_and_sheared(count=20, seed=0):
    """Random rotations, every second one sheared as well and every third one left-handed."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        rotation[:, 0] *= np.sign(np.linalg.det(rotation)) * (-1 if number % 3 == 0 else 1)
        shear = np.eye(3)
        if number % 2:
            shear[0, 1], shear[0, 2], shear[1, 2] = rng.uniform(-0.4, 0.4, 3)
        matrix = np.eye(4)
        matrix[:3, :3] = rotation @ shear @ np.diag(rng.uniform(0.4, 4.0, 3))
        matrix[:3, 3] = rng.uniform(-300, 300, 3)
        kind = ("sheared" if number % 2 else "oblique") + (", left-handed" if number % 3 == 0 else "")
        yield f"{number + 1}: {kind}", matrix


def nested_transforms(seed=1):
    """Name, and the matrices of the transforms above the scan and above its segmentation, outermost first."""
    rng = np.random.default_rng(seed)

    def rigid():
        matrix = np.eye(4)
        rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        matrix[:3, :3] = rotation * np.sign(np.linalg.det(rotation))
        matrix[:3, 3] = rng.uniform(-80, 80, 3)
        return matrix

    def affine():
        matrix = rigid()
        matrix[:3, :3] = matrix[:3, :3] @ (np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3)))
        return matrix

    outer, inner, other = rigid(), affine(), affine()
    undone = np.linalg.inv(outer @ inner)
    yield "one rigid", [outer], [outer]
    yield "one mirroring", [np.diag([-1.0, 1.0, 1.0, 1.0])], [np.diag([-1.0, 1.0, 1.0, 1.0])]
    yield "affine in rigid", [outer, inner], [outer, inner]
    yield "three deep", [outer, inner, other], [outer, inner, other]
    yield "scan alone is transformed", [outer, inner], []
    yield "segmentation alone is transformed", [], [outer, inner]
    yield "each its own", [inner], [outer, other]
    yield "two that cancel", [outer, inner, undone], []


def round_trip(folder: Path, ijk_to_ras, above_scan=(), above_marks=(), truth=None) -> Outcome:
    """Mark a scan, send both, have the library read and write them, place the result, and compare in the world.

    The segmentation is put where the scan's voxels are in the world: its own grid follows from both chains.
    truth: (K, J, I) labels; three boxes when None.
    """
    truth = blobs() if truth is None else truth
    values = [int(value) for value in np.unique(truth) if value]
    scan = add_volume(np.random.default_rng(0).integers(-1000, 1000, truth.shape, np.int16), ijk_to_ras)
    scan.SetAndObserveTransformNodeID(_chain(above_scan))
    to_world = _to_world(scan)
    marks_parent = _chain(above_marks)
    into = np.linalg.inv(_product(above_marks)) @ to_world @ numpy_matrix(_ijk_to_ras(scan))
    marks = add_segmentation(truth, into)
    marks.SetAndObserveTransformNodeID(marks_parent)

    target = take_volume(scan)
    labels = take_segments(marks, target)
    with JobFolder(folder) as job:
        given, marked = job.file("target", target.name), job.file("labels", labels.name, ".seg.nrrd")
        target.write(given)
        labels.write(marked)
        volume, read = read_volume(given), read_labels(marked)
        job.results.mkdir()
        written = job.result(given, "seg", ".seg.nrrd"), job.result(given, "confidence")
        write_labels(read, written[0])
        write_volume(volume.with_array(np.full(volume.array.shape, 0.5, np.float32)), written[1])
        result = read_result(*written)
    placed = place_result(result, target)

    kji = np.argwhere(np.ones(truth.shape, bool))
    world = _points(to_world @ numpy_matrix(_ijk_to_ras(scan)), kji[:, ::-1])
    apart = np.linalg.norm(_points(LPS @ volume.ijkToLps, kji[:, ::-1]) - world, axis=1).max()
    seen, back = [], []
    for value in values:
        wanted = (truth == value).ravel()
        there = read.indices_from_points(world @ LPS[:3, :3])
        seen.append(_dice(wanted, _at(read.mask(f"Structure {value}"), there)))
        back.append(_dice(wanted, _in_segment(placed, f"Structure {value}", world)))
    return Outcome(min(back), min(seen), float(apart))


def _in_segment(placed, name, world):
    """Whether points of the world lie in a segment, by its labelmap and the transforms above its node alone."""
    node = slicer.mrmlScene.GetNodeByID(placed.segmentation_id)
    segment = node.GetSegmentation().GetSegment(placed.segment_ids[name])
    image = segment.GetRepresentation("Binary labelmap")
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    ijk = _points(np.linalg.inv(_to_world(node) @ numpy_matrix(matrix)), world)
    low = np.array(image.GetExtent())[::2]
    voxels = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    return _at(voxels.reshape(image.GetDimensions()[::-1]) == segment.GetLabelValue(), ijk - low)


def _at(mask, ijk):
    """Whether the voxels nearest to indices (i, j, k) are set; those outside are not."""
    nearest = np.rint(ijk).astype(int)
    inside = ((nearest >= 0) & (nearest < mask.shape[::-1])).all(axis=1)
    found = np.zeros(len(ijk), bool)
    i, j, k = nearest[inside].T
    found[inside] = mask[k, j, i]
    return found


def _dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def _points(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _product(matrices):
    product = np.eye(4)
    for matrix in matrices:
        product = product @ matrix
    return product


def _chain(matrices):
    parent = None
    for matrix in matrices:
        parent = add_linear(matrix, parent)
    return parent.GetID() if parent else None


def _ijk_to_ras(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def _to_world(node):
    matrix = vtk.vtkMatrix4x4()
    if node.GetParentTransformNode():
        node.GetParentTransformNode().GetMatrixTransformToWorld(matrix)
    return numpy_matrix(matrix)
