"""Supervoxels of a prepared scan: regions of about one volume that keep to what is seen, restricted to the body.

They are the pseudo-labels of 3D SSL-ALPNet (Zhang and Liu 2022, section 3.2.1). Sizes are volumes in mm³, so that
the same anatomy falls into as many regions whatever the grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from skimage import graph
from skimage.segmentation import slic

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.sampling.preparation import PreparedScan


@dataclass(frozen=True)
class SupervoxelGenerator(ABC):
    """Cuts the body into regions of about `volume` mm³ each."""

    volume: float

    name = ""

    def __post_init__(self) -> None:
        if not 0 < self.volume < 1e9:
            raise InputError(f"supervoxels of {self.volume} mm³: a volume above 0 was expected")

    def __call__(self, scan: PreparedScan) -> np.ndarray:
        """(K, J, I) int32: 0 outside the body, 1 to N for its regions; the same scan gives the same regions.

        A body smaller than two regions is one region.
        """
        body = scan.body.numpy()
        voxel = float(np.prod(scan.spacing))
        count = round(int(body.sum()) * voxel / self.volume)
        if count < 2:
            return body.astype(np.int32)
        values = scan.values.numpy().astype(np.float64)
        low, high = values[body].min(), values[body].max()
        values = (values - low) / max(high - low, 1e-9)
        # To the body's box: nothing outside of it is looked at.
        box = tuple(slice(r.min(), r.max() + 1) for r in np.nonzero(body))
        found = np.zeros(body.shape, np.int32)
        found[box] = self._cut(values[box], body[box], scan.spacing[::-1], count)
        return found

    @abstractmethod
    def _cut(self, values: np.ndarray, body: np.ndarray, spacing: np.ndarray, count: int) -> np.ndarray:
        """values: (K, J, I) in 0..1; spacing: mm along k, j, i; count: regions wanted, at least two."""

    def settings(self) -> dict[str, Any]:
        """What decides the regions of a scan."""
        return {"generator": self.name, **asdict(self)}


@dataclass(frozen=True)
class SlicSupervoxels(SupervoxelGenerator):
    """SLIC (Achanta et al. 2012), as in the paper, inside a mask (maskSLIC, Irving 2016), from scikit-image.

    compactness: how much a place counts against a grey value, both relative to the region's side and to the
    scan's range.
    """

    compactness: float = 0.05

    name = "slic"

    def _cut(self, values: np.ndarray, body: np.ndarray, spacing: np.ndarray, count: int) -> np.ndarray:
        return _slic(values, body, spacing, count, self.compactness)


@dataclass(frozen=True)
class MergedSupervoxels(SupervoxelGenerator):
    """Graph-based: fine SLIC regions are merged along the weakest edge first, from scikit-image's region graph.

    After Felzenszwalb and Huttenlocher (IJCV 2004), whose own algorithm the later 3D variants use and scikit-image
    has in 2D only: two regions are merged while their mean grey values differ by no more than k / |C| (their
    equation 5) with |C| the smaller one's volume and k = contrast × volume. Sizes differ more than SLIC's.

    contrast: the difference, as a share of the scan's range, across which a region of the wanted volume still
        grows; parts: fine regions for each one wanted.
    """

    contrast: float = 0.02
    parts: int = 8

    name = "merged"

    def _cut(self, values: np.ndarray, body: np.ndarray, spacing: np.ndarray, count: int) -> np.ndarray:
        fine = _slic(values, body, spacing, count * self.parts, 0.05)
        regions = graph.RAG(fine, connectivity=1)
        sizes = np.bincount(fine.ravel())
        sums = np.bincount(fine.ravel(), values.ravel())
        if 0 in regions:
            regions.remove_node(0)
        wanted = int(body.sum()) / count
        for node in regions:
            regions.nodes[node].update(labels=[node], size=float(sizes[node]), total=float(sums[node]))
        for one, other in regions.edges:
            regions.edges[one, other]["weight"] = _cost(regions.nodes[one], regions.nodes[other], wanted)
        merged = graph.merge_hierarchical(
            fine,
            regions,
            thresh=self.contrast,
            rag_copy=False,
            in_place_merge=True,
            merge_func=_join,
            weight_func=lambda g, _, one, other: {"weight": _cost(g.nodes[one], g.nodes[other], wanted)},
        )
        # Merging numbers from 0, and numbers what is not in the graph too.
        numbers = np.unique(merged[body], return_inverse=True)[1]
        found = np.zeros(body.shape, np.int32)
        found[body] = numbers + 1
        return found


GENERATORS: dict[str, type[SupervoxelGenerator]] = {
    generator.name: generator for generator in (SlicSupervoxels, MergedSupervoxels)
}


def make_generator(name: str, volume: float) -> SupervoxelGenerator:
    """A generator by its name, for regions of `volume` mm³. Raises InputError for an unknown name."""
    if name not in GENERATORS:
        raise InputError(f"supervoxels '{name}': one of {', '.join(GENERATORS)} was expected")
    return GENERATORS[name](volume)


def neighbours_of(regions: np.ndarray, region: int) -> np.ndarray:
    """The numbers of the regions that share a face with `region` in a (K, J, I) array, 0 left out."""
    mask = regions == region
    touched = []
    for axis in range(3):
        before, after = [slice(None)] * 3, [slice(None)] * 3
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        touched.append(regions[tuple(before)][mask[tuple(after)]])
        touched.append(regions[tuple(after)][mask[tuple(before)]])
    found = np.unique(np.concatenate(touched))
    return found[(found != 0) & (found != region)]


def _slic(values: np.ndarray, body: np.ndarray, spacing: np.ndarray, count: int, compactness: float) -> np.ndarray:
    return slic(
        values,
        n_segments=count,
        compactness=compactness,
        spacing=spacing / spacing.min(),
        mask=body,
        channel_axis=None,
        start_label=1,
    ).astype(np.int32)


def _cost(one: dict[str, Any], other: dict[str, Any], wanted: float) -> float:
    difference = abs(one["total"] / one["size"] - other["total"] / other["size"])
    return difference * min(one["size"], other["size"]) / wanted


def _join(regions: graph.RAG, source: int, target: int) -> None:
    for key in ("size", "total"):
        regions.nodes[target][key] += regions.nodes[source][key]
