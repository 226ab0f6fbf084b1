"""Methods that show what a descriptor sees: as colours over a scan, and the place most like a chosen one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.progress import portion
from SSLFewShotLib.worker.handler import (
    NUMBER,
    PATH,
    TEXT,
    WHOLE,
    Context,
    Handler,
    Kind,
    is_number,
    one_of,
    optional,
    required,
)

if TYPE_CHECKING:
    from SSLFewShotLib.descriptors.descriptor import Descriptor
    from SSLFewShotLib.imaging.volume import Volume
    from SSLFewShotLib.progress import Progress

MOST_POINTS = 20_000
"""How many places are described, unless a spacing is given: seconds for gvdiff, a minute or more for networks."""

FAST_MODEL = "gvdiff"
"""What is looked into unless a model is named: somebody waits for the picture."""

_EMBEDDED = 800
_NEIGHBOURS = 5
_FINER = 4

_POINT = Kind(
    "three numbers, LPS mm",
    lambda value: isinstance(value, list) and len(value) == 3 and all(map(is_number, value)),
)


def described_body(
    descriptor: Descriptor, volume: Volume, spacing: float | None, progress: Progress
) -> tuple[Volume, np.ndarray, np.ndarray]:
    """Describe a scan on a coarse grid, within the body.

    spacing: mm between places; None for one that gives about `MOST_POINTS` of them.

    Returns the grid (its array is of no meaning), (M,) flat indices of the places in it, (M, D) float32 vectors.
    """
    from SSLFewShotLib.imaging.body import body_mask
    from SSLFewShotLib.imaging.resampling import grid_like

    inside = body_mask(volume, progress=portion(progress, 0.0, 0.1))
    if spacing is None:
        room = float(np.count_nonzero(inside)) * volume.voxel_volume
        spacing = max(float(volume.spacing.min()), (room / MOST_POINTS) ** (1 / 3))
    grid = grid_like(volume, spacing)
    shape = grid.array.shape[:3]
    k, j, i = (axis.ravel() for axis in np.indices(shape))
    points = grid.points_from_indices(np.stack([i, j, k], axis=1))
    nearest = np.rint(volume.indices_from_points(points)).astype(np.int64)
    nearest = np.clip(nearest, 0, np.array(volume.size) - 1)
    places = np.flatnonzero(inside[nearest[:, 2], nearest[:, 1], nearest[:, 0]])
    if len(places) < 4:
        raise InputError(f"{volume.name}: too little of a body was found to describe; choose another scan")
    vectors = descriptor.describe(volume, points[places], portion(progress, 0.1, 1.0))
    return grid, places, vectors


def colours_of(vectors: np.ndarray, kind: str, seed: int = 0) -> np.ndarray:
    """Three numbers for each vector, so that like vectors get like colours.

    vectors: (N, D). kind: "pca", the three main directions; "tsne", an embedding of some, the rest coloured
    as their nearest ones (van der Maaten and Hinton, JMLR 2008).

    Returns (N, 3) uint8.
    """
    vectors = _comparable(vectors, vectors)
    if kind == "pca":
        centred = vectors - vectors.mean(axis=0)
        _, _, directions = np.linalg.svd(centred[:: max(1, len(centred) // 10_000)], full_matrices=False)
        numbers = centred @ directions[:3].T
    else:
        numbers = _embedded(vectors, seed)
    if numbers.shape[1] < 3:
        numbers = np.pad(numbers, ((0, 0), (0, 3 - numbers.shape[1])))
    low, high = np.percentile(numbers, [2, 98], axis=0)
    return (np.clip((numbers - low) / np.maximum(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)


def _embedded(vectors: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(vectors))[:_EMBEDDED])
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    embedding = TSNE(3, perplexity=perplexity, init="pca", random_state=seed).fit_transform(
        vectors[chosen].astype(np.float64)
    )
    numbers = np.empty((len(vectors), 3))
    count = min(_NEIGHBOURS, len(chosen))
    for start in range(0, len(vectors), 4096):
        # Unit vectors: the larger the product, the nearer.
        alike = vectors[start : start + 4096] @ vectors[chosen].T
        best = np.argpartition(-alike, count - 1, axis=1)[:, :count]
        weights = 1 / (1.0001 - np.take_along_axis(alike, best, axis=1))
        weights /= weights.sum(axis=1, keepdims=True)
        numbers[start : start + 4096] = (embedding[best] * weights[..., np.newaxis]).sum(axis=1)
    return numbers


def _comparable(vectors: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Vectors standardised by the mean and deviation of others, and brought to unit length, as for the kNN."""
    deviation = over.std(axis=0)
    standard = (vectors - over.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1)
    return standard / np.maximum(np.linalg.norm(standard, axis=1, keepdims=True), 1e-9)


