"""Several dense descriptors as one."""

import numpy as np
import pytest
import torch
from command_line import dice
from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.descriptors.joint import JointDenseDescriptor, JointDescriptor
from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.imaging import SupportSet, Volume
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.progress import ignore_progress
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.segmentation.aligned import AlignedSegmenter

SIZE = (40, 32, 36)
WINDOW, ZSCORE = Intensity("window", -500.0, 1000.0), Intensity("zscore")


def a_part(name: str, scale: float, intensity: Intensity) -> DenseDescriptor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DenseDescriptor(UNet3d(1, 4, 8, 2), Extent("mm", scale), intensity, name)


@pytest.fixture(scope="module")
def joint() -> JointDenseDescriptor:
    return JointDenseDescriptor([a_part("window", 300.0, WINDOW), a_part("any", 260.0, ZSCORE)])


@pytest.fixture(scope="module")
def scan() -> Volume:
    return phantom(0, "CT", SIZE)[0]


def test_vectors_are_those_of_the_parts_at_unit_length(joint, scan):
    points = scan.points_from_indices(np.array([[10, 12, 11], [20, 15, 18], [30, 20, 25.0]]))
    both = joint.describe(scan, points)
    assert joint.name == "window+any" and both.shape == (3, joint.dimension) == (3, 16)
    assert np.allclose(np.linalg.norm(both, axis=1), 1, atol=1e-5)
    for part, start in zip(joint.parts, (0, 8), strict=True):
        here = both[:, start : start + 8] / np.linalg.norm(both[:, start : start + 8], axis=1, keepdims=True)
        # The second was read twice: at the voxels of the first, and between those.
        assert (here * part.describe(scan, points)).sum(axis=1).min() > (0.9999 if start == 0 else 0.95)


def test_the_field_lies_on_the_grid_of_the_first_wherever_the_others_lie(joint, scan):
    prepared = joint.prepare(scan)
    field = joint.field(prepared, ignore_progress)
    first, second = (part.prepare(scan) for part in joint.parts)
    assert field.shape == (16, *first.values.shape) != (16, *second.values.shape)
    k, j, i = np.argwhere(first.body.numpy())[::97].T
    points = first.origin + first.spacing * np.stack([i, j, k], axis=1)
    there = joint.parts[1].describe(scan, points)
    assert (field[8:, k, j, i].T * there).sum(axis=1).mean() * np.sqrt(2) > 0.999


def test_a_scan_stored_the_other_way_round_gets_the_same_vectors(joint, scan):
    matrix = scan.ijkToLps @ np.diag([-1.0, 1, -1, 1])
    matrix[:3, 3] = scan.points_from_indices(np.array([[scan.size[0] - 1, 0, scan.size[2] - 1]], float))[0]
    flipped = Volume(scan.array[::-1, :, ::-1].copy(), matrix, modality="CT")
    points = scan.points_from_indices(np.array([[10, 12, 11], [20, 15, 18.0]]))
    assert np.allclose(joint.describe(scan, points), joint.describe(flipped, points), atol=1e-4)


def test_what_is_joined_with_itself_aligns_like_itself():
    part = a_part("one", 300.0, WINDOW)
    support, (volume, truth) = SupportSet([phantom(0, "CT", SIZE)]), phantom(1, "CT", SIZE)
    alone, _ = AlignedSegmenter(part).fit(support).predict(volume)
    twice, _ = AlignedSegmenter(JointDenseDescriptor([part, part])).fit(support).predict(volume)
    name = truth.segments[0].name
    assert alone.mask(name).any() and dice(twice.mask(name), alone.mask(name)) > 0.99


def test_scans_are_aligned_by_models_that_are_joined_one_for_another_modality_too(joint):
    (volume, truth), support = phantom(1, "CT", SIZE), SupportSet([phantom(0, "CT", SIZE)])
    segmenter = AlignedSegmenter(joint).fit(support)
    found, _ = segmenter.predict(volume)
    assert np.mean([dice(found.mask(segment.name), truth.mask(segment.name)) for segment in truth.segments]) > 0.5
    told = segmenter.provenance()["descriptor"]
    assert told["name"] == "window+any" and [one["name"] for one in told["parts"]] == ["window", "any"]


def test_dense_models_joined_by_name_are_a_dense_one_and_others_are_not(scan):
    dense = load_descriptor("dense-head-neck-ct+any-modality", scan)
    assert isinstance(dense, JointDenseDescriptor) and dense.modality == "CT" and dense.dimension == 64
    assert isinstance(load_descriptor("dense-head-neck-ct+mind", scan), JointDescriptor)
