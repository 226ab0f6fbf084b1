"""What a scan shows alike from an end of an axis on, taken out: a table, a tube, a holder, the medium around.

Zharov, Ershov and Baumbach (2020), section 2, take the background for more homogeneous than the object, and for
turned at random against it. A table is neither: it tells how a slice is turned as well as a patient does, in every
slice, with and without him. But it is the same in all of them, and beyond the object there is nothing else: there
it can be seen what it looks like.
"""

from __future__ import annotations

import numpy as np
import torch

_ENDS, _FEWEST = 0.05, 3
"""Share of an axis at either end within which slices have to be alike, and how many slices that is at least."""
_CHANGED = 0.003
"""Share of a slice's pixels that may differ from what is the same in all of them."""
_LEAST_TOLERANCE, _NOISES = 0.03, 5.0
"""By how much a pixel that is alike differs at most: of normalised values, and in deviations of the noise."""
_DRIFT = 1.2
"""Noise is no stronger between slices that lie apart than between neighbours; an object's changes add up."""
_SMOOTH = 0.5
"""Correlation of neighbouring pixels above which a difference of slices is anatomy (0.8 or more), not noise."""


def without_background(values: torch.Tensor) -> tuple[torch.Tensor, float | None]:
    """Take out of a scan, (K, J, I), what the first or the last slices of an axis show alike, all along that axis.

    Slices that differ, as those at an end that an object reaches, say nothing of the background: nothing is taken
    out for them. What is taken out becomes the median of what those slices show.

    Returns the scan and that median; where nothing is taken out, the very same scan and None.
    """
    background = torch.zeros(values.shape, dtype=torch.bool)
    levels = []
    for axis in range(3):
        slices, hidden = values.movedim(axis, 0), background.movedim(axis, 0)
        for end in (slices, slices.flip(0)):
            if (alike := _alike(end)) is not None:
                shown, tolerance = alike
                hidden |= (slices - shown).abs() <= tolerance
                levels.append(shown.flatten())
    if not levels:
        return values, None
    level = torch.cat(levels).median()
    return torch.where(background, level, values), float(level)


def _alike(slices: torch.Tensor) -> tuple[torch.Tensor, float] | None:
    """What the first slices show alike, (H, W), and how far noise strays from it; None where they differ."""
    count = max(_FEWEST, round(_ENDS * len(slices)))
    if len(slices) < 4 * count:
        return None
    first = slices[:count]
    shown = first.median(dim=0).values
    near, far = (_spread(other - first[0]) for other in (first[1], first[-1]))
    tolerance = max(_LEAST_TOLERANCE, _NOISES * near / np.sqrt(2))
    if far > _DRIFT * near + 0.5 * _LEAST_TOLERANCE:
        return None
    if tolerance > _LEAST_TOLERANCE and _smoothness(first[1] - first[0]) > _SMOOTH:
        return None
    changed = ((first - shown).abs() > tolerance).float().mean(dim=(1, 2))
    return (shown, tolerance) if bool((changed <= _CHANGED).all()) else None


def _spread(difference: torch.Tensor) -> float:
    """The deviation of most pixels from none, whatever a few of them do."""
    return 1.4826 * float(difference.abs().median())


def _smoothness(difference: torch.Tensor) -> float:
    """The correlation of a pixel with those beside and below it, whichever is less."""
    centred = difference - difference.mean()
    variance = float((centred**2).mean()) or 1.0
    pairs = (centred[1:] * centred[:-1], centred[:, 1:] * centred[:, :-1])
    return min(float(pair.mean()) / variance for pair in pairs)
