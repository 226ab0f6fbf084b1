"""The vote of the places around where an alignment leads."""

import numpy as np
import pytest
import torch
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import ignore_progress
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.segmentation.alignment import Alignment, DescribedScan
from SSLFewShotLib.segmentation.carried_labels import CarriedLabels, Marking
from SSLFewShotLib.segmentation.local_vote import local_vote
from SSLFewShotLib.segmentation.nearby import REACH, Nearby
from torch.nn import functional as F

SIZE = (24, 22, 26)


def described(field: torch.Tensor) -> DescribedScan:
    body = torch.ones(SIZE, dtype=torch.bool)
    scan = PreparedScan(torch.zeros(SIZE), body, np.zeros(3), np.full(3, 2.0), np.full(3, 60.0))
    return DescribedScan.of(scan, field.numpy())


def marked(segment: int, box: tuple[slice, ...]) -> Marking:
    mask = np.zeros(SIZE, bool)
    mask[box] = True
    grid = Volume(np.zeros(SIZE, np.int16), np.diag([2.0, 2, 2, 1]))
    return Marking.of(grid, mask, segment)


def straight(shift: int = 0) -> Alignment:
    """An alignment that leads `shift` voxels too far along k."""
    moved = np.zeros((3, *SIZE), np.float32)
    moved[0] = shift
    return Alignment(np.eye(4), 1.0, moved, np.ones(SIZE, np.float32))


@pytest.fixture
def field() -> torch.Tensor:
    """Vectors that are like nowhere else."""
    generator = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(24, *SIZE, generator=generator), dim=0)


BOX = (slice(8, 15), slice(7, 13), slice(9, 16))


def test_what_an_alignment_missed_by_two_voxels_is_found_where_it_looks_alike(field):
    support = described(field)
    markings = [[marked(0, BOX)]]
    carried = CarriedLabels(support.scan, markings, [straight(2)], 1, 4.0)
    voted = local_vote(support, [support], carried, Nearby.of(support.scan, carried))
    truth = np.zeros(SIZE)
    truth[BOX] = 1
    k, j, i = np.meshgrid(*(np.arange(n) for n in SIZE), indexing="ij")
    points = 2.0 * np.stack([i.ravel(), j.ravel(), k.ravel()], axis=1)
    assert np.abs(carried(points).reshape(SIZE) - truth).max() > 0.9
    assert np.abs(voted(points).reshape(SIZE) - truth).max() < 0.5


def test_a_support_has_no_say_on_what_is_not_marked_in_it(field):
    support = described(field)
    other = (slice(8, 12), slice(13, 17), slice(9, 16))
    alone = CarriedLabels(support.scan, [[marked(0, BOX), marked(1, other)]], [straight()], 2, 4.0)
    both = CarriedLabels(
        support.scan, [[marked(0, BOX), marked(1, other)], [marked(0, BOX)]], [straight(), straight()], 2, 4.0
    )
    one = local_vote(support, [support], alone, Nearby.of(support.scan, alone))
    two = local_vote(support, [support, support], both, Nearby.of(support.scan, both))
    np.testing.assert_allclose(one.probabilities, two.probabilities, atol=1e-4)
    assert one.probabilities[1].max() > 0.99


def test_only_what_is_in_doubt_is_voted_on(field):
    support = described(field)
    large = (slice(2, 22), slice(2, 20), slice(2, 24))
    carried = CarriedLabels(support.scan, [[marked(0, large)]], [straight()], 1, 4.0)
    nearby = Nearby.of(support.scan, carried)
    at = [12 - nearby.part[0].start, 11 - nearby.part[1].start, 13 - nearby.part[2].start]
    assert not nearby.doubtful[tuple(at)] and nearby.reached[tuple(at)]
    assert nearby.doubtful[at[0], at[1], 1 + REACH - nearby.part[2].start]


def test_nothing_beyond_the_scan_is_asked_for(field):
    support = described(field)
    edge = (slice(0, 3), slice(0, 4), slice(20, 26))
    carried = CarriedLabels(support.scan, [[marked(0, edge)]], [straight()], 1, 4.0)
    voted = local_vote(support, [support], carried, Nearby.of(support.scan, carried), ignore_progress)
    assert np.isfinite(voted.probabilities).all() and voted.probabilities.max() > 0.99


def test_labels_of_a_marked_scan_keep_their_volume(field):
    labels = np.zeros(SIZE, np.uint8)
    labels[BOX] = 1
    marks = LabelMap(labels, np.diag([2.0, 2, 2, 1]))
    support = described(field)
    smooth = Marking.of(marks, labels > 0, 0, smoothing=2.0)
    nearby = Nearby.of(support.scan, CarriedLabels(support.scan, [[smooth]], [straight()], 1, 4.0))
    assert nearby.labels.sum() == pytest.approx(labels.sum(), rel=0.03)
