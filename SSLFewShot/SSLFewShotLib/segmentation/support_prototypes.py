"""The prototypes of marked scans with their places in the body, and what a scan scores by them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.resampling import resample
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.networks.alp import (
    SCALE,
    Window,
    foreground_logits,
    fused,
    prototypes_of,
)
from SSLFewShotLib.progress import Progress, ignore_progress
from SSLFewShotLib.sampling.preparation import PreparedScan

_BLOCK = 10
"""Voxels along each side of what is compared at once."""
_UNLIKELY = 0.02
"""Probabilities below that are taken for 0, so that the rest of a large scan need not be looked at."""


@dataclass(frozen=True)
class PrototypeSettings:
    """See `PrototypeSegmenter`. Raises InputError for a setting out of range."""

    window: Window
    background_window: Window
    threshold: float
    beta: float
    spatial_weight: float

    def __post_init__(self) -> None:
        for window in (self.window, self.background_window):
            if len(window) != 3 or min(window) < 1:
                raise InputError(f"window {list(window)}: three numbers of voxels from 1 up were expected")
        if not 0.5 < self.threshold <= 1 or not 0 < self.beta < 1 or not 0 <= self.spatial_weight < np.inf:
            raise InputError(
                f"threshold {self.threshold}, beta {self.beta}, spatial weight {self.spatial_weight}: above "
                "0.5 to 1, between 0 and 1, and from 0 up were expected"
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "window": list(self.window), "background_window": list(self.background_window)}


@dataclass(frozen=True)
class PlacedPrototypes:
    """vectors: (P, C); foreground, background: (P, S) bool for the segments `names`; local: (S,) bool.

    places: (P, 3), relative to the body's box along L, P, S.
    """

    names: list[str]
    vectors: torch.Tensor
    foreground: torch.Tensor
    background: torch.Tensor
    places: torch.Tensor
    local: torch.Tensor

    @classmethod
    def pooled(cls, parts: Sequence[PlacedPrototypes], names: Sequence[str]) -> PlacedPrototypes:
        """Those of several supports. One that has not marked a segment says nothing of it, nor of its background.

        Raises InputError when a segment has no background in any support.
        """

        def column(part: PlacedPrototypes, what: str, name: str) -> torch.Tensor:
            table = getattr(part, what)
            found = table[:, part.names.index(name)] if name in part.names else torch.zeros(len(table), dtype=bool)
            return found

        tables = {
            what: torch.stack([torch.cat([column(part, what, name) for part in parts]) for name in names], dim=1)
            for what in ("foreground", "background")
        }
        bare = [name for name, some in zip(names, tables["background"].any(dim=0), strict=True) if not some]
        if bare:
            raise InputError(
                f"{', '.join(bare)}: fills the whole body in every support, so that there is no background to "
                "tell it from; mark a scan that shows more"
            )
        local = torch.tensor([any(n in p.names and p.local[p.names.index(n)] for p in parts) for n in names])
        joined = {what: torch.cat([getattr(part, what) for part in parts]) for what in ("vectors", "places")}
        return cls(
            list(names), joined["vectors"], tables["foreground"], tables["background"], joined["places"], local
        )


def support_prototypes(
    volume: Volume,
    scan: PreparedScan,
    field: np.ndarray,
    masks: Mapping[str, np.ndarray],
    settings: PrototypeSettings,
) -> PlacedPrototypes:
    """The prototypes of one marked scan.

    field: (C, K, J, I), the vectors on the prepared grid; masks: (K, J, I) bool on the volume's own grid, by name.
    """
    size = scan.body.shape
    if any(side > length for side, length in zip(settings.window, size, strict=True)):
        warnings.warn(
            f"{volume.name}: at the model's spacing smaller ({' × '.join(map(str, size))} voxels) than a window "
            f"({' × '.join(map(str, settings.window))}); the windows are cut to it",
            InputWarning,
            stacklevel=3,
        )
    vectors = torch.from_numpy(field)
    shares = torch.from_numpy(np.stack([_shares(volume, scan, mask) for mask in masks.values()]))
    made = prototypes_of(
        vectors, shares, scan.body, settings.window, settings.threshold, settings.background_window
    )
    places = torch.from_numpy(body_places(scan, made.places.numpy()[:, ::-1]))
    return PlacedPrototypes(list(masks), made.vectors, made.foreground, made.background, places, made.local)


def probabilities(
    scan: PreparedScan,
    field: np.ndarray,
    prototypes: PlacedPrototypes,
    settings: PrototypeSettings,
    overlapping: bool = False,
    progress: Progress = ignore_progress,
) -> np.ndarray:
    """(S, K, J, I) float32 on the prepared grid; 0 outside the body.

    Of several classes, exp of each one's logit against its own background goes beside 1 for the background, over
    the sum of all: an arg-max over foreground scores with a background score. Overlapping ones are by themselves.
    """
    members = torch.cat([prototypes.foreground, prototypes.background], dim=1)
    penalty = SCALE * settings.spatial_weight**2 / 2
    known = _with_places(SCALE * F.normalize(prototypes.vectors, dim=1), prototypes.places, penalty)
    flat = torch.from_numpy(field).flatten(1)
    found = np.zeros((len(prototypes.names), scan.body.numel()), np.float32)
    blocks = _blocks_of_body(scan)
    for number, rows in enumerate(blocks):
        progress(number / len(blocks), f"comparing {scan.name} with the prototypes")
        where = np.stack(np.unravel_index(rows, scan.body.shape)[::-1], axis=1)
        places = torch.from_numpy(body_places(scan, where))
        near = _within_reach(places, prototypes.places, penalty)
        if not prototypes.foreground[near].any():
            continue
        vectors = F.normalize(flat[:, torch.from_numpy(rows)].T, dim=1)
        said = _with_places(vectors, places, penalty, other=True) @ known[near].T
        scores = fused(said.clamp_(min=-3 * SCALE), members[near])
        logits = foreground_logits(*scores.chunk(2, dim=1), settings.beta)
        if overlapping:
            likely = torch.sigmoid(logits)
        else:
            likely = torch.softmax(F.pad(logits, (1, 0)), dim=1)[:, 1:]
        found[:, rows] = torch.where(likely < _UNLIKELY, 0.0, likely).T.numpy()
    progress(1.0, f"compared {scan.name} with the prototypes")
    return found.reshape(-1, *scan.body.shape)


def body_places(scan: PreparedScan, indices: np.ndarray) -> np.ndarray:
    """(N, 3) indices (i, j, k) of a prepared scan to (N, 3) float32 places relative to its body's box."""
    box = []
    for axis in range(3):
        shown = np.flatnonzero(scan.body.numpy().any(axis=tuple(a for a in range(3) if a != 2 - axis)))
        box.append((shown[0], shown[-1]) if len(shown) else (0, scan.body.shape[2 - axis] - 1))
    low, high = np.array(box, dtype=np.float32).T
    return ((indices - low) / np.maximum(high - low, 1)).astype(np.float32)


