"""The patient in a scan: without the air, the table and the holders around; and where a point lies in it.

The usual morphological recipe (threshold, opening, largest component, filling), with every radius in millimetres.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion, watched

_CT_THRESHOLD = -300.0  # HU; skin and fat are above, foam, blankets and lung below
_WORKING_SPACING = 3.0  # mm; the mask is found on block means of about this size
_WORKING_VOXELS = 8_000_000
_WORKING_SIDE = 64  # a small animal in fine voxels is not shrunk below this many voxels a side
_BOX_VOXELS = 2_000_000
_BACKGROUND_RATIO = 0.25  # Rician air has a mean of 1.25 sigma: below a quarter of any tissue with SNR > 5


def is_ct(volume: Volume) -> bool:
    """Whether the voxels are Hounsfield units: the modality says so, or they go down to -500 and below."""
    return volume.modality.upper() == "CT" or (not volume.modality and float(volume.array.min()) <= -500)


def body_mask(volume: Volume, radius: float = 6.0, progress: Progress = ignore_progress) -> np.ndarray:
    """Find the voxels of the patient, cavities and airways included.

    CT: above -300 HU. Anything else: above the noise of the air (the lower class of Otsu's threshold), when
    there is air at all; a crop without any, and a constant image, are patient everywhere. Then an opening
    removes what is thinner than twice the radius (table, mask, holders), the largest piece stays (and others of
    at least a third of its size, such as the second leg), gaps are closed and the holes of each axial slice
    filled, so that lungs and airways count as body.

    volume: (K, J, I) scalar image on any grid. Large ones are treated on block means of about 3 mm; only the
        rim is decided on the full grid.
    radius: mm, of the opening; at most 3 % of the field of view in the axial plane, for small animals.

    Returns (K, J, I) bool, never empty. Raises InputError for a field of vectors.
    """
    if volume.array.ndim != 3:
        raise InputError(f"{volume.name}: a scalar image was expected to find the body in, not a field of vectors")
    what = f"finding the body in {volume.name}"
    progress(0.0, what)
    steps = _steps(volume)
    coarse = _block_means(volume.array, steps, portion(progress, 0.0, 0.1), what)
    threshold = watched(lambda: _threshold(volume, coarse), progress, 0.1, what)
    if threshold is None:
        return np.ones(volume.array.shape, bool)
    spacing = volume.spacing[::-1] * steps
    axial = 2 - int(np.argmax(np.abs(volume.direction[2])))
    extents = np.delete(volume.spacing[::-1] * volume.array.shape, axial)
    radius = min(radius, 0.03 * float(extents.min()))
    mask = watched(lambda: _largest_pieces(coarse > threshold, spacing, radius), progress, 0.1, what)
    if mask is None:
        return np.ones(volume.array.shape, bool)
    mask = watched(lambda: _closed(mask, spacing, radius), progress, 0.2, what)
    mask = _filled(mask, axial, portion(progress, 0.3, 0.4), what)
    if max(steps) == 1:
        return mask
    mask = _on_full_grid(mask, volume.array, steps, threshold, portion(progress, 0.4, 0.5), what)
    # Only axial slices fill lungs without closing the gap between arm and chest.
    return _filled(mask, axial, portion(progress, 0.5, 1.0), what)


def body_box(volume: Volume, mask: np.ndarray | None = None, progress: Progress = ignore_progress) -> np.ndarray:
    """The box of the body along the patient's axes.

    mask: (K, J, I) bool, `body_mask(volume)` when left out.

    Returns (2, 3) LPS mm: the 0.5th and 99.5th percentile of the coordinates of the mask's voxels, so that a
    hand or a stray piece does not move the box. An empty mask stands for the whole volume.
    """
    mask = body_mask(volume, progress=portion(progress, 0.0, 0.9)) if mask is None else mask
    return watched(lambda: _box_of(volume, mask), progress, 0.9, f"finding the body's box in {volume.name}")


def _box_of(volume: Volume, mask: np.ndarray) -> np.ndarray:
    step = max(1, int(np.ceil((mask.size / _BOX_VOXELS) ** (1 / 3))))
    kji = np.argwhere(mask[::step, ::step, ::step]) * step
    if not len(kji):
        kji = np.argwhere(mask)
    if not len(kji):
        corners = volume.corners()
        return np.stack([corners.min(axis=0), corners.max(axis=0)])
    box = np.percentile(volume.points_from_indices(kji[:, ::-1]), [0.5, 99.5], axis=0)
    flat = box[1] - box[0] <= 0
    box[:, flat] += np.outer([-0.5, 0.5], np.abs(volume.ijkToLps[:3, :3]).sum(axis=1))[:, flat]
    return box


def body_coordinates(
    volume: Volume, points: np.ndarray, mask: np.ndarray | None = None, box: np.ndarray | None = None
) -> np.ndarray:
    """Where points lie relative to the body: a spatial prior that transfers between patients.

    points: (N, 3) LPS mm.
    mask: (K, J, I) bool, `body_mask(volume)` when left out.
    box: (2, 3) LPS mm, `body_box(volume, mask)` when left out.

    Returns (N, 3): 0 at the right, anterior, inferior side of the box and 1 at the left, posterior, superior one;
    points beyond the box go below 0 or above 1.
    """
    low, high = body_box(volume, mask) if box is None else box
    return (np.asarray(points, dtype=np.float64) - low) / (high - low)


def _steps(volume: Volume) -> np.ndarray:
    """How many voxels of each array axis make one block."""
    shape = np.array(volume.array.shape)
    spacing = volume.spacing[::-1]
    wanted = _WORKING_SPACING
    while True:
        steps = np.clip((wanted / spacing + 0.25).astype(int), 1, np.maximum(shape // _WORKING_SIDE, 1))
        if np.prod(np.ceil(shape / steps)) <= _WORKING_VOXELS or np.all(steps >= shape // _WORKING_SIDE):
            return steps
        wanted *= 1.2


def _block_means(
    array: np.ndarray, steps: np.ndarray, progress: Progress = ignore_progress, what: str = ""
) -> np.ndarray:
    """float32 means over blocks of `steps`, one slab at a time; the last block of an axis may be smaller."""
    if max(steps) == 1:
        return np.nan_to_num(array.astype(np.float32))
    starts = [np.arange(0, n, s) for n, s in zip(array.shape, steps, strict=True)]
    means = np.empty([len(s) for s in starts], np.float32)
    for row, k in enumerate(starts[0]):
        progress(row / len(starts[0]), what)
        slab = array[k : k + steps[0]].mean(axis=0, dtype=np.float32)
        for axis in (0, 1):
            sums = np.add.reduceat(slab, starts[axis + 1], axis=axis)
            counts = np.diff(np.append(starts[axis + 1], slab.shape[axis])).astype(np.float32)
            slab = sums / (counts[:, None] if axis == 0 else counts)
        means[row] = slab
    return np.nan_to_num(means)


def _threshold(volume: Volume, coarse: np.ndarray) -> float | None:
    """The value that parts the patient from the air; None where there is no air."""
    if is_ct(volume):
        return _CT_THRESHOLD if (coarse <= _CT_THRESHOLD).any() else None
    low, high = np.percentile(coarse, [0.1, 99])
    if not high > low:
        return None
    values = np.clip(coarse, low, high) - low
    otsu = float(threshold_otsu(values))
    air, tissue = values[values <= otsu], values[values > otsu]
    floor = float(np.median(air))
    if not len(tissue) or floor > _BACKGROUND_RATIO * float(np.median(tissue)):
        return None
    noise = 1.4826 * float(np.median(np.abs(air - floor)))
    return float(low) + min(otsu, max(floor + 6 * noise, 0.05 * float(np.median(tissue))))


def _largest_pieces(inside: np.ndarray, spacing: np.ndarray, radius: float) -> np.ndarray | None:
    """Open with a ball of `radius` mm, keep the large pieces; None when nothing is left.

    Distances are taken along the grid's axes: exact unless the grid is sheared.
    """
    if not inside.any():
        return None
    if inside.all():
        return inside
    core = ~_grown(~inside, spacing, radius)
    labels, count = ndimage.label(core)
    if not count:
        labels, count = ndimage.label(inside)
        core = inside
    sizes = np.bincount(labels.ravel())[1:]
    core &= np.isin(labels, 1 + np.flatnonzero(sizes * 3 >= sizes.max()))
    # Half a voxel more than was eroded, so that a rounded corner such as an ear is not cut.
    reach = radius + 0.5 * float(np.max(spacing))
    return inside & _grown(core, spacing, reach)


def _closed(mask: np.ndarray, spacing: np.ndarray, radius: float) -> np.ndarray:
    """Close gaps of up to twice `radius` mm: nostrils and a tracheostoma, through which the air would run out."""
    if mask.all():
        return mask
    grown = _grown(mask, spacing, radius)
    return mask if grown.all() else mask | ~_grown(~grown, spacing, radius)


def _grown(mask: np.ndarray, spacing: np.ndarray, radius: float) -> np.ndarray:
    """Voxels whose centres lie within `radius` mm of one of the mask's.

    A union of shifted masks: the balls are a few voxels wide here, and distances took thirty times as long.
    """
    reach = np.minimum(radius / spacing, np.array(mask.shape) - 1).astype(int)
    padded = np.pad(mask, [(n, n) for n in reach])
    found = mask.copy()
    for offset in np.ndindex(*(2 * reach + 1)):
        if np.sum(((np.array(offset) - reach) * spacing) ** 2) <= radius**2:
            found |= padded[tuple(slice(o, o + n) for o, n in zip(offset, mask.shape, strict=True))]
    return found


def _filled(mask: np.ndarray, axial: int, progress: Progress, what: str) -> np.ndarray:
    """Fill the holes of every slice across array axis `axial`."""
    filled = np.empty_like(mask)
    slices, to_fill = np.moveaxis(mask, axial, 0), np.moveaxis(filled, axial, 0)
    for number, slice_ in enumerate(slices):
        progress(number / len(slices), what)
        to_fill[number] = ndimage.binary_fill_holes(slice_)
    return filled


def _on_full_grid(
    mask: np.ndarray, array: np.ndarray, steps: np.ndarray, threshold: float, progress: Progress, what: str
) -> np.ndarray:
    """Blocks well inside stay, blocks at the rim are decided voxel by voxel."""
    cube = np.ones((3, 3, 3), bool)
    inner = watched(lambda: ndimage.binary_erosion(mask, cube, border_value=1), progress, 0.0, what)
    outer = watched(lambda: ndimage.binary_dilation(mask, cube), progress, 0.0, what)
    full = np.empty(array.shape, bool)
    for k in range(array.shape[0]):
        progress(k / array.shape[0], what)
        row = k // steps[0]
        spread = [
            part[row].repeat(steps[1], axis=0).repeat(steps[2], axis=1)[: array.shape[1], : array.shape[2]]
            for part in (inner, outer)
        ]
        full[k] = spread[0] | (spread[1] & (array[k] > threshold))
    return full
