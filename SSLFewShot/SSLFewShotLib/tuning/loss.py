"""The losses of fine-tuning, for labels that may be soft, count more or less, and lack some segments.

Dhere and Sivaswamy, "Self-supervised learning for segmentation" (ISBI 2021), section 2: L = w · BCE + (1 − w) ·
(1 − Dice), w being 0.6 at first and smaller as training goes on. How much smaller the paper does not say; here it
falls linearly to 0.1. Their Dice is that of Milletari et al., "V-Net" (3DV 2016), with squares in the denominator.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from SSLFewShotLib.errors import InputError

LOSSES = ("bce-dice", "dice-ce")
BCE_AT_FIRST, BCE_AT_LAST = 0.6, 0.1
_RAREST = 30.0
_SMOOTH = 1.0
"""Voxels: a segment that a patch lacks and the network does not see there either is right."""


def bce_share(fraction: float) -> float:
    """w, when `fraction` of the budget is spent."""
    return BCE_AT_FIRST + (BCE_AT_LAST - BCE_AT_FIRST) * min(max(fraction, 0.0), 1.0)


def channels_of(loss: str, segments: int) -> int:
    """The network's outputs: one a segment; with cross-entropy one more, the first, for the background.

    Raises InputError for an unknown loss.
    """
    if loss not in LOSSES:
        raise InputError(f"loss '{loss}': one of {', '.join(LOSSES)} was expected")
    return segments + (loss == "dice-ce")


def probabilities_from(logits: torch.Tensor, loss: str) -> torch.Tensor:
    """(N, channels, K, J, I) to the (N, S, K, J, I) probabilities of the segments."""
    return torch.sigmoid(logits) if loss == "bce-dice" else torch.softmax(logits, dim=1)[:, 1:]


def dice_of_segments(found: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(S,) 2 Σ w p t / Σ w (p² + t²) over patches and voxels; all (N, S, K, J, I), 1 added above and below."""
    over = (0, 2, 3, 4)
    overlap, sizes = (weights * found * truth).sum(over), (weights * (found**2 + truth**2)).sum(over)
    return (2 * overlap + _SMOOTH) / (sizes + _SMOOTH)


def segmentation_loss(
    logits: torch.Tensor,
    truth: torch.Tensor,
    weights: torch.Tensor,
    known: torch.Tensor,
    loss: str,
    fraction: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss to descend, and the mean Dice of the segments that the patches show.

    logits: (N, channels, K, J, I). truth: (N, S, K, J, I), 0..1. weights: (N, K, J, I), 0 where a voxel's labels
    say nothing. known: (N, S) bool, the segments that a patch's scan has marked: the others are left out, and
    cross-entropy counts them as background (their probabilities are added to its own).
    """
    counted = weights[:, None] * known[:, :, None, None, None]
    found = probabilities_from(logits, loss)
    dice = dice_of_segments(found, truth, counted)
    # A segment that no patch says anything about has no part in the mean.
    told = counted.flatten(2).any(dim=2).any(dim=0)
    dice_loss = ((1 - dice) * told).sum() / told.sum().clamp(min=1)
    if loss == "bce-dice":
        rare = rarity(truth, counted)[:, None, None, None]
        entropy = F.binary_cross_entropy_with_logits(logits, truth, counted, reduction="sum", pos_weight=rare)
        entropy = entropy / (counted * (1 + (rare - 1) * truth)).sum().clamp(min=1)
        share = bce_share(fraction)
        total = share * entropy + (1 - share) * dice_loss
    else:
        rare = rarity(truth, counted)[:, None, None, None]
        balanced = weights * (1 + ((rare - 1) * truth * known[:, :, None, None, None]).sum(dim=1))
        entropy = (_cross_entropy(logits, truth, known) * balanced).sum() / balanced.sum().clamp(min=1)
        total = entropy + dice_loss
    shown = told & ((truth * counted).amax(dim=(0, 2, 3, 4)) > 0.5)
    return total, ((dice * shown).sum() / shown.sum().clamp(min=1)).detach()


def rarity(truth: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(S,) how much more a voxel of a segment counts than one beside it: √(others / its own), 1 to 30.

    The papers' entropy is weighted, they do not say how. Without weights a network soon learns to see nothing of a
    segment that fills one voxel in a thousand, and Dice, whose gradient vanishes there, does not bring it back.
    """
    over = (0, 2, 3, 4)
    own = (weights * truth).sum(over)
    others = weights.sum(over) - own
    return torch.where(own > 0, (others / own.clamp(min=1e-3)).sqrt().clamp(1.0, _RAREST), torch.ones_like(own))


def _cross_entropy(logits: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """(N, K, J, I) −Σ t log p over background and the known segments."""
    logs = torch.log_softmax(logits, dim=1)
    known = known[:, :, None, None, None]
    nothing = torch.finfo(logs.dtype).min
    rest = torch.cat([logs[:, :1], logs[:, 1:].masked_fill(known, nothing)], dim=1).logsumexp(dim=1)
    marked = truth * known
    background = (1 - marked.sum(dim=1)).clamp(min=0)
    return -(background * rest + (marked * logs[:, 1:]).sum(dim=1))
