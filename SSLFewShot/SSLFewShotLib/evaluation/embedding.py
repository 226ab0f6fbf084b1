"""Descriptors of marked voxels in two dimensions."""

from __future__ import annotations

import numpy as np
from sklearn.manifold import TSNE

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.progress import Progress, ignore_progress, portion


def tsne_of_supports(
    descriptor: Descriptor,
    support: SupportSet,
    per_segment: int = 200,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> tuple[np.ndarray, np.ndarray]:
    """t-SNE of descriptors at foreground positions (Blendowski et al., MICCAI 2019, Fig. 2, right).

    No label enters the embedding; labels only choose the positions, `per_segment` of each segment, spread evenly
    over the supports that have marked it. The same seed gives the same positions for every descriptor.

    Returns the (N, 2) embedding and the (N,) segment values. Raises InputError for fewer than four positions.
    """
    rng = np.random.default_rng(seed)
    marking = np.bincount(
        [segment.value for number in range(len(support)) for segment in support.marked(number)],
        minlength=len(support.segments) + 1,
    )
    vectors, values = [], []
    for number, (volume, _) in enumerate(support):
        points = []
        for value, mask in support.masks(number).items():
            voxels = np.flatnonzero(mask)
            taken = rng.permutation(voxels)[: max(1, per_segment // marking[value])]
            k, j, i = np.unravel_index(taken, mask.shape)
            points.append(volume.points_from_indices(np.stack([i, j, k], axis=1)))
            values.append(np.full(len(taken), value))
        report = portion(progress, 0.7 * number / len(support), 0.7 * (number + 1) / len(support))
        vectors.append(descriptor.describe(volume, np.concatenate(points), report))
    found, members = np.concatenate(vectors), np.concatenate(values)
    if len(found) < 4:
        raise InputError(f"t-SNE: {len(found)} marked voxels are too few to show; mark at least 4")
    progress(0.7, "embedding descriptors")
    perplexity = min(30.0, (len(found) - 1) / 3)
    embedding = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(found.astype(np.float64))
    progress(1.0, "embedded descriptors")
    return embedding, members
