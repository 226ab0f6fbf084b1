"""Resampling in physical space: every grid through its full matrix, memory bounded by slabs.

Grids whose axes lie along one another, flipped or permuted as they may be, are resampled one axis after the
other; all others by ITK, in voxel space, because ITK's own geometry is not made for sheared axes.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name it goes by
from scipy import ndimage, sparse

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.itk_images import itk_array
from SSLFewShotLib.imaging.labelmap import LabelMap, present_values
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, watched

# Voxels of the target that are computed at once: 16 MiB in float32, tenths of a second.
_SLAB = 1 << 22
# Below this, downsampling loses too little for smoothing to pay.
_ANTI_ALIASING_FROM = 1.5
# How far a voxel may be off, in voxels, for two grids to count as aligned, and an edge to be reached.
_TOLERANCE = 1e-4


def grid_like(volume: Volume, spacing: float | tuple[float, float, float]) -> Volume:
    """A grid with the axes and extent of `volume` and another spacing, to resample to.

    spacing: mm along i, j, k, or one number for all. The outer corner of voxel (0, 0, 0) stays where it is;
    the number of voxels is rounded, so that the far corner moves by at most half a voxel.

    The array is a read-only zero that takes no memory.
    """
    wanted = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (3,))
    if not (np.isfinite(wanted).all() and (wanted > 0).all()):
        raise InputError(f"{volume.name}: a spacing above 0 mm was expected, not {spacing}")
    old = volume.spacing
    size = np.maximum(1, np.round(np.array(volume.size) * old / wanted)).astype(int)
    matrix = np.eye(4)
    matrix[:3, :3] = volume.ijkToLps[:3, :3] / old * wanted
    corner = volume.points_from_indices([[-0.5, -0.5, -0.5]])[0]
    matrix[:3, 3] = corner + matrix[:3, :3] @ [0.5, 0.5, 0.5]
    zero = np.broadcast_to(np.zeros((), volume.array.dtype), tuple(size[::-1]))
    return Volume(zero, matrix, volume.name, volume.modality)


def resample(
    volume: Volume,
    grid: Volume,
    order: int = 1,
    fill: float | None = None,
    progress: Progress = ignore_progress,
) -> Volume:
    """Sample `volume` at the voxels of `grid`.

    volume: scalar or vectors; order: 0 nearest, 1 linear, 3 cubic B-spline; fill: the value outside the volume,
    by default its minimum. A volume reaches to the outer faces of its voxels.

    For orders 1 and 3, an axis on which the grid is more than 1.5 times coarser is smoothed first by the
    Gaussian that makes a voxel's point spread match the grid's (Cardoso et al., "Scale factor point spread
    function matching", MICCAI 2015, equation 3), and the result is float32 (float64 for float64).
    Order 0 keeps the type and does not smooth.
    """
    if order not in (0, 1, 3):
        raise ValueError(f"order must be 0, 1 or 3, not {order}")
    array = itk_array(volume.array)
    if fill is None:
        fill = array.min()
    kind = array.dtype if order == 0 or array.dtype == np.float64 else np.float32
    mapping = volume.lpsToIjk @ grid.ijkToLps
    shape = grid.array.shape[:3]
    axes = _aligned_axes(mapping, shape)
    result = np.empty((*shape, *array.shape[3:]), kind)
    if axes is not None and order < 2:
        # Source axis a runs along target axis axes[a]: bring the source's axes into the target's order.
        inverse = np.argsort(axes)
        source = array.transpose(*(2 - inverse[::-1]), *range(3, array.ndim))
        scale = [mapping[a, t] for t, a in enumerate(inverse)]
        offset = [mapping[a, 3] for a in inverse]
        _separable(source, result, scale, offset, order, fill, progress)
    else:
        _oblique(array, result, mapping, order, fill, progress)
    return Volume(result, grid.ijkToLps, volume.name, volume.modality, dict(volume.metadata))


def _aligned_axes(mapping: np.ndarray, shape: tuple[int, ...]) -> list[int] | None:
    """For each source axis (i, j, k) the target axis along it; None when an axis runs along several."""
    reach = np.abs(mapping[:3, :3]) * np.array(shape[::-1])
    axes = [int(np.argmax(row)) for row in reach]
    if sorted(axes) != [0, 1, 2]:
        return None
    stray = reach.copy()
    stray[range(3), axes] = 0
    return axes if stray.max() <= _TOLERANCE * 10 else None


def _slabs(shape: tuple[int, ...], progress: Progress) -> Iterator[slice]:
    thick = max(1, _SLAB // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], thick):
        progress(start / shape[0], "Resampling")
        yield slice(start, min(start + thick, shape[0]))


def _separable(
    source: np.ndarray,
    result: np.ndarray,
    scale: list[float],
    offset: list[float],
    order: int,
    fill: float,
    progress: Progress,
) -> None:
    """Fill `result` axis by axis; scale and offset take target indices (i, j, k) to source indices."""
    coordinates = [scale[axis] * np.arange(result.shape[2 - axis]) + offset[axis] for axis in (2, 1, 0)]
    inside = [_inside(c, source.shape[axis]) for axis, c in enumerate(coordinates)]
    if order == 0:
        nearest = [_nearest(c, source.shape[axis]) for axis, c in enumerate(coordinates)]
        for slab in _slabs(result.shape, progress):
            result[slab] = source[np.ix_(nearest[0][slab], nearest[1], nearest[2])]
    else:
        weights = [_weights(c, source.shape[axis], abs(scale[2 - axis])) for axis, c in enumerate(coordinates)]
        plane = np.maximum(result.shape[1:], source.shape[1:])
        for slab in _slabs((result.shape[0], *plane), progress):
            rows = weights[0][slab]
            used = slice(int(rows.indices.min()), int(rows.indices.max()) + 1)
            block = source[used].astype(result.dtype)
            block = _along(rows[:, used], block, 0)
            block = _along(weights[1], block, 1)
            result[slab] = _along(weights[2], block, 2)
    result[~inside[0]] = fill
    result[:, ~inside[1]] = fill
    result[:, :, ~inside[2]] = fill


def _inside(coordinates: np.ndarray, length: int) -> np.ndarray:
    return (coordinates >= -0.5 - _TOLERANCE) & (coordinates <= length - 0.5 + _TOLERANCE)


def _nearest(coordinates: np.ndarray, length: int) -> np.ndarray:
    return np.clip(np.floor(coordinates + 0.5), 0, length - 1).astype(np.intp)


def _sigma(factor: float) -> float:
    """Standard deviation, in source voxels, of the smoothing before a grid `factor` times coarser."""
    return 0.0 if factor <= _ANTI_ALIASING_FROM else float(np.sqrt((factor**2 - 1) / (8 * np.log(2))))


def _weights(coordinates: np.ndarray, length: int, factor: float) -> sparse.csr_matrix:
    """(target, source) weights of linear interpolation, after smoothing where `factor` asks for it."""
    rows = np.arange(coordinates.size)
    clipped = np.clip(coordinates, 0, length - 1)
    low = np.minimum(np.floor(clipped).astype(np.intp), max(length - 2, 0))
    high = np.minimum(low + 1, length - 1)
    part = clipped - low
    linear = sparse.csr_matrix(
        (np.r_[1 - part, part], (np.r_[rows, rows], np.r_[low, high])), shape=(coordinates.size, length)
    )
    sigma = _sigma(factor)
    if not sigma:
        return linear
    radius = int(np.ceil(4 * sigma))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    centre = np.repeat(np.arange(length), taps.size)
    # Beyond an edge the outermost voxel goes on.
    reached = np.clip(centre + np.tile(np.arange(-radius, radius + 1), length), 0, length - 1)
    smoothing = sparse.csr_matrix((np.tile(taps, length), (centre, reached)), shape=(length, length))
    return sparse.csr_matrix(linear @ smoothing)


def _along(weights: sparse.csr_matrix, block: np.ndarray, axis: int) -> np.ndarray:
    moved = np.moveaxis(block, axis, 0)
    product = weights.astype(block.dtype) @ np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    return np.moveaxis(product.reshape(weights.shape[0], *moved.shape[1:]), 0, axis)


def _oblique(
    array: np.ndarray, result: np.ndarray, mapping: np.ndarray, order: int, fill: float, progress: Progress
) -> None:
    """Fill `result` through ITK, with both images in voxel indices and `mapping` (4, 4) between them."""
    factors = np.linalg.norm(mapping[:3, :3], axis=1)
    sigmas = [_sigma(factor) if order else 0.0 for factor in factors[::-1]]
    if any(sigmas):
        sigmas += [0.0] * (array.ndim - 3)
        smooth = functools.partial(ndimage.gaussian_filter, mode="nearest", truncate=4.0)
        array = watched(lambda: smooth(array, sigmas, output=result.dtype), progress, 0.0, "Resampling")
    source = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=array.ndim == 4)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(mapping[:3, :3].ravel().tolist())
    transform.SetTranslation(mapping[:3, 3].tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetTransform(transform)
    resampler.SetInterpolator({0: sitk.sitkNearestNeighbor, 1: sitk.sitkLinear, 3: sitk.sitkBSpline}[order])
    resampler.SetDefaultPixelValue(float(fill))
    if array.ndim == 3:
        resampler.SetOutputPixelType(sitk.sitkFloat32 if result.dtype == np.float32 else source.GetPixelID())
    elif order:
        source = sitk.Cast(
            source, sitk.sitkVectorFloat64 if result.dtype == np.float64 else sitk.sitkVectorFloat32
        )
    # The spline's coefficients are computed anew for every slab: take one.
    for slab in [slice(0, result.shape[0])] if order == 3 else _slabs(result.shape, progress):
        resampler.SetSize([*result.shape[2:0:-1], slab.stop - slab.start])
        resampler.SetOutputOrigin([0.0, 0.0, float(slab.start)])
        share = slab.start / result.shape[0]
        # Kept in a variable: a view does not keep its image alive.
        piece = watched(functools.partial(resampler.Execute, source), progress, share, "Resampling")
        result[slab] = sitk.GetArrayViewFromImage(piece).reshape(result[slab].shape)


def resample_labels(labels: LabelMap, grid: Volume, progress: Progress = ignore_progress) -> LabelMap:
    """Sample labels at the voxels of `grid`: nearest voxel, background outside, layers and segments kept."""
    sampled = resample(Volume(labels.array, labels.ijkToLps, labels.name), grid, 0, 0.0, progress)
    return LabelMap(
        sampled.array, grid.ijkToLps, labels.name, labels.modality, dict(labels.metadata),
        segments=list(labels.segments), layers=dict(labels.layers),
    )  # fmt: skip


def labels_on_grid(labels: LabelMap, volume: Volume, progress: Progress = ignore_progress) -> LabelMap:
    """Bring labels to the grid of their image: as they are when they lie on it, else resampled.

    Warns with `InputWarning` when resampled, naming segments of which nothing is left.
    Raises InputError when image and labels do not overlap in space.
    """
    if volume.same_grid(labels):
        return labels
    apart = InputError(
        f"{labels.name}: these labels and the image {volume.name} do not overlap in space; give the labels that "
        "were made on this image"
    )
    if not _boxes_meet(labels, volume):
        raise apart
    moved = resample_labels(labels, volume, progress)
    before, after = present_values(labels.array), present_values(moved.array)
    if before and not after:
        raise apart
    lost = [segment.name for segment in labels.segments if segment.value in set(before) - set(after)]
    warnings.warn(
        f"{labels.name}: not on the grid of {volume.name}; resampled to it"
        + (f" ({', '.join(lost)}: nothing left)" if lost else ""),
        InputWarning,
        stacklevel=2,
    )
    return moved


def _boxes_meet(first: Volume, second: Volume) -> bool:
    """Whether the extents meet, looked at along the axes of either grid."""
    for one, other in ((first, second), (second, first)):
        corners = one.indices_from_points(other.corners())
        if (corners.max(axis=0) < -0.5 + _TOLERANCE).any():
            return False
        if (corners.min(axis=0) > np.array(one.size) - 0.5 - _TOLERANCE).any():
            return False
    return True
