"""Episodes: a region of a scan is marked in one view (the support) and to be found in another one (the query)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.supervoxels import neighbours_of
from SSLFewShotLib.sampling.views import Deformation, View

_LEAST_VOXELS = 12
"""A region that shows less of itself in a view is left out."""


@dataclass(frozen=True)
class Side:
    """One view of a scan: values (K, J, I) float32, body bool, and masks (R, K, J, I) bool of the regions."""

    values: torch.Tensor
    body: torch.Tensor
    masks: torch.Tensor


Change = Callable[[torch.Tensor, np.random.Generator], torch.Tensor]


def self_supervised_pair(
    scan: PreparedScan,
    regions: torch.Tensor,
    centre: np.ndarray,
    size: tuple[int, int, int],
    count: int,
    deformation: Deformation,
    change: Change,
    rng: np.random.Generator,
) -> tuple[Side, Side]:
    """A view as the scan is and one that is deformed affinely and elastically, the support being either.

    regions: (K, J, I) integers on the scan's grid, on the device of its values, where all is computed.
    centre: (3,) index (i, j, k) that both views show; size: (k, j, i) voxels; count: regions, at most.
    change: what becomes of the values, each view by itself.

    Half of the regions are joined with one that touches them, so that what is to be found has many shapes; every
    region that both views show is as likely as any other.
    """
    plain = View(size, centre, np.eye(3), None)
    deformed = View.drawn(size, centre, deformation, rng)
    first, second = (plain, deformed) if rng.random() < 0.5 else (deformed, plain)
    shown = [view.read_array(regions, "nearest").round().int() for view in (first, second)]
    numbers = [_shown_regions(part) for part in shown]
    both = np.intersect1d(*numbers)
    masks: list[list[torch.Tensor]] = [[], []]
    for region in rng.permutation(both)[:count]:
        joined = [int(region)]
        touching = neighbours_of(shown[0].cpu().numpy(), int(region))
        if len(touching) and rng.random() < 0.5:
            joined.append(int(rng.choice(touching)))
        wanted = torch.tensor(joined, device=regions.device, dtype=torch.int32)
        for part, found in zip(shown, masks, strict=True):
            found.append(torch.isin(part, wanted))
    return tuple(
        _side(scan, view, torch.stack(found) if found else _nothing(part), change, rng)
        for view, found, part in zip((first, second), masks, shown, strict=True)
    )


def labelled_pair(
    scans: tuple[PreparedScan, PreparedScan],
    regions: tuple[torch.Tensor, torch.Tensor],
    centres: tuple[np.ndarray, np.ndarray],
    size: tuple[int, int, int],
    count: int,
    deformation: Deformation,
    change: Change,
    rng: np.random.Generator,
) -> tuple[Side, Side]:
    """Two deformed views of two scans in which regions of one number are the same structure."""
    views = [View.drawn(size, centre, deformation, rng) for centre in centres]
    shown = [view.read_array(part, "nearest").round().int() for view, part in zip(views, regions, strict=True)]
    both = np.intersect1d(*(_shown_regions(part) for part in shown))
    chosen = rng.permutation(both)[:count]
    sides = []
    for scan, view, part in zip(scans, views, shown, strict=True):
        masks = torch.stack([part == int(n) for n in chosen]) if len(chosen) else _nothing(part)
        sides.append(_side(scan, view, masks, change, rng))
    return tuple(sides)


def _side(scan: PreparedScan, view: View, masks: torch.Tensor, change: Change, rng: np.random.Generator) -> Side:
    values = change(view.read_array(scan.values), rng)
    return Side(values, view.read_array(scan.body, "nearest") > 0.5, masks)


def _shown_regions(shown: torch.Tensor) -> np.ndarray:
    counts = np.bincount(shown.flatten().cpu().numpy())
    counts[0] = 0
    return np.flatnonzero(counts >= _LEAST_VOXELS)


def _nothing(shown: torch.Tensor) -> torch.Tensor:
    return torch.zeros((0, *shown.shape), dtype=torch.bool, device=shown.device)
