"""The adaptive local prototype module of ALPNet in 3D: prototypes of a support, and what a query scores by them.

Zhang and Liu, "Self-supervised few-shot learning for 3D supervoxel-based medical image segmentation" (2022),
sections 3.3.2 to 3.3.4; Ouyang et al., "Self-supervision with superpixels" (ECCV 2020 and IEEE TMI 2022), for what
it leaves open. Vectors are brought to unit length before they are pooled, so that every voxel of a window counts
alike, and one field of vectors serves prototypes, nearest neighbours and alignment.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

SCALE = 20.0
"""α of equation 3.3, after PANet."""
THRESHOLD = 0.95
"""The share of a window that must be of one class for the window's mean to be a prototype of it."""
BETA = 0.5
ROWS = 1024
"""Query vectors compared at once: some megabytes of similarities, which bounds the memory and suits a cache."""

Window = tuple[int, int, int]


@dataclass(frozen=True)
class Prototypes:
    """vectors: (P, C), pooled; foreground, background: (P, S) bool, for which of S classes each speaks how.

    places: (P, 3) index (k, j, i) of the middle of what was pooled.
    local: (S,) bool, whether a class has local prototypes of its own, or its class prototype alone.
    """

    vectors: torch.Tensor
    foreground: torch.Tensor
    background: torch.Tensor
    places: torch.Tensor
    local: torch.Tensor


def window_means(maps: torch.Tensor, window: Window) -> torch.Tensor:
    """(C, K, J, I) to the means over a grid of windows (k, j, i), equation 3.1.

    The last window of an axis is as small as what is left; one that is larger than the maps is cut to them.
    """
    window = tuple(min(side, length) for side, length in zip(window, maps.shape[1:], strict=True))
    return F.avg_pool3d(maps[None], window, window, ceil_mode=True, count_include_pad=False)[0]


def masked_mean(maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(C, K, J, I) maps and (K, J, I) weights to (C,), equation 3.2."""
    return (maps * mask).sum(dim=(1, 2, 3)) / mask.sum().clamp(min=1e-6)


def prototypes_of(
    maps: torch.Tensor,
    masks: torch.Tensor,
    valid: torch.Tensor,
    window: Window,
    threshold: float = THRESHOLD,
    background_window: Window | None = None,
) -> Prototypes:
    """The prototypes of a support.

    maps: (C, K, J, I); masks: (S, K, J, I), 0..1, the share of a voxel that is of a class; valid: (K, J, I) bool,
        the body. window: voxels along k, j, i.
    background_window: of the background's windows, where it is not the same.

    Foreground of a class are the means of the windows that are its own to `threshold`, and its class prototype,
    the mean under its mask. Background are the windows that are free of it to `threshold` and at least half in
    the body; where there is none, the mean of the body outside of its mask.
    """
    counts = masks.flatten(1).sum(dim=1)
    vectors, foreground, background, places = [], [], [], []

    def add(means: torch.Tensor, fore: torch.Tensor, back: torch.Tensor, where: torch.Tensor) -> None:
        vectors.append(means)
        foreground.append(fore)
        background.append(back)
        places.append(where)

    # Windows of both kinds at once where they are alike.
    kinds = [(window, True, background_window in (None, window))]
    if not kinds[0][2]:
        kinds.append((background_window, False, True))
    for side, for_foreground, for_background in kinds:
        shares = window_means(torch.cat([masks, valid[None].to(masks)]), side)
        means, middles = window_means(maps, side).flatten(1).T, _middles(maps.shape[1:], side, maps.device)
        inside, shares = shares[-1].flatten() >= 0.5, shares[:-1].flatten(1).T
        fore = (shares >= threshold) & for_foreground
        back = (shares <= 1 - threshold) & inside[:, None] & for_background
        used = (fore | back).any(dim=1)
        add(means[used], fore[used], back[used], middles[used])
    local = torch.cat(foreground).any(dim=0)
    some_background = torch.cat(background).any(dim=0)
    number = torch.arange(len(masks), device=maps.device)
    for s in range(len(masks)):
        if counts[s] > 0:
            place = masked_mean(_indices(maps), masks[s])
            add(masked_mean(maps, masks[s])[None], (number == s)[None], (number < 0)[None], place[None])
        rest = (1 - masks[s]) * valid
        if not some_background[s] and rest.sum() > 0:
            place = masked_mean(_indices(maps), rest)
            add(masked_mean(maps, rest)[None], (number < 0)[None], (number == s)[None], place[None])
    parts = (vectors, foreground, background, places)
    return Prototypes(*(torch.cat(part) for part in parts), local)


def similarity(queries: torch.Tensor, vectors: torch.Tensor, scale: float = SCALE) -> torch.Tensor:
    """α · cosine between (V, C) query vectors and (P, C) prototypes, (V, P), equation 3.3."""
    return scale * F.normalize(queries, dim=1) @ F.normalize(vectors, dim=1).T


def fused(similarities: torch.Tensor, members: torch.Tensor, scale: float = SCALE) -> torch.Tensor:
    """What (V, P) similarities say together for each of S groups of prototypes, (P, S) bool: (V, S).

    S_c = Σ_p softmax_p(s_p) s_p over the members of a group, as in ALPNet; a group without members gets −α.
    """
    # cos ≤ 1, so that e^(s − α) neither overflows nor, down to cos = −1, vanishes.
    weights = torch.exp(similarities - scale)
    members = members.to(weights)
    total = weights @ members
    found = ((weights * similarities) @ members) / total.clamp(min=1e-37)
    return torch.where(members.any(dim=0), found, -scale)


def foreground_logits(foreground: torch.Tensor, background: torch.Tensor, beta: float = BETA) -> torch.Tensor:
    """The logit of each class against its background, 2 (β S_f − (1 − β) S_b).

    Equation 3.5 as printed has no β on its first term and adds up to no probability; with β on both, β = 0.5
    is the softmax over the two scores of equation 3.4, and a larger β favours the foreground.
    """
    return 2 * (beta * foreground - (1 - beta) * background)


def predicted(queries: torch.Tensor, prototypes: Prototypes, beta: float = BETA, rows: int = ROWS) -> torch.Tensor:
    """(V, C) query vectors to the (V, S) logit of each class against the rest, `rows` vectors at a time."""
    parts = []
    members = torch.cat([prototypes.foreground, prototypes.background], dim=1)
    for part in queries.split(rows):
        found = similarity(part, prototypes.vectors)
        parts.append(foreground_logits(*fused(found, members).chunk(2, dim=1), beta))
    return torch.cat(parts) if parts else queries.new_zeros((0, prototypes.foreground.shape[1]))


def dice_loss(
    probabilities: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """1 − (2 Σ ŷ y + 1) / (Σ ŷ + Σ y + 1), equation 3.6, over the first axis.

    weights: (V,), how many voxels each row stands for; None for one each.
    """
    weights = torch.ones_like(truth[:, 0]) if weights is None else weights
    found, total = weights @ probabilities, weights @ truth
    overlap = weights @ (probabilities * truth)
    return 1 - (2 * overlap + 1) / (found + total + 1)


def _middles(size: torch.Size, window: Window, device: torch.device) -> torch.Tensor:
    axes = []
    for length, side in zip(size, window, strict=True):
        starts = torch.arange(0, length, min(side, length), device=device)
        axes.append((starts + (starts + side).clamp(max=length) - 1) / 2)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def _indices(maps: torch.Tensor) -> torch.Tensor:
    axes = [torch.arange(n, device=maps.device, dtype=maps.dtype) for n in maps.shape[1:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
