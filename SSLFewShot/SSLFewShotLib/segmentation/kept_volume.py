"""Prior odds with which each segment keeps the volume that was carried to a scan.

Smoothing and votes wear away what is small or thin: half of its neighbours are something else. Where a border is,
votes and intensities tell best; how much it encloses, an alignment does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from SSLFewShotLib.segmentation.appearance import Appearance
from SSLFewShotLib.segmentation.nearby import Nearby

Source = Callable[[np.ndarray], np.ndarray]
"""(N, 3) LPS mm to (S, N) probabilities."""

_SWEEPS = 4
"""Segments that touch share voxels: what one gains another loses."""
_MOST = 3.0
"""Of the logarithm of the odds."""
_LEAST = 1e-4


def volume_odds(
    nearby: Nearby,
    sources: Sequence[tuple[float, Source]],
    appearance: Appearance,
    overlapping: bool,
    strength: float,
) -> np.ndarray:
    """(S,) float32, to be added to the log likelihood ratios of `weighed`; 0 for a strength of 0.

    sources: with their shares in the probability. strength: the share of the odds that is given, 0 to 1.
    """
    if strength == 0 or not nearby.reached.any():
        return np.zeros(len(nearby.labels), np.float32)
    points = nearby.places[nearby.reached.ravel()]
    probabilities = sum(share * source(points) for share, source in sources)
    values = nearby.scan.values[nearby.part].numpy()[nearby.reached]
    volumes = nearby.labels.sum(axis=(1, 2, 3))
    return strength * odds_for(volumes, probabilities, appearance(values), overlapping)


def odds_for(volumes: np.ndarray, probabilities: np.ndarray, ratios: np.ndarray, overlapping: bool) -> np.ndarray:
    """(S,) float32 logarithms of odds at which each segment wins as many of the N voxels as `volumes` says.

    probabilities, log likelihood ratios: (S, N). Without overlap a segment has to win against all others and the
    background, with overlap against its own background.
    """
    scores = np.log(np.maximum(probabilities, _LEAST)) + ratios
    left = 1 - (probabilities if overlapping else probabilities.sum(axis=0, keepdims=True))
    rest = np.log(np.maximum(left, _LEAST))
    odds = np.zeros(len(scores), np.float32)
    for _ in range(1 if overlapping else _SWEEPS):
        for number, count in enumerate(np.round(volumes).astype(int)):
            if not 0 < count < scores.shape[1]:
                continue
            # Of many segments, each is somewhere only; elsewhere no odds within bounds would let it win.
            here = probabilities[number] > _LEAST
            if count > here.sum():
                odds[number] = _MOST
                continue
            against = rest[number if overlapping else 0, here]
            if not overlapping:
                others = np.delete(scores[:, here] + odds[:, None], number, axis=0)
                against = np.maximum(against, others.max(axis=0, initial=-np.inf))
            lead = scores[number, here] - against
            odds[number] = np.clip(-np.partition(lead, -count)[-count], -_MOST, _MOST)
    return odds
