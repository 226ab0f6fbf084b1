"""`LabelMap`: which voxel belongs to which named, coloured segment."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.volume import Volume

# Twelve hues that neighbours can be told apart by, for segments that come without a colour.
_COLOURS = (
    (230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240),
    (255, 225, 25), (240, 50, 230), (210, 245, 60), (250, 190, 212), (0, 128, 128), (170, 110, 40),
)  # fmt: skip


def default_colour(value: int) -> tuple[float, float, float]:
    """The colour (r, g, b in 0..1) of a segment that has none of its own."""
    red, green, blue = _COLOURS[(value - 1) % len(_COLOURS)]
    return red / 255, green / 255, blue / 255


@dataclass(frozen=True)
class Segment:
    """One structure: its label value (≥ 1), name, colour (r, g, b in 0..1) and terminology.

    terminology: Slicer's serialised terminology entry ("" when none), kept as it came.
    tags: whatever else a segmentation file says of the segment, kept as it came.
    """

    value: int
    name: str
    colour: tuple[float, float, float] = (0.5, 0.5, 0.5)
    terminology: str = ""
    tags: dict[str, str] = field(default_factory=dict, compare=False)


@dataclass
class LabelMap(Volume):
    """A `Volume` of integers plus its segments.

    array: (K, J, I) integers, 0 = background; or (K, J, I, L) layers, when segments overlap: a segment
        then lies in layer `layers[value]` (all in layer 0 otherwise). Values are unique over all layers.

    Raises InputError for values that are not whole numbers or below 0.
    """

    segments: list[Segment] = field(default_factory=list)
    layers: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.array = as_labels(self.array, self.name)
        if not self.segments:
            self.segments = [Segment(v, f"Segment_{v}", default_colour(v)) for v in present_values(self.array)]
        values = [segment.value for segment in self.segments]
        if len(set(values)) != len(values) or min(values, default=1) < 1:
            raise InputError(
                f"{self.name}: segment values must be different whole numbers from 1 up, not {values}"
            )

    @property
    def overlapping(self) -> bool:
        """Whether the segments lie in several layers."""
        return self.array.ndim == 4

    def segment(self, name: str) -> Segment:
        """The segment of that name; KeyError when there is none."""
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise KeyError(name)

    def mask(self, segment: Segment | str) -> np.ndarray:
        """(K, J, I) bool: the voxels of one segment."""
        if isinstance(segment, str):
            segment = self.segment(segment)
        layer = self.array[..., self.layers.get(segment.value, 0)] if self.overlapping else self.array
        return layer == segment.value

    @classmethod
    def from_masks(
        cls, grid: Volume, masks: dict[str, np.ndarray], like: list[Segment] | None = None, name: str = "labels"
    ) -> LabelMap:
        """Build from one (K, J, I) mask a segment name; layers are made only where masks overlap.

        like: segments whose value, colour and terminology are taken over by name.
        """
        known = {segment.name: segment for segment in like or []}
        unused = (v for v in range(1, 1 << 15) if v not in {s.value for s in known.values()})
        segments = [known.get(n) or Segment(v := next(unused), n, default_colour(v)) for n in masks]
        layers: list[np.ndarray] = []
        where: dict[int, int] = {}
        kind = np.uint8 if max((s.value for s in segments), default=0) < 256 else np.int16
        for segment, mask in zip(segments, masks.values(), strict=True):
            index = next((n for n, layer in enumerate(layers) if not layer[mask].any()), len(layers))
            if index == len(layers):
                layers.append(np.zeros(grid.array.shape[:3], kind))
            layers[index][mask] = segment.value
            where[segment.value] = index
        array = (
            layers[0]
            if len(layers) == 1
            else np.stack(layers, axis=-1)
            if layers
            else np.zeros(grid.array.shape[:3], kind)
        )
        return cls(array, grid.ijkToLps, name, segments=segments, layers=where if len(layers) > 1 else {})


def present_values(array: np.ndarray) -> list[int]:
    """The label values other than 0 that occur in an array of labels, ascending."""
    # Plane by plane: np.unique would sort a copy of the whole scan.
    found: set[int] = set()
    for plane in array:
        found.update(np.flatnonzero(np.bincount(plane.ravel())).tolist())
    return sorted(found - {0})


def as_labels(array: np.ndarray, name: str) -> np.ndarray:
    """The array as uint8 or int16 labels; InputError for values that are not whole numbers from 0 to 32767."""
    if array.dtype == bool:
        return array.astype(np.uint8)
    if not np.isfinite(array).all() if array.dtype.kind == "f" else False:
        raise InputError(
            f"{name}: labels were expected, but there are NaN or infinite values; save the labels as whole numbers"
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > np.iinfo(np.int16).max:
        raise InputError(
            f"{name}: label values from 0 to 32767 were expected, these go from {low} to {high}; is this an image "
            "instead of its labels?"
        )
    whole = array.astype(np.uint8 if high < 256 else np.int16)
    if array.dtype.kind == "f" and not np.array_equal(whole, array):
        raise InputError(f"{name}: whole label numbers were expected; is this an image instead of its labels?")
    return whole
