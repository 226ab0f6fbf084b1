"""Patches around points: three parallel planes (2.5D) or cubes, read with linear interpolation.

A patch's samples are one voxel of the prepared grid apart, so all its samples share one fraction along each
axis: a block is gathered and interpolated axis by axis, at a fraction of what a general trilinear look-up
costs. Outside the scan the border voxel repeats.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from SSLFewShotLib.sampling.batch import ScanBatch

# For each normal axis (0 = L, 1 = P, 2 = S): the axes of a plane's rows and columns.
PLANE_AXES = {0: (2, 1), 1: (2, 0), 2: (1, 0)}


def planar_patches(
    batch: ScanBatch,
    which: torch.Tensor,
    positions: torch.Tensor,
    normal: int,
    size: int,
    slice_offsets: torch.Tensor | Sequence[float],
) -> torch.Tensor:
    """Read (N, S, size, size): S parallel planes as channels.

    which: (N,) scan numbers; positions: (N, 3) continuous indices (i, j, k) of the patches' centres.
    normal: 0, 1 or 2, the planes' normal (L, P or S); slice_offsets: (S,) or (N, S), voxels along it.
    """
    rows, columns = PLANE_AXES[normal]
    sizes, strides = _sizes_and_strides(batch, which)
    offsets = torch.as_tensor(slice_offsets, dtype=torch.float32, device=batch.device)
    depth = positions[:, normal, None] + (offsets if offsets.dim() == 2 else offsets[None])
    below = depth.floor()
    slices = _clamped(torch.stack([below, below + 1], dim=-1), sizes[:, normal])
    row_index, row_fraction = _run(positions[:, rows], size, sizes[:, rows])
    column_index, column_fraction = _run(positions[:, columns], size, sizes[:, columns])
    index = (
        (batch.offsets[which, None, None] + slices * strides[:, normal, None, None])[:, :, :, None, None]
        + (row_index * strides[:, rows, None])[:, None, None, :, None]
        + (column_index * strides[:, columns, None])[:, None, None, None, :]
    )
    block = batch.values[index]
    block = torch.lerp(block[:, :, 0], block[:, :, 1], (depth - below)[:, :, None, None])
    block = torch.lerp(block[:, :, :-1], block[:, :, 1:], row_fraction[:, None, None, None])
    return torch.lerp(block[..., :-1], block[..., 1:], column_fraction[:, None, None, None])


def cubic_patches(batch: ScanBatch, which: torch.Tensor, positions: torch.Tensor, size: int) -> torch.Tensor:
    """Read (N, 1, size, size, size) cubes; axes k, j, i. Arguments as in `planar_patches`."""
    sizes, strides = _sizes_and_strides(batch, which)
    runs = [_run(positions[:, axis], size, sizes[:, axis]) for axis in (2, 1, 0)]
    (k, _), (j, _), (i, _) = runs
    index = (
        (batch.offsets[which, None] + k * strides[:, 2, None])[:, :, None, None]
        + (j * strides[:, 1, None])[:, None, :, None]
        + (i * strides[:, 0, None])[:, None, None, :]
    )
    block = batch.values[index]
    for dimension, (_, fraction) in enumerate(runs, start=1):
        length = block.shape[dimension] - 1
        weight = fraction[:, None, None, None]
        block = torch.lerp(block.narrow(dimension, 0, length), block.narrow(dimension, 1, length), weight)
    return block[:, None]


def _sizes_and_strides(batch: ScanBatch, which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 3) voxels and flat strides along i, j, k."""
    sizes = batch.sizes[which].flip(1)
    ones = torch.ones_like(sizes[:, 0])
    return sizes, torch.stack([ones, sizes[:, 0], sizes[:, 0] * sizes[:, 1]], dim=1)


def _run(centre: torch.Tensor, size: int, limit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`size` + 1 neighbouring voxels whose interpolation is centred on `centre`, and the fraction."""
    start = centre - (size - 1) / 2
    below = start.floor()
    steps = torch.arange(size + 1, device=centre.device, dtype=centre.dtype)
    return _clamped(below[:, None] + steps, limit), start - below


def _clamped(index: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    limit = limit.reshape(-1, *(1,) * (index.dim() - 1)) - 1
    return torch.minimum(index.long().clamp_min(0), limit)
