"""Labels carried from the supports by an alignment of descriptors, together with the vote of the nearest ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.alignment import Alignment, AlignmentSettings, DescribedScan, aligned
from SSLFewShotLib.segmentation.appearance import Appearance, Samples, weighed
from SSLFewShotLib.segmentation.carried_labels import CarriedLabels, LatticeProbabilities, Marking
from SSLFewShotLib.segmentation.decision import box_on_grid, decide_in_slabs
from SSLFewShotLib.segmentation.kept_volume import volume_odds
from SSLFewShotLib.segmentation.knn import KnnSegmenter
from SSLFewShotLib.segmentation.local_vote import local_vote
from SSLFewShotLib.segmentation.nearby import Nearby
from SSLFewShotLib.segmentation.network_share import STEPS, NetworkShare
from SSLFewShotLib.segmentation.pseudo_labels import chosen_scans
from SSLFewShotLib.segmentation.segmenter import Segmenter
from SSLFewShotLib.segmentation.structure import FINEST, fine_structure

_ALIKE = 0.6
"""Mean likeness, as cosines, of what came together; below, a scan shows something else (README)."""
_DESCRIBING = 0.03
"""Share of `fit` that describing takes where a network is trained."""
_AROUND = 6
"""Voxels of the prepared scan around what was carried, in which nearest neighbours and network have a say."""
_LEAST_PIECE = 0.25
"""Of the largest's voxels: what is carried lies where it belongs, and bone with metal in it falls apart."""