def _descriptor(params: dict[str, Any], like: Volume) -> Descriptor:
    from SSLFewShotLib.descriptors.loading import load_descriptor
    from SSLFewShotLib.networks.device import choose_device

    return load_descriptor(params["model"] or FAST_MODEL, like, choose_device(params["device"]))


def _map(params: dict[str, Any], context: Context) -> dict[str, Any]:
    from SSLFewShotLib.imaging.files import read_volume, write_volume
    from SSLFewShotLib.imaging.volume import Volume

    context.progress(0.0, "reading the scan")
    volume = read_volume(Path(params["image"]), portion(context.progress, 0.0, 0.05))
    descriptor = _descriptor(params, volume)
    grid, places, vectors = described_body(
        descriptor, volume, params["spacing"], portion(context.progress, 0.05, 0.85)
    )
    context.progress(0.85, "finding colours")
    colours = np.zeros((grid.array.size, 3), np.uint8)
    colours[places] = colours_of(vectors, params["kind"], params["seed"])
    shown = Volume(colours.reshape(*grid.array.shape[:3], 3), grid.ijkToLps, volume.name)
    write_volume(shown, Path(params["output"]), compress=False)
    return {"output": params["output"], "model": descriptor.name, "places": len(places)}


def _similarity(params: dict[str, Any], context: Context) -> dict[str, Any]:
    from SSLFewShotLib.imaging.files import read_volume, write_volume
    from SSLFewShotLib.imaging.volume import Volume

    context.progress(0.0, "reading the scans")
    marked = read_volume(Path(params["support_image"]), portion(context.progress, 0.0, 0.05))
    volume = read_volume(Path(params["target"]), portion(context.progress, 0.05, 0.1))
    point = np.array([params["point"]], dtype=np.float64)
    index = marked.indices_from_points(point)[0]
    if (index < -0.5).any() or (index > np.array(marked.size) - 0.5).any():
        raise InputError(f"{marked.name}: the point is outside of this scan; choose one within it")
    descriptor = _descriptor(params, marked)
    wanted = descriptor.describe(marked, point)
    grid, places, vectors = described_body(
        descriptor, volume, params["spacing"], portion(context.progress, 0.1, 0.85)
    )
    aim = _comparable(wanted, vectors)[0]
    alike = _comparable(vectors, vectors) @ aim
    best = places[int(alike.argmax())]
    k, j, i = np.unravel_index(best, grid.array.shape[:3])
    context.progress(0.85, "looking closer")
    step = np.arange(-_FINER, _FINER + 1) / _FINER
    around = np.stack(np.meshgrid(i + step, j + step, k + step, indexing="ij"), axis=-1).reshape(-1, 3)
    points = grid.points_from_indices(around)
    finer = _comparable(descriptor.describe(volume, points, portion(context.progress, 0.85, 1.0)), vectors) @ aim
    values = np.full(grid.array.shape[:3], -1, np.float32)
    values.flat[places] = alike
    write_volume(Volume(values, grid.ijkToLps, volume.name), Path(params["output"]), compress=False)
    closest = int(finer.argmax())
    return {
        "output": params["output"],
        "model": descriptor.name,
        "point": points[closest].tolist(),
        "similarity": float(finer[closest]),
    }


_COMMON = {
    "model": optional(TEXT),
    "spacing": optional(NUMBER),
    "device": optional(TEXT, "auto"),
    "output": required(PATH),
}

HANDLERS = {
    "descriptor/map": Handler(
        _map,
        {
            "image": required(PATH),
            "kind": optional(one_of("pca", "tsne"), "pca"),
            "seed": optional(WHOLE, 0),
            **_COMMON,
        },
    ),
    "descriptor/similarity": Handler(
        _similarity,
        {"support_image": required(PATH), "point": required(_POINT), "target": required(PATH), **_COMMON},
    ),
}
