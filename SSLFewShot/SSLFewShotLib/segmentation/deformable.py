"""Deformable alignment of two fields of descriptors: a coupled convex search, then a gradient descent.

Siebert, Hansen, Heinrich, "ConvexAdam: self-configuring dual-optimisation-based 3D multitask medical image
registration" (IEEE TMI 2024), sections III-B and III-C, with learned descriptors in place of MIND-SSC.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from SSLFewShotLib.progress import Progress, ignore_progress

_PLACES_A_STEP = 6_000
"""Voxels that a step of the descent compares, drawn anew for each; neighbours say nearly the same."""
_VOXELS_AT_ONCE = 65_536
_PLACES_AT_ONCE = 1_024
"""Whose corners' vectors fit into a processor's cache."""
_PRODUCTS_AT_ONCE = 200_000
"""Of channels and voxels: they stay in a processor's cache, which made comparing four times as fast."""
COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def convex_search(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    weight: torch.Tensor,
    reach: int = 3,
    progress: Progress = ignore_progress,
) -> torch.Tensor:
    """(3, K, J, I) displacements, voxels along (k, j, i), at which `moving` looks like `fixed`.

    fixed, moving: (C, K, J, I) on one grid; weight: (K, J, I), where it matters; reach: voxels each way.

    The best of all (2·reach + 1)³ displacements for each voxel, and a smooth field, are drawn together by an
    ever stronger coupling (equation 4).
    """
    size = fixed.shape[1:]
    steps = torch.arange(-reach, reach + 1)
    offsets = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1).reshape(-1, 3)
    padded = F.pad(moving[None], [reach] * 6, mode="replicate")[0]
    cost = torch.empty(len(offsets), *size)
    slab = max(1, _PRODUCTS_AT_ONCE // fixed[:, 0].numel())
    for start in range(0, size[0], slab):
        seen = fixed[:, start : start + slab]
        for row, (k, j, i) in enumerate((offsets + reach).tolist()):
            shown = padded[:, start + k : start + k + seen.shape[1], j : j + size[1], i : i + size[2]]
            cost[row, start : start + slab] = 1 - (seen * shown).sum(dim=0)
    cost = _along_axes(cost * weight, [_sums(n) / 3 for n in size])
    shifts = offsets.float()
    cost = cost.flatten(1)
    best = cost.min(dim=0).indices
    means = _smoothing(size)
    for number, coupling in enumerate(COUPLINGS):
        progress(number / len(COUPLINGS), "aligning the support")
        smooth = _along_axes(shifts[best].T.reshape(3, *size), means)
        best = _best_shift(cost, shifts, smooth.flatten(1), coupling)
    return _along_axes(shifts[best].T.reshape(3, *size), means)


def _best_shift(cost: torch.Tensor, shifts: torch.Tensor, smooth: torch.Tensor, coupling: float) -> torch.Tensor:
    """(V,) rows of the least cost (R, V) + coupling · |shift (R, 3) − smooth (3, V)|², some voxels at a time.

    |smooth|² is the same for all shifts and left out; the rest is a product of matrices.
    """
    lengths = coupling * (shifts**2).sum(dim=1, keepdim=True)
    best = torch.empty(cost.shape[1], dtype=torch.int64)
    for start in range(0, len(best), _VOXELS_AT_ONCE):
        here = slice(start, start + _VOXELS_AT_ONCE)
        total = torch.addmm(cost[:, here], shifts, smooth[:, here], alpha=-2 * coupling)
        best[here] = total.add_(lengths).min(dim=0).indices
    return best


def descended(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    weight: torch.Tensor,
    start: torch.Tensor,
    iterations: int = 60,
    stiffness: float = 1.0,
    progress: Progress = ignore_progress,
) -> torch.Tensor:
    """(3, K, J, I) displacements, voxels along (k, j, i), refined by Adam from `start` of the same shape.

    Minimises the weighted mean squared difference of the vectors plus `stiffness` times that of neighbouring
    displacements. They live on every second voxel and are smoothed before use (section III-C).
    """
    size = fixed.shape[1:]
    half = [max(2, (n + 1) // 2) for n in size]
    nodes = F.interpolate(start[None], size=half, mode="trilinear", align_corners=True).detach().requires_grad_()
    rows = torch.nonzero(weight > 0)
    # A vector lies together in memory: reading it at a place then costs one access and not one a channel.
    table = moving.movedim(0, -1).reshape(-1, len(moving)).contiguous()
    fixed = fixed.movedim(0, -1).contiguous()
    generator = torch.Generator().manual_seed(0)
    last = torch.tensor([n - 1 for n in size])
    means = _smoothing(half)
    optimiser = torch.optim.Adam([nodes], lr=0.2)
    with torch.enable_grad():
        for number in range(iterations):
            progress(number / iterations, "aligning the support")
            optimiser.zero_grad()
            smooth = _along_axes(nodes, means)
            if len(rows) > _PLACES_A_STEP:
                places = rows[torch.randint(len(rows), (_PLACES_A_STEP,), generator=generator).sort().values]
            else:
                places = rows
            target = fixed[places[:, 0], places[:, 1], places[:, 2]]
            share = weight[places[:, 0], places[:, 1], places[:, 2]]
            moved = places + _at(smooth, places / last.clamp(min=1))
            found = _Interpolated.apply(table, *_corners(moved, size))
            difference = (((found - target) ** 2).sum(dim=1) * share / share.sum()).sum()
            bend = sum((smooth.diff(dim=axis) ** 2).mean() for axis in (2, 3, 4))
            (difference + stiffness * bend).backward()
            optimiser.step()
    smooth = _along_axes(nodes.detach(), means)
    return F.interpolate(smooth, size=list(size), mode="trilinear", align_corners=True)[0]


class _Interpolated(torch.autograd.Function):
    """(N, C) sums of eight rows each of a table (V, C), by their weights; only the weights have a gradient.

    corners: (N, 8) rows; weights: (N, 8). About half the time of `grid_sample` with its gradient.
    """

    @staticmethod
    def forward(ctx, table: torch.Tensor, corners: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(table, corners)
        return F.embedding_bag(corners, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[None, None, torch.Tensor]:
        table, corners = ctx.saved_tensors
        found = torch.empty(corners.shape)
        for start in range(0, len(corners), _PLACES_AT_ONCE):
            here = slice(start, start + _PLACES_AT_ONCE)
            rows = table.index_select(0, corners[here].flatten()).view(*corners[here].shape, -1)
            found[here] = torch.bmm(rows, gradient[here, :, None])[..., 0]
        return None, None, found


def _corners(places: torch.Tensor, size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of (N, 3) places (k, j, i), the eight voxels around as rows of a flat volume (N, 8), and their weights."""
    last = torch.tensor([n - 1 for n in size])
    places = torch.minimum(places.clamp(min=0), last)
    low = torch.minimum(places.detach().floor(), (last - 1).clamp(min=0)).long()
    high = torch.minimum(low + 1, last)
    share = places - low
    strides = torch.tensor([size[1] * size[2], size[2], 1])
    k, j, i = (torch.stack([low, high], dim=2) * strides[:, None]).unbind(dim=1)
    corners = k[:, :, None, None] + j[:, None, :, None] + i[:, None, None, :]
    k, j, i = torch.stack([1 - share, share], dim=2).unbind(dim=1)
    weights = k[:, :, None, None] * j[:, None, :, None] * i[:, None, None, :]
    return corners.flatten(1), weights.flatten(1)


def _at(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(1, C, K, J, I) maps at (N, 3) places (k, j, i), 0 to 1 along each axis, as (N, C)."""
    grid = (2 * places - 1).flip(1)[None, None, None]
    return F.grid_sample(maps, grid, padding_mode="border", align_corners=True)[0, :, 0, 0].T


def _along_axes(maps: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """(…, K, J, I) multiplied along each axis by a matrix (n, n): many times as fast as torch pools volumes."""
    along_k, along_j, along_i = weights
    maps = along_j @ (maps @ along_i.T)
    return (along_k @ maps.flatten(-2)).view_as(maps)


def _smoothing(size: Sequence[int]) -> list[torch.Tensor]:
    """Matrices for the mean over 3 × 3 × 3 voxels, taken twice; beyond the border there are none."""
    once = [sums / sums.sum(dim=1, keepdim=True) for sums in map(_sums, size)]
    return [means @ means for means in once]


def _sums(length: int) -> torch.Tensor:
    """(n, n) weights of the sum of a voxel and its neighbours along an axis."""
    return torch.ones(length, length).triu(-1).tril(1)
