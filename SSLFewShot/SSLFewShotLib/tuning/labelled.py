"""Labelled scans as a network learns from them: prepared, with soft labels at the same spacing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.labelmap import LabelMap, Segment
from SSLFewShotLib.imaging.mask_box import mask_box
from SSLFewShotLib.imaging.resampling import resample
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.preparation import Preparation, PreparedScan
from SSLFewShotLib.sampling.views import View, sampled

Labelled = tuple[Volume, LabelMap, "np.ndarray | None"]
"""A scan, its labels on its grid, and (K, J, I) how much each voxel's labels count, from 0 to 1; None: all 1."""

HANDFUL = 30
"""Voxels: fewer of a segment teach a network little."""
_THICK = 3.0
"""Slices further apart than so many of the network's voxels show little of a structure's shape between them."""


@dataclass(frozen=True)
class SoftMask:
    """How much of each voxel of a prepared scan a segment fills: (k, j, i) uint8, 255 is all, from `start` on."""

    start: tuple[int, int, int]
    filled: torch.Tensor

    def at(self, sources: torch.Tensor) -> torch.Tensor:
        """(N,) 0..1 at (N, 3) indices (i, j, k) of the prepared scan; 0 outside."""
        start = torch.tensor(self.start[::-1], device=sources.device)
        return sampled(self.filled[None].to(sources.device).float() / 255, sources - start)[:, 0]

    def may_lie_in(self, low: torch.Tensor, high: torch.Tensor) -> bool:
        """Whether its box meets the one between two indices (i, j, k)."""
        start = torch.tensor(self.start[::-1], device=low.device)
        stop = start + torch.tensor(self.filled.shape[::-1], device=low.device)
        return bool((start < high).all() and (stop > low).all())

    def inside(self) -> np.ndarray:
        """(N, 3) indices (k, j, i) of the voxels that the segment fills by half or more."""
        return np.argwhere(self.filled.numpy() >= 128) + self.start


