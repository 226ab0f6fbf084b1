"""The supports' labels around where their alignments lead, each place counting as it looks like the scan's.

The nonlocal means estimator of Coupé et al., "Patch-based segmentation using expert priors: application to
hippocampus and ventricle segmentation" (NeuroImage 2011), with learned vectors in place of patches of intensities,
around a deformable alignment in place of an affine one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.views import sampled
from SSLFewShotLib.segmentation.alignment import DescribedScan
from SSLFewShotLib.segmentation.carried_labels import CarriedLabels, LatticeProbabilities
from SSLFewShotLib.segmentation.nearby import REACH, Nearby

_SIGMA = 2.5
"""Voxels: how much less a place counts that is further away."""
_LIKENESS = 0.03
"""Difference from the best cosine at which a place counts by a factor e less."""
_AT_ONCE = 128
"""Voxels that are looked at together: the places around them stay in the processor's cache."""


def local_vote(
    target: DescribedScan,
    supports: Sequence[DescribedScan],
    carried: CarriedLabels,
    nearby: Nearby,
    progress: Progress = ignore_progress,
) -> LatticeProbabilities:
    """Vote where it is doubtful; what is carried stays elsewhere.

    carried: by the alignments of the same supports. A support has no say on what is not marked in it.
    """
    points = nearby.places
    field = target.field[(slice(None), *nearby.part)]
    shape = nearby.doubtful.shape
    doubtful = torch.from_numpy(nearby.doubtful)
    votes = torch.zeros(int(doubtful.sum()), carried.segments)
    weights = torch.zeros_like(votes)
    for number, (support, one) in enumerate(zip(supports, carried.each(), strict=True)):
        labels = nearby.labels if len(supports) == 1 else one(points).reshape(-1, *shape)
        where = support.scan.indices(one.alignments[0].places(target.scan, points))
        moved = sampled(support.field, torch.from_numpy(where).float()).T.reshape(-1, *shape)
        told = sorted({marking.segment for marking in one.markings[0]})
        share = portion(progress, number / len(supports), (number + 1) / len(supports))
        found = _votes(field, F.normalize(moved, dim=0), torch.from_numpy(labels)[told], doubtful, share)
        votes[:, told] += found[0]
        weights[:, told] += found[1]
    probabilities = nearby.labels.copy()
    probabilities[:, nearby.doubtful] = (votes / weights.clamp(min=1e-30)).T.numpy()
    return nearby.as_source(probabilities)


def _votes(
    field: torch.Tensor, moved: torch.Tensor, labels: torch.Tensor, doubtful: torch.Tensor, progress: Progress
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, S) weighted labels (S, K, J, I) around each of the N doubtful voxels, and (N, 1) the sum of the weights.

    field, moved: (C, K, J, I) unit vectors of the scan, and of the support where the alignment leads.
    """
    # A vector lies together in memory: reading it at a place then costs one access and not one a channel.
    seen = field[:, doubtful].T.contiguous()
    vectors, shares = (
        F.pad(maps[None], [REACH] * 6, mode="replicate")[0].flatten(1).T.contiguous() for maps in (moved, labels)
    )
    _, j, i = (n + 2 * REACH for n in doubtful.shape)
    steps = torch.tensor([j * i, i, 1])
    rows = (torch.nonzero(doubtful) + REACH) @ steps
    places, counts = _places_around()
    votes, weights = torch.empty(len(rows), shares.shape[1]), torch.empty(len(rows), 1)
    for start in range(0, len(rows), _AT_ONCE):
        progress(start / len(rows), "voting around the alignment")
        here = slice(start, start + _AT_ONCE)
        there = rows[here, None] + places @ steps
        alike = torch.bmm(vectors[there], seen[here, :, None])[..., 0]
        weight = counts * torch.exp((alike - 1) / _LIKENESS)
        votes[here] = torch.bmm(weight[:, None], shares[there])[:, 0]
        weights[here] = weight.sum(dim=1, keepdim=True)
    return votes, weights


def _places_around() -> tuple[torch.Tensor, torch.Tensor]:
    """(P, 3) offsets (k, j, i) within reach, every second one as on a chessboard; (P,) how much each counts."""
    axis = np.arange(-REACH, REACH + 1)
    places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    squares = (places**2).sum(axis=1)
    chosen = (squares <= REACH**2 + 1) & (squares % 2 == 0)
    counts = np.exp(-squares[chosen] / (2 * _SIGMA**2))
    return torch.from_numpy(places[chosen]), torch.from_numpy(counts).float()
