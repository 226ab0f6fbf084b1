"""The boxes of a marked scan's structures in new scans, by comparing descriptors."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.box import Box, grid_axes
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.localisation.localiser import Localiser, Location, Part, emptiness
from SSLFewShotLib.localisation.voted_regions import VotedRegions
from SSLFewShotLib.progress import Progress, ignore_progress
from SSLFewShotLib.sampling.intensity import modality_of
from SSLFewShotLib.segmentation.support_region import FoundRegion, SupportRegions

LEAST_CERTAINTY, LEAST_TOGETHER = 0.35, 0.45
"""Of a structure, and of all on average; noise, a scan upside down and an abdomen came to 0.17 to 0.36 there."""

_NOT_ALIKE = "not found: nothing in this scan looks enough like it"
_LEAST_INSIDE = 0.25


class SupportLocaliser(Localiser):
    """Finds every structure that a support has marked, and the box around all of them.

    descriptor: with a dense one, boxes are carried by a coarse alignment; with any other, nearest neighbours vote
    on a coarse lattice. least: certainty below which a structure counts as not found; least_together: mean
    certainty of all structures below which nothing was found at all.

    After `fit`: regions_, modality_.
    """

    name = "support"
    margin = 10.0

    def __init__(
        self,
        descriptor: Descriptor,
        least: float = LEAST_CERTAINTY,
        least_together: float = LEAST_TOGETHER,
        seed: int = 0,
    ):
        if not 0 <= least <= 1 or not 0 <= least_together <= 1:
            raise InputError(f"least certainties of {least}, {least_together}: numbers from 0 to 1 were expected")
        self.descriptor = descriptor
        self.least = least
        self.least_together = least_together
        self.seed = seed

    def fit(self, data: SupportSet, progress: Progress = ignore_progress) -> SupportLocaliser:
        """Describe the marked scans."""
        self.modality_ = modality_of(data.pairs[0][0])
        kind = SupportRegions if isinstance(self.descriptor, DenseDescriptor) else VotedRegions
        self.regions_ = kind(self.descriptor, seed=self.seed).fit(data, progress)
        return self

    def locate(self, volume: Volume, progress: Progress = ignore_progress) -> Location:
        """Find each structure; the whole box is around those that were found."""
        names = [segment.name for segment in self.regions_.segments_]
        if reason := emptiness(volume):
            return Location(None, 0.0, reason, [Part(name, None, 0.0, reason) for name in names])
        if modality_of(volume) != self.modality_:
            warnings.warn(
                f"{volume.name} looks like {modality_of(volume)}, the support like {self.modality_}: expect poor "
                "results; mark a scan of the same modality",
                InputWarning,
                stacklevel=2,
            )
        found = self.regions_.find(volume, progress)
        parts = [self._part(name, found.get(name), volume) for name in names]
        boxes = [part.box for part in parts if part.box is not None]
        certainty = float(np.mean([part.certainty for part in parts]))
        if not boxes or certainty < self.least_together:
            parts = [part if part.box is None else replace(part, box=None, reason=_NOT_ALIKE) for part in parts]
            return Location(None, certainty, "not found: nothing in this scan looks like what is marked", parts)
        points = np.concatenate([box.corners() for box in boxes])
        whole = Box.around(points, grid_axes(volume), name=f"{volume.name} box", certainty=certainty)
        missing = [part.name for part in parts if part.box is None]
        reason = f"without {', '.join(missing)}, which was not found" if missing else ""
        return Location(whole, certainty, reason, parts)

    def provenance(self) -> dict[str, Any]:
        settings = {"least": self.least, "least_together": self.least_together, "seed": self.seed}
        return {"method": self.name, "descriptor": self.descriptor.provenance(), "settings": settings}

    def _part(self, name: str, found: FoundRegion | None, volume: Volume) -> Part:
        if found is None:
            return Part(name, None, 0.0, "not found: nothing in this scan looks like it")
        box = found.box.clipped(volume)
        if box is None or found.inside < _LEAST_INSIDE:
            return Part(name, None, found.certainty, "not found: it lies outside of what this scan shows")
        if found.certainty < self.least:
            return Part(name, None, found.certainty, _NOT_ALIKE)
        reason = "cut by the edge of the scan" if found.inside < 0.98 else ""
        return Part(name, replace(box, name=name, certainty=found.certainty), found.certainty, reason)
