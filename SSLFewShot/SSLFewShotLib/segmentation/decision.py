"""From probabilities on a lattice to labels and confidence on a scan's own grid."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from SSLFewShotLib.imaging.labelmap import LabelMap, Segment
from SSLFewShotLib.imaging.mask_box import mask_box
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, watched

_SLAB_VOXELS = 1_000_000
"""Voxels that are decided at once for one segment; fewer for several, so that it takes tenths of a second."""


def labels_from_probabilities(
    volume: Volume,
    probabilities: np.ndarray,
    origin: np.ndarray,
    spacing: float | np.ndarray,
    segments: Sequence[Segment],
    overlapping: bool = False,
    least_piece: float = 0.0,
    progress: Progress = ignore_progress,
) -> tuple[LabelMap, Volume]:
    """Interpolate probabilities linearly to the scan's grid and decide.

    probabilities: (S, K, J, I) on a lattice along L, P, S with the given origin (LPS mm) and spacing, mm,
    one or (3,) along L, P, S.

    Works only where any probability is above 0; the decision is that of `decide_in_slabs`.
    """
    # (i, j, k) of the scan to (i, j, k) of the lattice, in one affine step.
    matrix = (volume.ijkToLps[:3, :3] / np.broadcast_to(spacing, 3)[:, None]).astype(np.float32)
    shift = ((volume.ijkToLps[:3, 3] - origin) / spacing).astype(np.float32)

    def interpolated(slab: tuple[slice, slice, slice]) -> np.ndarray:
        grid = np.meshgrid(*(np.arange(s.start, s.stop, dtype=np.float32) for s in slab), indexing="ij")
        ijk = np.stack([part.ravel() for part in grid[::-1]])
        where = (matrix @ ijk + shift[:, None])[::-1]
        found = np.stack([ndimage.map_coordinates(p, where, order=1, mode="nearest") for p in probabilities])
        return found.reshape(len(found), *(s.stop - s.start for s in slab))

    nodes = np.argwhere(probabilities.max(axis=0) > 0)[:, ::-1]
    reached = None
    if len(nodes):
        reached = origin + spacing * np.stack([nodes.min(axis=0) - 1, nodes.max(axis=0) + 1])
    box = None if reached is None else box_on_grid(volume, reached)
    return decide_in_slabs(volume, interpolated, box, segments, overlapping, least_piece, progress)


def decide_in_slabs(
    volume: Volume,
    probabilities_in: Callable[[tuple[slice, slice, slice]], np.ndarray],
    box: tuple[slice, slice, slice] | None,
    segments: Sequence[Segment],
    overlapping: bool = False,
    least_piece: float = 0.0,
    progress: Progress = ignore_progress,
) -> tuple[LabelMap, Volume]:
    """Turn probabilities into labels and confidence, a slab of slices at a time, so that memory stays bounded.

    probabilities_in: slices (k, j, i) of the scan's grid to the (S, K, J, I) probabilities there.
    box: the slices (k, j, i) that hold every voxel with a probability above 0; None when there is none.

    Without overlap a voxel gets the likeliest of all segments and background (what is left to 1); with overlap
    it gets every segment that is likelier than not. Confidence is the probability of the decision.
    least_piece: of each segment, pieces stay that have at least this share of the largest's voxels; 1: that alone.
    """
    shape = volume.array.shape[:3]
    winner = np.zeros(shape, np.uint8 if len(segments) < 256 else np.int16)
    # Of a large scan, memory that is new takes a second to be filled.
    confidence = watched(lambda: np.ones(shape, np.float32), progress, 0.0, "deciding on the scan's grid")
    masks = [np.zeros(shape, bool) for _ in segments] if overlapping else []
    if box is None:
        progress(1.0, "nothing found")
    else:
        plane = (box[1].stop - box[1].start) * (box[2].stop - box[2].start)
        rows = max(1, 2 * _SLAB_VOXELS // max(1, plane * (1 + len(segments))))
        for k in range(box[0].start, box[0].stop, rows):
            progress((k - box[0].start) / (box[0].stop - box[0].start), "deciding on the scan's grid")
            slab = (slice(k, min(k + rows, box[0].stop)), box[1], box[2])
            found = probabilities_in(slab)
            if overlapping:
                for mask, p in zip(masks, found, strict=True):
                    mask[slab] = p > 0.5
                confidence[slab] = np.maximum(found, 1 - found).min(axis=0)
            else:
                rest = np.maximum(1 - found.sum(axis=0), 0)
                best = found.argmax(axis=0)
                highest = np.take_along_axis(found, best[None], axis=0)[0]
                winner[slab] = np.where(highest > rest, best + 1, 0)
                total = np.maximum(found.sum(axis=0) + rest, 1e-6)
                confidence[slab] = np.maximum(highest, rest) / total
    name = f"{volume.name} segmentation"
    if overlapping:
        if least_piece > 0:
            for number, segment in enumerate(segments):
                masks[number] = _without_small_pieces(masks[number], least_piece, confidence, segment, progress)
        named = {segment.name: mask for segment, mask in zip(segments, masks, strict=True)}
        return LabelMap.from_masks(volume, named, list(segments), name), volume.with_array(confidence)
    labels = np.zeros(shape, np.uint8 if max(segment.value for segment in segments) < 256 else np.int16)
    for number, segment in enumerate(segments, start=1):
        # One at a time: a large scan with many segments would not fit otherwise.
        what = f"collecting the voxels of {segment.name}"
        mask = watched(functools.partial(np.equal, winner, number), progress, 1.0, what)
        if least_piece > 0:
            mask = _without_small_pieces(mask, least_piece, confidence, segment, progress)
        labels[mask] = segment.value
    return LabelMap(labels, volume.ijkToLps, name, segments=list(segments)), volume.with_array(confidence)


def _without_small_pieces(
    mask: np.ndarray, least: float, confidence: np.ndarray, segment: Segment, progress: Progress
) -> np.ndarray:
    """The large pieces; where another one goes, what spoke for it now speaks against the decision."""
    what = f"leaving out small pieces of {segment.name}"
    kept = watched(lambda: large_pieces(mask, least), progress, 1.0, what)
    progress(1.0, what)
    dropped = mask & ~kept
    confidence[dropped] = 1 - confidence[dropped]
    return kept


def large_pieces(mask: np.ndarray, least: float = 1.0) -> np.ndarray:
    """The connected pieces (26 neighbours) of a (K, J, I) mask with at least this share of the largest's voxels.

    Of several that are largest, 1 keeps the first.
    """
    box = mask_box(mask)
    if box is None:
        return mask
    pieces, count = ndimage.label(mask[box], structure=np.ones((3, 3, 3)))
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    large = sizes >= least * sizes.max() if least < 1 else np.arange(len(sizes)) == sizes.argmax()
    kept = np.zeros_like(mask)
    kept[box] = large[pieces]
    return kept


def box_on_grid(volume: Volume, box: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The slices (k, j, i) of the scan's grid that hold a box, (2, 3) LPS mm; None when it lies outside."""
    corners = np.array([[box[bit][a] for a, bit in enumerate(bits)] for bits in np.ndindex(2, 2, 2)])
    ijk = volume.indices_from_points(corners)
    start = np.clip(np.floor(ijk.min(axis=0)), 0, np.array(volume.size)).astype(int)
    stop = np.clip(np.ceil(ijk.max(axis=0)) + 1, 0, np.array(volume.size)).astype(int)
    if (stop <= start).any():
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(start[::-1], stop[::-1], strict=True))