@dataclass
class LabelledScan:
    """A prepared scan with its labels.

    masks: by the number of the segment, 0 to S − 1, where it is marked. weights: (K, J, I) float32 of the labels.
    held_out: (K, J, I) bool, voxels whose labels are for checking, not for learning; None for none.
    """

    scan: PreparedScan
    masks: dict[int, SoftMask]
    weights: torch.Tensor
    held_out: torch.Tensor | None = field(default=None)

    @classmethod
    def prepared(
        cls,
        labelled: Labelled,
        segments: Sequence[Segment],
        preparation: Preparation,
        progress: Progress = ignore_progress,
    ) -> LabelledScan:
        """Prepare a scan and bring its labels to the prepared grid.

        segments: the common ones, known by name; a scan may have marked some only.

        Warns (InputWarning) of a segment of a handful of voxels, and of slices far apart. Raises InputError when
        nothing is marked, or the weights are not of the scan's size or not from 0 to 1.
        """
        volume, labels, weights = labelled
        if weights is not None:
            _check_weights(volume, weights)
        scan = preparation(volume, portion(progress, 0.0, 0.7))
        if volume.spacing.max() > _THICK * scan.spacing.max():
            warnings.warn(
                f"{volume.name}: its slices lie {volume.spacing.max():.3g} mm apart, the network looks at voxels "
                f"of {scan.spacing.max():.3g} mm: what is learned from it between slices is guessed",
                InputWarning,
                stacklevel=4,
            )
        there = {segment.name for segment in labels.segments}
        masks: dict[int, SoftMask] = {}
        for number, segment in enumerate(segments):
            progress(0.7 + 0.25 * number / len(segments), f"preparing the labels of {volume.name}")
            if segment.name not in there:
                continue
            mask = labels.mask(segment.name)
            count = int(np.count_nonzero(mask))
            if not count:
                continue
            if count < HANDFUL:
                warnings.warn(
                    f"{volume.name}: {segment.name} is marked in {count} voxels only; hardly anything can be "
                    "learned from so few: mark it in more slices or scans, and look closely at the result",
                    InputWarning,
                    stacklevel=4,
                )
            masks[number] = _soft(volume, mask, scan)
        if not masks:
            raise InputError(
                f"{labels.name}: nothing is marked; mark at least one structure, or leave the scan out"
            )
        counting = _weights_on(scan, volume, weights)
        progress(1.0, f"prepared {volume.name}")
        return cls(scan, masks, counting)

    def known(self, segments: int) -> torch.Tensor:
        """(S,) bool: which segments are marked."""
        return torch.tensor([number in self.masks for number in range(segments)])

    def read(
        self, view: View, segments: int, held_out: bool = False, device: torch.device | str = "cpu"
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What a view shows: values (k, j, i), how much each segment fills (S, k, j, i), weights (k, j, i).

        held_out: whether the voxels that were held out count, and they alone; else all others do. Outside of the
        scan nothing counts.
        """
        view = view.on(torch.device(device))
        axes = [torch.arange(n, dtype=torch.float32, device=device) for n in view.size]
        k, j, i = torch.meshgrid(*axes, indexing="ij")
        sources = view.sources(torch.stack([i, j, k], dim=-1).reshape(-1, 3))
        values = sampled(self.scan.values[None].to(device), sources)[:, 0]
        truth = torch.zeros(segments, len(sources), device=device)
        low, high = sources.amin(dim=0), sources.amax(dim=0)
        for number, mask in self.masks.items():
            if mask.may_lie_in(low, high):
                truth[number] = mask.at(sources)
        weights = sampled(self.weights[None].to(device), sources)[:, 0]
        size = torch.tensor(self.scan.values.shape[::-1], device=device)
        weights = weights * ((sources >= -0.5) & (sources <= size - 0.5)).all(dim=1)
        if self.held_out is not None:
            there = sampled(self.held_out[None].to(device).float(), sources, "nearest")[:, 0] > 0.5
            weights = weights * (there if held_out else ~there)
        elif held_out:
            weights = torch.zeros_like(weights)
        return values.view(view.size), truth.view(segments, *view.size), weights.view(view.size)


class LabelledScans:
    """Labelled scans that a trainer draws from; all are drawn each time, since patches are balanced over all.

    paths, skipped: empty, they are no files.
    """

    def __init__(self, scans: Sequence[LabelledScan], segments: int):
        self.scans = list(scans)
        self.segments = segments
        self.paths: list = []
        self.skipped: dict = {}
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self.scans)

    def __iter__(self) -> Iterator[LabelledScan]:
        return iter(self.scans)

    def draw(
        self,
        count: int,
        rng: np.random.Generator,
        device: torch.device | str = "cpu",
        progress: Progress = ignore_progress,
    ) -> LabelledScans:
        """All scans, whatever `count` and `rng` are."""
        self.device = torch.device(device)
        return self


def _check_weights(volume: Volume, weights: np.ndarray) -> None:
    if weights.shape != volume.array.shape[:3]:
        raise InputError(
            f"{volume.name}: weights of {weights.shape} for voxels of {volume.array.shape[:3]}; give one for each"
        )
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.max() > 1:
        raise InputError(f"{volume.name}: weights from 0 to 1 were expected; scale them")


def _soft(volume: Volume, mask: np.ndarray, scan: PreparedScan) -> SoftMask:
    """A mask (K, J, I) on a volume's grid as shares of the prepared voxels, cropped to where there is any."""
    box = mask_box(mask)
    first = np.array([part.start for part in box])
    # As much around it as smoothing before a coarser grid reaches.
    rim = np.ceil(3 * scan.spacing.max() / volume.spacing[::-1]).astype(int)
    crop = np.pad(mask[box], [(r, r) for r in rim])
    matrix = volume.ijkToLps.copy()
    matrix[:3, 3] = volume.points_from_indices([(first - rim)[::-1]])[0]
    source = Volume(crop.astype(np.float32), matrix, volume.name)
    at = scan.indices(source.corners())[:, ::-1]
    shape = np.array(scan.values.shape)
    start = np.clip(np.floor(at.min(axis=0)), 0, shape - 1).astype(int)
    stop = np.clip(np.ceil(at.max(axis=0)) + 1, start + 1, shape).astype(int)
    corner = np.diag([*scan.spacing, 1.0])
    corner[:3, 3] = scan.origin + scan.spacing * start[::-1]
    grid = Volume(np.broadcast_to(np.int8(0), tuple(stop - start)), corner, volume.name)
    shares = resample(source, grid, fill=0).array
    highest = float(shares.max())
    if 0 < highest < 1:
        # What is thinner than a voxel must not vanish below a half.
        shares = shares / highest
    filled = np.zeros(tuple(stop - start + 2), np.uint8)  # a rim of nothing, which is what is there beyond
    filled[1:-1, 1:-1, 1:-1] = np.round(np.clip(shares, 0, 1) * 255)
    return SoftMask(tuple(int(s) - 1 for s in start), torch.from_numpy(filled))


def _weights_on(scan: PreparedScan, volume: Volume, weights: np.ndarray | None) -> torch.Tensor:
    """(K, J, I) of a prepared scan; 0 where the scan itself does not reach."""
    given = np.ones(volume.array.shape[:3], np.float32) if weights is None else weights.astype(np.float32)
    matrix = np.diag([*scan.spacing, 1.0])
    matrix[:3, 3] = scan.origin
    grid = Volume(np.broadcast_to(np.int8(0), tuple(scan.values.shape)), matrix, volume.name)
    return torch.from_numpy(resample(Volume(given, volume.ijkToLps, volume.name), grid, fill=0).array)
