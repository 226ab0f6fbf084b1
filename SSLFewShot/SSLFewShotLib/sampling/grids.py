"""Grids of cubic patches, with gaps and jitter so that no line goes on from one patch into the next."""

from __future__ import annotations

import numpy as np
import torch

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.contrast import changed_contrast
from SSLFewShotLib.sampling.patches import cubic_patches


def checked_jitter(jitter: int) -> int:
    """Voxels by which places are uncertain. Raises InputError below 0 and beyond what any patch has."""
    if not 0 <= jitter <= 64:
        raise InputError(f"jitter {jitter}: 0 to 64 voxels were expected")
    return jitter


def drawn_centres(volumes: ScanBatch, which: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) scan numbers to (N, 3) indices (i, j, k) of places in the body.

    reach: voxels to each side of a place that are to lie within the scan; along an axis that is too short for it,
    the place is the scan's middle.
    """
    last = np.array([volumes.scans[number].values.shape[::-1] for number in which]) - 1.0
    low, high = np.minimum(reach, last / 2), np.maximum(last - reach, last / 2)
    return np.clip(volumes.draw_body_positions(which, rng), low, high)


def grid_offsets(per_side: int, pitch: float) -> np.ndarray:
    """(per_side³, 3) offsets (i, j, k) of a grid's nodes from its middle, k outermost."""
    run = (np.arange(per_side) - (per_side - 1) / 2) * pitch
    k, j, i = np.meshgrid(run, run, run, indexing="ij")
    return np.stack([i, j, k], axis=-1).reshape(-1, 3)


def drawn_grids(
    volumes: ScanBatch,
    which: np.ndarray,
    per_side: int,
    side: int,
    jitter: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(N, per_side³, 3) indices (i, j, k) of the centres of a grid's patches, k outermost, for (N,) scan numbers.

    Patches of `side` voxels lie in cells of side + jitter + 1, each anywhere within its cell along each axis:
    between two neighbours there is a gap of 1 to 1 + 2 · jitter voxels.
    """
    cell = side + jitter + 1
    centres = drawn_centres(volumes, which, per_side * cell / 2, rng)
    places = centres[:, None] + grid_offsets(per_side, cell)
    return places + rng.uniform(-jitter / 2, jitter / 2, places.shape)


def read_patches(volumes: ScanBatch, which: np.ndarray, places: np.ndarray, side: int) -> torch.Tensor:
    """(N, P, 3) indices (i, j, k) in (N,) scans to (N, P, side, side, side); the border repeats outside a scan."""
    count, patches = places.shape[:2]
    found = cubic_patches(
        volumes,
        torch.as_tensor(np.repeat(which, patches), device=volumes.device),
        torch.as_tensor(places.reshape(-1, 3), dtype=torch.float32, device=volumes.device),
        side,
    )
    return found.reshape(count, patches, side, side, side)


def changed_each(cubes: torch.Tensor, rng: np.random.Generator, strength: float) -> torch.Tensor:
    """(…, side, side, side) with the contrast of each cube changed by itself, so that it tells nothing."""
    flat = cubes.reshape(-1, *cubes.shape[-3:])
    return torch.stack([changed_contrast(cube, rng, strength) for cube in flat]).reshape(cubes.shape)