def _shares(volume: Volume, scan: PreparedScan, mask: np.ndarray) -> np.ndarray:
    """(K, J, I) float32 on the prepared grid: how much of a voxel is marked."""
    matrix = np.diag([*scan.spacing, 1.0])
    matrix[:3, 3] = scan.origin
    grid = Volume(np.broadcast_to(np.int8(0), scan.body.shape), matrix, scan.name)
    marked = Volume(mask.astype(np.float32), volume.ijkToLps, volume.name)
    return np.clip(resample(marked, grid, fill=0.0).array, 0, 1)


def _with_places(vectors: torch.Tensor, places: torch.Tensor, penalty: float, other: bool = False) -> torch.Tensor:
    """(N, C) and (N, 3) to (N, C + 5), so that the product of one with the other is v · w − penalty · |p − q|²."""
    square = penalty * places.square().sum(dim=1, keepdim=True)
    ones = torch.ones_like(square)
    parts = (2 * penalty * places, -square, ones) if other else (places, ones, -square)
    return torch.cat([vectors, *parts], dim=1)


def _blocks_of_body(scan: PreparedScan) -> list[np.ndarray]:
    """The flat numbers of the body's voxels, block by block, so that what is far from a block can be left out."""
    k, j, i = np.nonzero(scan.body.numpy())
    numbers = np.ravel_multi_index((k, j, i), scan.body.shape)
    blocks = np.ravel_multi_index((k // _BLOCK, j // _BLOCK, i // _BLOCK), scan.body.shape)
    order = np.argsort(blocks, kind="stable")
    return np.split(numbers[order], np.flatnonzero(np.diff(blocks[order])) + 1) if len(order) else []


def _within_reach(places: torch.Tensor, others: torch.Tensor, penalty: float) -> torch.Tensor:
    """(P,) bool: which prototypes are near enough to a block for their place not to outweigh any likeness."""
    low, high = places.min(dim=0).values, places.max(dim=0).values
    apart = ((low - others).clamp(min=0) + (others - high).clamp(min=0)).square().sum(dim=1)
    return penalty * apart <= SCALE
