"""Boxes of a support's structures by the vote of the nearest neighbours, for descriptors that are not dense."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.imaging.box import Box, grid_axes
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.knn import KnnSegmenter
from SSLFewShotLib.segmentation.lattice import Lattice
from SSLFewShotLib.segmentation.support_region import FoundRegion

_COARSER = 1.5
"""The lattice's spacing over the one that a segmentation takes."""
_SHARE = 0.5
"""Of a structure's highest probability, from which on a node counts to it."""


class VotedRegions:
    """Each structure is the largest piece of the lattice where its vote is at least half of its highest one.

    Certainty is the mean vote there. After `fit`: segments_, voter_.
    """

    def __init__(self, descriptor: Descriptor, seed: int = 0):
        self.descriptor = descriptor
        self.seed = seed

    def fit(self, support: SupportSet, progress: Progress = ignore_progress) -> VotedRegions:
        """Describe points of the marked scans."""
        self.segments_ = list(support.segments)
        self.voter_ = KnnSegmenter(self.descriptor, seed=self.seed).fit(support, progress)
        return self

    def find(self, volume: Volume, progress: Progress = ignore_progress) -> dict[str, FoundRegion]:
        """The box of each structure in a scan, along the scan's own axes, by the segment's name."""
        unit = float(self.descriptor.prepare(volume, portion(progress, 0.0, 0.1)).unit.min())
        lattice = Lattice(volume, self.descriptor, _COARSER * unit / 20, portion(progress, 0.1, 0.2))
        votes = self.voter_.lattice_probabilities(lattice, portion(progress, 0.2, 1.0))
        axes = grid_axes(volume)
        found = {}
        for segment, vote in zip(self.segments_, votes, strict=True):
            highest = float(vote.max())
            if highest <= 0:
                continue
            pieces, count = ndimage.label(vote >= _SHARE * highest)
            sums = ndimage.sum_labels(vote, pieces, np.arange(1, count + 1))
            piece = pieces == 1 + int(np.argmax(sums))
            nodes = np.argwhere(piece)[:, ::-1]
            points = lattice.origin + lattice.spacing * nodes
            box = Box.around(points, axes, name=segment.name).grown(lattice.spacing / 2)
            inside = box.clipped(volume)
            share = 0.0 if inside is None else inside.volume / box.volume
            found[segment.name] = FoundRegion(box, float(vote[piece].mean()), share)
        return found
