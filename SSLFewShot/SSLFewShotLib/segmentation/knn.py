"""Segmentation by the labels of the nearest support vectors (context-feature paper, section 3.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.body import body_mask
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.decision import labels_from_probabilities
from SSLFewShotLib.segmentation.lattice import Lattice
from SSLFewShotLib.segmentation.neighbours import NeighbourIndex, check_kind
from SSLFewShotLib.segmentation.segmenter import Segmenter
from SSLFewShotLib.segmentation.support_vectors import SupportVectors, draw_support_points

_REFINE_FROM = 0.4
"""A fine node is described where the coarse ones around give any segment at least this probability."""

_NODES_AT_ONCE = 1024


class KnnSegmenter(Segmenter):
    """k nearest neighbours in descriptor space, over all supports pooled.

    descriptor: what describes voxels.
    k: neighbours that vote (paper: 21).
    spacing: mm between the finest points that are classified (paper: every 4th voxel, 6 mm); None takes a
        20th of the descriptor's unit. Every second point is classified first, the ones between only where a
        structure is possible.
    normalise: standardise every number of a vector over the support and bring vectors to unit length before
        distances are taken; False takes them as they are (the paper).
    spatial_weight: 0 leaves the place out (the paper); else the distance of two points' places, relative to the
        body's box, counts this many times the typical distance of two vectors.
    index: "exact" or "approximate".
    per_segment, background: support points for each segment and for the background, over all supports.
    background_weight: 1 lets a background point vote for all the tissue that it stands for, 0 for itself.
    largest_component: keep the largest piece of each segment only.

    After `fit`: segments_, index_, mean_ and deviation_ (of each number), scale_ (typical squared distance
    of two vectors), recall_.
    """

    name = "knn"

    def __init__(
        self,
        descriptor: Descriptor,
        k: int = 21,
        spacing: float | None = None,
        normalise: bool = True,
        spatial_weight: float = 2.0,
        index: str = "exact",
        per_segment: int = 800,
        background: int = 8000,
        background_weight: float = 0.5,
        largest_component: bool = True,
        seed: int = 0,
    ):
        if k < 1:
            raise InputError(f"k = {k}: at least one neighbour is needed")
        if spacing is not None and not 0 < spacing < np.inf:
            raise InputError(f"a spacing of {spacing} mm: a length above 0 was expected")
        if not 0 <= spatial_weight < np.inf or not 0 <= background_weight < np.inf:
            raise InputError(f"weights {spatial_weight} and {background_weight}: numbers from 0 up were expected")
        if per_segment < 1 or background < 0:
            raise InputError(
                f"{per_segment} points a segment, {background} of background: at least 1 and 0 were expected"
            )
        check_kind(index)
        self.descriptor = descriptor
        self.k = k
        self.spacing = spacing
        self.normalise = normalise
        self.spatial_weight = spatial_weight
        self.index = index
        self.per_segment = per_segment
        self.background = background
        self.background_weight = background_weight
        self.largest_component = largest_component
        self.seed = seed

    def fit(
        self,
        support: SupportSet,
        progress: Progress = ignore_progress,
        described_before: SupportVectors | None = None,
    ) -> KnnSegmenter:
        """Describe points of every support and index them.

        described_before: keep one for all sets that share scans, and no point is described twice.
        """
        known_vectors = described_before or SupportVectors(self.descriptor)
        vectors, members, weights, known = [], [], [], []
        for number, (volume, _) in enumerate(support):
            report = portion(progress, number / len(support), (number + 1) / len(support))
            body = body_mask(volume, progress=portion(report, 0.0, 0.1))
            points = draw_support_points(
                volume,
                body,
                support.masks(number),
                len(support.segments),
                np.random.default_rng(self.seed),
                self.per_segment,
                self.background,
                supports=len(support),
                progress=portion(report, 0.1, 0.2),
            )
            report(0.2, f"preparing {volume.name}")
            described = known_vectors.describe(volume, points, portion(report, 0.2, 0.95))
            rest = portion(report, 0.95, 1.0)
            low, high = known_vectors.body_box(volume, self._spacing(volume, rest), rest)
            vectors.append((described, (points.points - low) / (high - low)))
            members.append(points.member)
            weights.append(points.weight)
            marked = np.zeros(len(support.segments), bool)
            marked[[segment.value - 1 for segment in support.marked(number)]] = True
            known.append(np.broadcast_to(marked, points.member.shape))
        self.segments_ = list(support.segments)
        self.overlapping_ = any(labels.overlapping for _, labels in support)
        self.members_ = np.concatenate(members)
        self.known_ = np.concatenate(known)
        self.weights_ = self._vote_weights(np.concatenate(weights))
        described = np.concatenate([v for v, _ in vectors])
        if not np.isfinite(described).all():
            raise InputError("the support's descriptors are not finite; check its scans for NaN voxels")
        self.mean_, self.deviation_ = described.mean(axis=0), described.std(axis=0)
        progress(1.0, "making the index")
        described = self._comparable(described)
        self.scale_ = _typical_squared_distance(described, np.random.default_rng(self.seed))
        self.index_ = NeighbourIndex(
            self._with_place(described, np.concatenate([p for _, p in vectors])), self.index, self.seed
        )
        self.recall_ = self.index_.recall
        return self

    def lattice(self, volume: Volume, progress: Progress = ignore_progress) -> Lattice:
        """The points of a scan that will be classified; keep it to classify the same scan again at little cost."""
        half = portion(progress, 0.0, 0.5), portion(progress, 0.5, 1.0)
        return Lattice(volume, self.descriptor, self._spacing(volume, half[0]), half[1])

    def predict(
        self, volume: Volume, progress: Progress = ignore_progress, lattice: Lattice | None = None
    ) -> tuple[LabelMap, Volume]:
        """Classify the lattice, coarse then fine, and interpolate the probabilities to the scan's own grid."""
        progress(0.0, f"preparing {volume.name}")
        lattice = lattice or self.lattice(volume, portion(progress, 0.0, 0.1))
        probabilities = self.lattice_probabilities(lattice, portion(progress, 0.1, 0.9))
        labels, confidence = labels_from_probabilities(
            volume,
            probabilities,
            lattice.origin,
            lattice.spacing,
            self.segments_,
            self.overlapping_,
            float(self.largest_component),
            portion(progress, 0.9, 1.0),
        )
        return labels, confidence

    def lattice_probabilities(
        self, lattice: Lattice, progress: Progress = ignore_progress, within: np.ndarray | None = None
    ) -> np.ndarray:
        """(S, K, J, I) float32: the probability of each segment at each node; 0 outside the body.

        within: (2, 3) LPS mm, a box outside of which it is known to be 0.
        """
        coarse_shape = tuple((n + 1) // 2 for n in lattice.shape)
        coarse = np.zeros((len(self.segments_), *coarse_shape), np.float32)
        nodes = lattice.coarse_nodes()
        if within is not None:
            points = lattice.points(nodes)
            nodes = nodes[((points >= within[0]) & (points <= within[1])).all(axis=1)]
        at = np.unravel_index(nodes, lattice.shape)
        coarse[:, at[0] // 2, at[1] // 2, at[2] // 2] = self._vote(lattice, nodes, portion(progress, 0.0, 0.5)).T
        fine = coarse
        for axis, size in enumerate(lattice.shape, start=1):
            fine = _doubled(fine, axis, size)
        possible = ndimage.grey_dilation(coarse.max(axis=0), size=3) > _REFINE_FROM
        # A node between two coarse ones goes with the latter, where there is one.
        nearest = [np.minimum((np.arange(n) + 1) // 2, (n - 1) // 2) for n in lattice.shape]
        possible = possible[np.ix_(*nearest)]
        nodes = np.flatnonzero(possible & lattice.body)
        flat = fine.reshape(len(fine), -1)
        flat[:, nodes] = self._vote(lattice, nodes, portion(progress, 0.5, 1.0)).T
        fine *= lattice.body
        return fine

    def provenance(self) -> dict[str, Any]:
        settings = {
            "k": self.k,
            "spacing_mm": self.spacing,
            "normalise": self.normalise,
            "spatial_weight": self.spatial_weight,
            "index": self.index,
            "per_segment": self.per_segment,
            "background": self.background,
            "background_weight": self.background_weight,
            "largest_component": self.largest_component,
            "seed": self.seed,
        }
        return {"method": self.name, "descriptor": self.descriptor.provenance(), "settings": settings}

    def _spacing(self, volume: Volume, progress: Progress = ignore_progress) -> float:
        if self.spacing is not None:
            return self.spacing
        return float(self.descriptor.prepare(volume, progress).unit.min()) / 20

    def _vote_weights(self, volumes: np.ndarray) -> np.ndarray:
        """mm³ a point stands for to the weight of its vote, 1 on average over the foreground."""
        inside = self.members_.any(axis=1)
        return (volumes / volumes[inside].mean()) ** self.background_weight if inside.any() else volumes * 0 + 1

    def _comparable(self, vectors: np.ndarray) -> np.ndarray:
        """(N, D) descriptors as they are compared; a number that never varies counts nothing."""
        if not self.normalise:
            return vectors
        varies = self.deviation_ > 1e-6 * max(float(self.deviation_.max()), 1e-30)
        scaled = np.where(varies, (vectors - self.mean_) / np.where(varies, self.deviation_, 1), 0)
        length = np.linalg.norm(scaled, axis=1, keepdims=True)
        return (scaled / np.maximum(length, 1e-12)).astype(np.float32)

    def _with_place(self, vectors: np.ndarray, places: np.ndarray) -> np.ndarray:
        if self.spatial_weight == 0:
            return vectors
        return np.concatenate(
            [vectors, places * self.spatial_weight * np.sqrt(self.scale_)], axis=1, dtype=np.float32
        )

    def _vote(self, lattice: Lattice, nodes: np.ndarray, progress: Progress) -> np.ndarray:
        """(N, S) float32 probabilities by the distance-weighted vote of the k nearest support points.

        A neighbour at squared distance d² weighs exp(−d²/d̄²), d̄² being the mean over the k neighbours; a
        support that has not marked a segment has no say on it.
        """
        vectors = lattice.vectors(nodes, portion(progress, 0.0, 0.8))
        report = portion(progress, 0.8, 1.0)
        probabilities = np.empty((len(nodes), len(self.segments_)), np.float32)
        for start in range(0, len(nodes), _NODES_AT_ONCE):
            report(start / len(nodes), "comparing with the support")
            part = slice(start, start + _NODES_AT_ONCE)
            queries = self._with_place(self._comparable(vectors[part]), lattice.positions(nodes[part]))
            distances, rows = self.index_.search(queries, self.k)
            found = rows >= 0
            mean = distances.mean(axis=1, where=found, keepdims=True)
            votes = np.exp(-np.where(found, distances, 0) / np.maximum(mean, 1e-12))
            votes = (votes * self.weights_[rows] * found).astype(np.float32)
            for_segment = np.einsum("nk,nks->ns", votes, self.members_[rows])
            of_all = np.einsum("nk,nks->ns", votes, self.known_[rows])
            probabilities[part] = for_segment / np.maximum(of_all, 1e-12)
        return probabilities


def _doubled(coarse: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Linear interpolation between the nodes along an axis; beyond the last one it repeats."""
    coarse = np.moveaxis(coarse, axis, 0)
    fine = np.repeat(coarse, 2, axis=0)[:size]
    fine[1 : 2 * len(coarse) - 1 : 2] = (coarse[:-1] + coarse[1:]) / 2
    return np.ascontiguousarray(np.moveaxis(fine, 0, axis))


def _typical_squared_distance(vectors: np.ndarray, rng: np.random.Generator) -> float:
    """Mean squared distance of two vectors drawn at random."""
    first, second = rng.integers(len(vectors), size=(2, 4096))
    return float(((vectors[first] - vectors[second]) ** 2).sum(axis=1).mean()) or 1.0
