"""Segmentation by prototypes: a place belongs to the structure whose prototypes its vector is most like."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.networks.alp import BETA, THRESHOLD
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.carried_labels import LatticeProbabilities
from SSLFewShotLib.segmentation.decision import box_on_grid, decide_in_slabs
from SSLFewShotLib.segmentation.segmenter import Segmenter
from SSLFewShotLib.segmentation.support_prototypes import (
    PlacedPrototypes,
    PrototypeSettings,
    probabilities,
    support_prototypes,
)

WINDOW = (2, 2, 2)
BACKGROUND_WINDOW = (3, 3, 3)
"""Both measured best of cubes of 1 to 4 voxels on the scans that settings were chosen on."""


class PrototypeSegmenter(Segmenter):
    """3D ALPNet (Zhang and Liu 2022) on whole scans: local and class prototypes, cosine, softmax.

    descriptor: a dense one, best an ALPNET model. window, background_window: voxels of its grid along k, j, i; the
    first is for the foreground. threshold, beta: see `networks.alp`.
    spatial_weight: how much the place in the body counts beside the vector, as for the nearest neighbours (0: as
    in the paper, which compares vectors alone).
    largest_component: keep the largest piece of each segment only.

    Every class is scored against the background of its own, and a voxel gets the likeliest of all and background;
    the prototypes of several supports are pooled. The scan is described in tiles, and compared some thousand
    voxels at a time: memory is that of its vectors at the model's spacing, whatever its own.

    After `fit`: segments_, prototypes_, alone_ (names of the segments with a class prototype alone). Raises
    InputError for another kind of descriptor, or settings out of range; when no background is left in any support.
    """

    name = "prototype"

    def __init__(
        self,
        descriptor: Descriptor,
        window: Sequence[int] = WINDOW,
        background_window: Sequence[int] = BACKGROUND_WINDOW,
        threshold: float = THRESHOLD,
        beta: float = BETA,
        spatial_weight: float = 5.0,
        largest_component: bool = True,
        seed: int = 0,
    ):
        if not isinstance(descriptor, DenseDescriptor):
            raise InputError(
                f"{descriptor.name}: prototypes need an alpnet or dense model; choose one, or the nearest "
                "neighbours (method knn)"
            )
        self.descriptor = descriptor
        self.settings = PrototypeSettings(tuple(window), tuple(background_window), threshold, beta, spatial_weight)
        self.largest_component = largest_component
        self.seed = seed  # nothing is drawn; an evaluation gives every segmenter its seed

    def fit(
        self,
        support: SupportSet,
        progress: Progress = ignore_progress,
        known: dict[tuple[int, int], PlacedPrototypes] | None = None,
    ) -> PrototypeSegmenter:
        """Describe every support and pool its prototypes.

        known: prototypes of scans by the ids of scan and labels, as far as they were made before; new ones are
        added. It holds for one descriptor and the same settings.

        Warns (InputWarning) of segments that have a class prototype alone, and of a support smaller than a window.
        """
        self.segments_ = list(support.segments)
        self.overlapping_ = any(labels.overlapping for _, labels in support)
        known = {} if known is None else known
        parts = []
        for number, (volume, labels) in enumerate(support):
            part = portion(progress, number / len(support), (number + 1) / len(support))
            key = id(volume), id(labels)
            names = {segment.value: segment.name for segment in support.marked(number)}
            if key not in known or set(known[key].names) != set(names.values()):
                scan = self.descriptor.prepare(volume, portion(part, 0.0, 0.1))
                field = self.descriptor.field(scan, portion(part, 0.1, 0.9))
                masks = {names[value]: mask for value, mask in support.masks(number).items()}
                part(0.9, f"pooling the prototypes of {volume.name}")
                known[key] = support_prototypes(volume, scan, field, masks, self.settings)
            parts.append(known[key])
        self.prototypes_ = PlacedPrototypes.pooled(parts, [segment.name for segment in self.segments_])
        self.alone_ = [
            segment.name
            for segment, local in zip(self.segments_, self.prototypes_.local, strict=True)
            if not local
        ]
        if self.alone_:
            warnings.warn(
                f"{', '.join(self.alone_)}: thinner than a window in every support; the class prototype alone "
                "stands for it, so look closely at the result",
                InputWarning,
                stacklevel=2,
            )
        return self

    def predict(self, volume: Volume, progress: Progress = ignore_progress) -> tuple[LabelMap, Volume]:
        """Describe the scan, compare its body with the prototypes and decide on the scan's own grid."""
        scan = self.descriptor.prepare(volume, portion(progress, 0.0, 0.1))
        field = self.descriptor.field(scan, portion(progress, 0.1, 0.6))
        found = probabilities(
            scan, field, self.prototypes_, self.settings, self.overlapping_, portion(progress, 0.6, 0.85)
        )
        source = LatticeProbabilities(scan.origin, scan.spacing, found)

        def looked_up(slab: tuple[slice, slice, slice]) -> np.ndarray:
            k, j, i = np.meshgrid(*(np.arange(s.start, s.stop) for s in slab), indexing="ij")
            points = volume.points_from_indices(np.stack([i.ravel(), j.ravel(), k.ravel()], axis=1))
            return source(points).reshape(len(found), *k.shape)

        box = source.box()
        return decide_in_slabs(
            volume,
            looked_up,
            None if box is None else box_on_grid(volume, box),
            self.segments_,
            self.overlapping_,
            float(self.largest_component),
            portion(progress, 0.85, 1.0),
        )

    def provenance(self) -> dict[str, Any]:
        settings = {**self.settings.to_dict(), "largest_component": self.largest_component, "seed": self.seed}
        return {"method": self.name, "descriptor": self.descriptor.provenance(), "settings": settings}
