"""Localisation by clustering: dense clusters of embeddings are background, what is left is the object.

Zharov, Ershov and Baumbach (2020), section 2.2, "Embeddings clustering", and section 3.1: DBSCAN (ε = 0.5) on the
last layer's embeddings of superpixels, and a linear classifier learned from its clusters, whose AUROC is the
control metric. Places of which nothing is left when the background is taken out (`sampling.foreground`) are
background as well, however a network with a wide view of their surroundings sees them. The paper does not say how
embeddings are scaled for ε: here they have mean 0 and a mean squared length of 4 over the sample, so that two of
them are about 3 apart. As in the paper, DBSCAN and logistic regression are scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.localisation.embeddings import back_to_slice, slice_features
from SSLFewShotLib.localisation.localiser import Localiser, Location, Profile, emptiness
from SSLFewShotLib.localisation.slice_model import SliceModel
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.slices import AXES, SliceScan

WHAT = "share of object"
_SPREAD = 2.0
"""Root of the mean square of an embedding's length, in units of ε = 1."""
_LEAST_AUROC = 0.75
_THIN = 0.04
_SECOND = 0.2
"""Share of the largest piece's volume from which another piece counts as a second object."""


class ClusteringLocaliser(Localiser):
    """Tells object from background by a linear classifier that clusters of unlabelled embeddings have taught.

    model: of slice-order or slice-rotation. epsilon: of DBSCAN; dense: the share of the sample that must lie
    within epsilon of an embedding for it to be in the middle of a cluster. sample: how many are clustered.

    After `fit`: auroc_ (of the classifier, on embeddings that it was not taught by), background_ (share of the
    embeddings in dense clusters or of empty places), clusters_ (their number). Certainty is 2 · AUROC − 1, times
    how much surer the classifier is within the box than beside it.
    """

    name = "clustering"

    def __init__(
        self, model: SliceModel, epsilon: float = 0.5, dense: float = 0.05, sample: int = 6000, seed: int = 0
    ):
        if not 0 < epsilon < np.inf or not 0 < dense < 1 or sample < 200:
            raise InputError(
                f"epsilon {epsilon}, dense {dense}, sample {sample}: a number above 0, a share and at least 200 "
                "were expected"
            )
        self.model = model
        self.epsilon = epsilon
        self.dense = dense
        self.sample = sample
        self.seed = seed

    def fit(self, data: Sequence[Volume], progress: Progress = ignore_progress) -> ClusteringLocaliser:
        """Cluster the embeddings of unlabelled scans and learn to tell the clusters from the rest."""
        volumes = [volume for volume in data if not emptiness(volume)]
        if not volumes:
            raise InputError("clustering: none of the scans shows anything; give scans that are not empty")
        rng = np.random.default_rng(self.seed)
        vectors, empty = [], []
        for number, volume in enumerate(volumes):
            part = portion(progress, 0.8 * number / len(volumes), 0.8 * (number + 1) / len(volumes))
            drawn, nothing = self._drawn(volume, self.sample // len(volumes), rng, part)
            vectors.append(drawn)
            empty.append(nothing)
        self._learn(np.concatenate(vectors), np.concatenate(empty), rng, portion(progress, 0.8, 1.0))
        return self

    def locate(self, volume: Volume, progress: Progress = ignore_progress) -> Location:
        """Find the object: the largest piece of the scan that is more likely object than background."""
        if reason := emptiness(volume):
            return Location(None, 0.0, reason)
        if self.classifier_ is None or self.auroc_ < _LEAST_AUROC:
            return Location(
                None, 0.0, "not found: the embeddings do not fall into background and object; take another model"
            )
        scan = self.model.preparation(volume, portion(progress, 0.0, 0.1))
        share = self.share_of_object(scan, portion(progress, 0.1, 1.0))
        return self._located(scan, share, volume)

    def share_of_object(self, scan: SliceScan, progress: Progress = ignore_progress) -> np.ndarray:
        """(K, J, I) on the scan's prepared grid: the classifier's probability of object, the least of three axes.

        A network sees the surroundings of a place within its slice, but not across it: so that an object's edge is
        sharp along the slicing axis alone, and a place counts as object only where slices across all axes say so.
        """
        least = np.ones(scan.values.shape, np.float32)
        for axis in range(3):
            part = portion(progress, axis / 3, (axis + 1) / 3)
            slices = np.moveaxis(least, 2 - axis, 0)
            for numbers, features, _ in slice_features(self.model, scan, axis, progress=part):
                flat = self._scaled(features.reshape(-1, features.shape[-1]))
                found = self.classifier_.predict_proba(flat)[:, 1].reshape(features.shape[:3])
                shown = back_to_slice(found.astype(np.float32), *slices.shape[1:])
                slices[numbers] = np.minimum(slices[numbers], shown)
        return least

    def provenance(self) -> dict[str, Any]:
        settings = {"epsilon": self.epsilon, "dense": self.dense, "sample": self.sample, "seed": self.seed}
        fitted = {
            "auroc": round(self.auroc_, 4),
            "background_share": round(self.background_, 4),
            "clusters": self.clusters_,
        }
        return {
            "method": self.name,
            "descriptor": self.model.provenance(),
            "settings": settings,
            "fitted": fitted,
        }

    def _drawn(
        self, volume: Volume, count: int, rng: np.random.Generator, progress: Progress
    ) -> tuple[np.ndarray, np.ndarray]:
        """(count, D) embeddings of a scan, from everywhere, and (count,) which of them are of empty places."""
        scan = self.model.preparation(volume)
        found, nothing = [], []
        for axis in range(3):
            part = portion(progress, axis / 3, (axis + 1) / 3)
            for _, features, empty in slice_features(self.model, scan, axis, every=2, progress=part):
                found.append(_within(scan, axis, features))
                nothing.append(_within(scan, axis, empty[..., None])[:, 0])
        vectors = np.concatenate(found)
        chosen = rng.permutation(len(vectors))[:count]
        return vectors[chosen], np.concatenate(nothing)[chosen]

    def _learn(self, vectors: np.ndarray, empty: np.ndarray, rng: np.random.Generator, progress: Progress) -> None:
        # Here and not at the top: it takes a second to load.
        from sklearn.cluster import DBSCAN
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score

        progress(0.0, "clustering embeddings")
        self.mean_ = vectors.mean(axis=0)
        centred = vectors - self.mean_
        self.scale_ = float(np.sqrt((centred**2).sum(axis=1).mean())) / _SPREAD or 1.0
        scaled = self._scaled(vectors)
        least = max(5, round(self.dense * len(scaled)))
        labels = DBSCAN(eps=self.epsilon, min_samples=least).fit_predict(scaled)
        progress(0.7, "learning to tell object from background")
        is_object = (labels < 0) & ~empty
        self.background_ = float(1 - is_object.mean())
        self.clusters_ = int(labels.max() + 1)
        self.auroc_, self.classifier_ = 0.0, None
        if min(is_object.sum(), (~is_object).sum()) < 20:
            return
        half = rng.permutation(len(scaled)) % 2 == 0
        taught = LogisticRegression(max_iter=500, class_weight="balanced").fit(scaled[half], is_object[half])
        self.auroc_ = float(roc_auc_score(is_object[~half], taught.decision_function(scaled[~half])))
        self.classifier_ = LogisticRegression(max_iter=500, class_weight="balanced").fit(scaled, is_object)

    def _scaled(self, vectors: np.ndarray) -> np.ndarray:
        return (vectors - self.mean_) / self.scale_

    def _located(self, scan: SliceScan, share: np.ndarray, volume: Volume) -> Location:
        inside = ndimage.uniform_filter(share, 3) > 0.5
        pieces, count = ndimage.label(_without_thin_parts(inside))
        profiles = [_profile(scan, share, axis, None) for axis in range(3)]
        if not count:
            return Location(None, 0.0, "not found: all of this scan looks like background", (), profiles)
        sizes = np.bincount(pieces.ravel())[1:]
        piece = pieces == 1 + int(np.argmax(sizes))
        kji = np.argwhere(piece)
        low, high = kji.min(axis=0)[::-1] - 0.5, kji.max(axis=0)[::-1] + 0.5
        if min(np.ptp(kji, axis=0)) < 2:
            return Location(None, 0.0, "not found: what differs from background is too small", (), profiles)
        beside = float(share[~inside].mean()) if not inside.all() else 0.0
        step = max(float(share[piece].mean()) - beside, 0.0)
        certainty = float(np.clip((2 * self.auroc_ - 1) * step, 0, 1))
        notes = []
        if (sizes >= _SECOND * sizes.max()).sum() > 1:
            certainty *= 0.6
            notes.append("there is another object beside it, the largest was taken")
        if inside.mean() > 0.95:
            notes.append("the object fills the field of view")
        corners = scan.origin + scan.spacing * np.stack([low, high])
        box = Box.around(corners, np.eye(3), name=f"{volume.name} box", certainty=certainty).clipped(volume)
        profiles = [_profile(scan, share, axis, corners[:, axis]) for axis in range(3)]
        return Location(box, certainty, "; ".join(notes), (), profiles)


def _without_thin_parts(inside: np.ndarray) -> np.ndarray:
    """Opened by a ball of a 25th of the longest side, so that a board or a rod does not hang on to the object."""
    radius = _THIN * max(inside.shape)
    padded = np.pad(inside, 1, mode="edge")
    core = ndimage.distance_transform_edt(padded)[1:-1, 1:-1, 1:-1] > radius
    if not core.any():
        return inside
    return inside & (ndimage.distance_transform_edt(~core) <= radius + 0.5)


def _within(scan: SliceScan, axis: int, features: np.ndarray) -> np.ndarray:
    """(N, D) of (n, s, s, D): the superpixels that lie on the slices, not on what padded them to squares."""
    height, width = np.moveaxis(np.empty(scan.values.shape, bool), 2 - axis, 0).shape[1:]
    side = features.shape[1]
    steps = (np.arange(side) + 0.5) / side * 2 - 1
    rows, columns = (np.abs(steps) <= n / max(height, width) for n in (height, width))
    kept = rows[:, None] & columns
    return features[:, kept].reshape(-1, features.shape[-1])


def _profile(scan: SliceScan, share: np.ndarray, axis: int, edges: np.ndarray | None) -> Profile:
    """Of each slice across an axis, the share of object that a hundredth of its places reaches."""
    slices = np.moveaxis(share, 2 - axis, 0).reshape(share.shape[2 - axis], -1)
    values = np.percentile(slices, 99, axis=1)
    positions = scan.origin[axis] + scan.spacing[axis] * np.arange(len(values))
    span = None if edges is None else (float(edges[0]), float(edges[1]))
    return Profile(AXES[axis], positions, values, 0.5, span, WHAT)