class AlignedSegmenter(Segmenter):
    """Aligns every support to a scan by their dense descriptors and carries its labels over.

    descriptor: a dense one. spatial_weight, reach, steps, stiffness, structure: see `AlignmentSettings`; the first
    also counts in the vote.
    vote, local: the shares in the probability of the nearest neighbours' vote and of the vote of the places around
    where the alignment leads (`local_vote`); the rest is what was carried.
    volume: how far each segment keeps the volume that was carried, see `volume_odds`; 0 for not at all.
    sharpness: of several supports, how much more one counts, place by place, that fits better there.
    smoothing: of the carried labels, a Gaussian's sigma as a share of a segment's thickness.
    appearance: how much intensities count that differ inside of a segment and around it, see `Appearance`.
    trained: the share of a network that is trained first, in `training_steps`, see `NetworkShare`; 0 for none.
    unlabelled: scans, or folders of them, that it learns from as well; of fewer than four nothing is learned.
    largest_component: keep the largest piece of each segment, and others of at least a quarter of its voxels.

    After `fit`: segments_, supports_, markings_, appearance_, voter_, network_, unlabelled_. Raises InputError for
    another kind of descriptor, or settings out of range.
    """

    name = "aligned"
    speeds: ClassVar = {"fast": {"steps": 20, "vote": 0.0, "local": 0.0}, "balanced": {}, "best": {"trained": 0.7}}

    def __init__(
        self,
        descriptor: Descriptor,
        spatial_weight: float = 2.0,
        reach: int = 2,
        steps: int = 60,
        stiffness: float = 0.4,
        structure: float = 0.5,
        vote: float = 0.2,
        local: float = 0.3,
        volume: float = 0.6,
        sharpness: float = 4.0,
        smoothing: float = 0.2,
        appearance: float = 0.4,
        trained: float = 0.0,
        training_steps: int = STEPS,
        unlabelled: Sequence[str] = (),
        largest_component: bool = True,
        seed: int = 0,
    ):
        if not isinstance(descriptor, DenseDescriptor):
            raise InputError(
                f"{descriptor.name}: aligning needs a dense model; choose one, or take the nearest neighbours "
                "(method knn)"
            )
        if vote < 0 or local < 0 or not vote + local <= 1:
            raise InputError(f"vote {vote}, local {local}: shares from 0 up, together at most 1, were expected")
        if not 0 <= sharpness < np.inf:
            raise InputError(f"sharpness {sharpness}: a number from 0 up was expected")
        for name, share in (("smoothing", smoothing), ("appearance", appearance), ("volume", volume)):
            if not 0 <= share <= 1:
                raise InputError(f"{name} {share}: a share from 0 to 1 was expected")
        if not 0 <= trained < 1 or training_steps < 1:
            raise InputError(
                f"trained {trained}, {training_steps} steps: a share from 0 up and below 1, and at least 1 step"
            )
        if unlabelled and not trained:
            raise InputError("unlabelled scans are learned from at the best speed; choose it, or leave them out")
        self.descriptor = descriptor
        self.alignment = AlignmentSettings(spatial_weight, reach, steps, stiffness, structure)
        self.vote = vote
        self.local = local
        self.volume = volume
        self.sharpness = sharpness
        self.smoothing = smoothing
        self.appearance = appearance
        self.trained = trained
        self.trains = trained > 0
        self.unlabelled = list(unlabelled)
        self.training_steps = training_steps
        self.largest_component = largest_component
        self.seed = seed

    def fit(self, support: SupportSet, progress: Progress = ignore_progress) -> AlignedSegmenter:
        """Describe every support and keep what alignment and vote need of it; train a network where it counts."""
        self.network_, self.unlabelled_ = None, chosen_scans(self.unlabelled) if self.trains else []
        self._take(support, portion(progress, 0.0, _DESCRIBING) if self.trains else progress)
        if self.trains:
            self.network_ = NetworkShare.trained(
                self.descriptor,
                support,
                self.predict,
                self.unlabelled_,
                self.trained,
                self.training_steps,
                self.seed,
                self.provenance(),
                self.folder,
                self.resume,
                portion(progress, _DESCRIBING, 1.0),
            )
        return self

    def _take(self, support: SupportSet, progress: Progress) -> None:
        """What alignment and vote need of the supports."""
        self.segments_ = list(support.segments)
        self.overlapping_ = any(labels.overlapping for _, labels in support)
        self.supports_: list[DescribedScan] = []
        self.markings_: list[list[Marking]] = []
        share = 0.5 / len(support)
        samples: list[list[Samples]] = [[] for _ in self.segments_]
        for number, (volume, _) in enumerate(support):
            self.supports_.append(self._described(volume, portion(progress, number * share, (number + 1) * share)))
            self.markings_.append([])
            for value, mask in support.masks(number).items():
                seen = Samples.of(volume, self.supports_[-1].scan, mask)
                samples[value - 1].append(seen)
                self.markings_[-1].append(Marking.of(volume, mask, value - 1, self.smoothing * seen.thickness))
        self.appearance_ = Appearance(samples, self.appearance)
        spacing = float(self.supports_[0].scan.spacing.min())
        voter = KnnSegmenter(
            self.descriptor, spacing=spacing, spatial_weight=self.alignment.spatial_weight, seed=self.seed
        )
        self.voter_ = voter.fit(support, portion(progress, 0.5, 1.0)) if self.vote > 0 else None

    def predict(self, volume: Volume, progress: Progress = ignore_progress) -> tuple[LabelMap, Volume]:
        """Align, carry the labels over, let the nearest neighbours vote, and decide on the scan's own grid."""
        target = self._described(volume, portion(progress, 0.0, 0.3))
        found = []
        for number, (support, markings) in enumerate(zip(self.supports_, self.markings_, strict=True)):
            begin, end = (0.3 + 0.35 * n / len(self.supports_) for n in (number, number + 1))
            corners = np.concatenate([marking.corners() for marking in markings])
            region = np.stack([corners.min(axis=0), corners.max(axis=0)])
            found.append(aligned(target, support, self.alignment, region, portion(progress, begin, end)))
        _warn_of_the_unlike(volume, found)
        carried = CarriedLabels(target.scan, self.markings_, found, len(self.segments_), self.sharpness)
        near = carried.box() + np.array([[-1], [1]]) * _AROUND * target.scan.spacing
        nearby = Nearby.of(target.scan, carried)
        sources = [(1 - self.vote - self.local, carried)]
        if self.local > 0:
            around = local_vote(target, self.supports_, carried, nearby, portion(progress, 0.65, 0.75))
            sources.append((self.local, around))
        if self.voter_ is not None:
            lattice = self.voter_.lattice(volume)
            voted = self.voter_.lattice_probabilities(lattice, portion(progress, 0.75, 0.85), near)
            sources.append((self.vote, LatticeProbabilities(lattice.origin, lattice.spacing, voted)))
        odds = volume_odds(nearby, sources, self.appearance_, self.overlapping_, self.volume)
        if self.network_ is not None:
            network = self.network_.seen(target.scan, near, portion(progress, 0.8, 0.85))
            own = self.network_.shares[:, None]
            sources = [*(((1 - own) * share, source) for share, source in sources), (own, network)]
            odds = (1 - self.network_.shares) * odds
        boxes = np.stack([box for _, source in sources if (box := source.box()) is not None])

        def mixed(slab: tuple[slice, slice, slice]) -> np.ndarray:
            k, j, i = np.meshgrid(*(np.arange(s.start, s.stop) for s in slab), indexing="ij")
            points = volume.points_from_indices(np.stack([i.ravel(), j.ravel(), k.ravel()], axis=1))
            total = sum(share * source(points) for share, source in sources)
            ratios = self.appearance_(target.scan.scale(volume.array[slab])) + odds[:, None, None, None]
            return weighed(total.reshape(len(total), *k.shape), ratios, self.overlapping_)

        return decide_in_slabs(
            volume,
            mixed,
            box_on_grid(volume, np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])),
            self.segments_,
            self.overlapping_,
            _LEAST_PIECE if self.largest_component else 0.0,
            portion(progress, 0.85, 1.0),
        )

    def provenance(self) -> dict[str, Any]:
        settings = {
            **asdict(self.alignment),
            "vote": self.vote,
            "local": self.local,
            "volume": self.volume,
            "sharpness": self.sharpness,
            "smoothing": self.smoothing,
            "appearance": self.appearance,
            "trained": self.trained,
            **(
                {
                    "training_steps": self.training_steps,
                    "unlabelled": [Path(one).name for one in getattr(self, "unlabelled_", self.unlabelled)],
                }
                if self.trains
                else {}
            ),
            "largest_component": self.largest_component,
            "seed": self.seed,
        }
        return {"method": self.name, "descriptor": self.descriptor.provenance(), "settings": settings}

    def _described(self, volume: Volume, progress: Progress) -> DescribedScan:
        scan = self.descriptor.prepare(volume)
        field = self.descriptor.field(scan, portion(progress, 0.0, 0.9))
        structure = None
        if self.alignment.structure and scan.spacing.min() >= FINEST:
            structure = fine_structure(scan, portion(progress, 0.9, 1.0))
        return DescribedScan.of(scan, field, structure)


def _warn_of_the_unlike(volume: Volume, alignments: Sequence[Alignment]) -> None:
    """Warn when not one of the supports resembles a scan where it was aligned."""
    likeness = max(float(one.fit[one.fit > -1].mean()) for one in alignments)
    if likeness < _ALIKE:
        warnings.warn(
            f"{volume.name}: hardly resembles what is marked (likeness {likeness:.2f}, of scans of one kind above "
            f"{_ALIKE}); check the result, and mark a scan of this kind if it is wrong",
            InputWarning,
            stacklevel=3,
        )
