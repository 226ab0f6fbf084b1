"""Synthetic tomograms with a known box: an object with structure, turned at random, in a tube with clutter."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.lazy import Scan

_AIR, _WATER, _WALL, _HOLDER = 6_000, 9_000, 15_000, 13_000
_NOISE = 500


class TomogramPhantom(Scan):
    """A tomogram that is computed slab by slab, whatever its size; uint16.

    seed: decides the specimen and its surroundings; the same seed in another size is the same tomogram.
    size: voxels along i, j, k; spacing: mm, the same along all axes.
    clutter: with a tube around, a holder below and bubbles; second: with a second, smaller object.

    `box` is that of the object, along i, j, k, as tight as its outer surface.
    """

    def __init__(
        self,
        seed: int,
        size: tuple[int, int, int] = (96, 96, 96),
        spacing: float = 0.01,
        clutter: bool = True,
        second: bool = False,
    ):
        if min(size) < 8 or not spacing > 0:
            raise InputError(
                f"a tomogram of {size} voxels, {spacing} mm: at least 8 and a length above 0 expected"
            )
        self.shape = tuple(size[::-1])
        self.dtype = np.dtype(np.uint16)
        self.name = f"tomogram_{seed}"
        self.ijkToLps = np.diag([spacing, spacing, spacing, 1.0])
        rng = np.random.default_rng([seed, 7])
        self.clutter = clutter
        self._side = float(max(size))
        self._middle = (np.array(size) - 1) / 2
        # In units of the longest side, about the middle: where the object lies, and its half axes.
        self._axes = Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix()
        self._radii = np.array([0.20, 0.125, 0.10]) * rng.uniform(0.85, 1.15, 3)
        room = np.array(size) / self._side / 2 - 0.24
        self._centre = rng.uniform(-0.6, 0.6, 3) * np.clip(room, 0.0, 0.12)
        self._waves = rng.normal(size=(6, 3)) * 9.0, rng.uniform(0, 2 * np.pi, 6)
        self._lumens = [(rng.uniform(-0.5, 0.5, 3), rng.uniform(0.12, 0.22)) for _ in range(3)]
        self._bones = [(rng.uniform(-0.6, 0.6, 3), rng.uniform(0.08, 0.14)) for _ in range(5)]
        self._tube = rng.uniform(0.40, 0.44), rng.normal(0, 0.01, 2)
        self._holder = rng.uniform(-0.1, 0.1, 2), rng.uniform(0.05, 0.09), rng.uniform(0.30, 0.36)
        self._bubbles = [
            (self._beside(rng, 0.3), rng.uniform(0.01, 0.025)) for _ in range(int(rng.integers(2, 5)))
        ]
        self._second = (self._beside(rng, 0.27), rng.uniform(0.035, 0.05)) if second else None
        self._noise = rng.normal(0, _NOISE, (min(size[1], 1024), min(size[0], 1024))).astype(np.float32)
        self._background: np.ndarray | None = None

    @property
    def box(self) -> Box:
        """The box of the object alone."""
        reach = np.sqrt(((self._axes * self._radii) ** 2).sum(axis=1)) * self._side
        centre = self._middle + self._centre * self._side
        corners = np.stack([centre - reach, centre + reach])
        return Box.around(corners @ self.ijkToLps[:3, :3].T, np.eye(3), name="object")

    def slab(self, start: int, stop: int) -> np.ndarray:
        """(stop − start, J, I) uint16."""
        return np.stack([self._slice(k) for k in range(start, stop)])

    def object_mask(self) -> np.ndarray:
        """(K, J, I) bool, of a small tomogram."""
        mask = np.zeros(self.shape, bool)
        for k in range(self.shape[0]):
            window, local = self._window(k, self._centre, float(self._radii.max()))
            if window is not None:
                mask[(k, *window)] = self._inside(local)
        return mask

    def _beside(self, rng: np.random.Generator, distance: float) -> np.ndarray:
        """A place in the tube, `distance` from the object's middle or more."""
        while True:
            place = np.append(rng.uniform(-0.28, 0.28, 2), rng.uniform(-0.4, 0.4))
            if np.linalg.norm(place - self._centre) > distance:
                return place

    def _slice(self, k: int) -> np.ndarray:
        if self._background is None:
            self._background = self._tube_slice()
        image = self._background.copy()
        z = (k - self._middle[2]) / self._side
        if self.clutter:
            middle, radius, top = self._holder
            if z < -top:
                self._paint(image, k, np.array([*middle, z]), radius, _HOLDER)
            for place, size in self._bubbles:
                self._paint(image, k, place, size, _AIR)
        if self._second is not None:
            place, size = self._second
            self._paint(image, k, place, size, 16_000)
            self._paint(image, k, place + 0.3 * size, 0.4 * size, 24_000)
        window, local = self._window(k, self._centre, float(self._radii.max()))
        if window is not None:
            part = image[window]
            inside = self._inside(local)
            part[inside] = self._tissue(local)[inside]
        rows, columns = self._noise.shape
        # One plane of noise, shifted from slice to slice: of a large tomogram fresh noise takes minutes.
        down, right = (37 * k) % rows, (101 * k) % columns
        tiles = [-(-n // m) for n, m in zip(image.shape, self._noise.shape, strict=True)]
        noise = np.roll(self._noise, (down, right), (0, 1))
        noise = noise if tiles == [1, 1] else np.tile(noise, tiles)
        image += noise[: image.shape[0], : image.shape[1]]
        return np.clip(image, 0, 65_535).astype(np.uint16)

    def _tube_slice(self) -> np.ndarray:
        """What every slice shows: the wall of the tube, water in it and air around."""
        height, width = self.shape[1:]
        if not self.clutter:
            return np.full((height, width), _WATER, np.float32)
        radius, centre = self._tube
        y = ((np.arange(height) - self._middle[1]) / self._side - centre[1]).astype(np.float32)
        x = ((np.arange(width) - self._middle[0]) / self._side - centre[0]).astype(np.float32)
        distance = np.sqrt(x**2 + y[:, None] ** 2)
        image = np.where(distance < radius, np.float32(_WATER), np.float32(_AIR))
        image[np.abs(distance - radius) < 0.012] = _WALL
        return image

    def _paint(self, image: np.ndarray, k: int, centre: np.ndarray, radius: float, value: float) -> None:
        """A ball."""
        window, local = self._window(k, centre, radius)
        if window is not None:
            image[window][sum(part**2 for part in local) <= radius**2] = value

    def _window(self, k: int, centre: np.ndarray, reach: float) -> tuple[tuple[slice, slice] | None, list]:
        """The rows and columns of a slice within `reach` of a centre, and their x, y, z from it."""
        z = (k - self._middle[2]) / self._side - centre[2]
        if abs(z) > reach:
            return None, []
        spans, local = [], []
        for axis in (1, 0):
            middle = self._middle[axis] + centre[axis] * self._side
            length = self.shape[2 - axis]
            first = int(np.clip(np.floor(middle - reach * self._side), 0, length))
            last = int(np.clip(np.ceil(middle + reach * self._side) + 1, 0, length))
            spans.append(slice(first, last))
            local.append((np.arange(first, last) - middle) / self._side)
        y, x = local
        return (spans[0], spans[1]), [x[None].astype(np.float32), y[:, None].astype(np.float32), np.float32(z)]

    def _turned(self, local: list) -> list[np.ndarray]:
        """Coordinates along the object's own axes, over its half axes."""
        return [
            sum(self._axes[axis, own] * part for axis, part in enumerate(local)) / self._radii[own]
            for own in range(3)
        ]

    def _inside(self, local: list) -> np.ndarray:
        return sum(part**2 for part in self._turned(local)) <= 1

    def _tissue(self, local: list) -> np.ndarray:
        """Grey values within the object: texture, a bright end, lumens and bones, none of them symmetric."""
        own = self._turned(local)
        directions, phases = self._waves
        texture = sum(
            np.cos(sum(d * part for d, part in zip(direction, own, strict=True)) + phase)
            for direction, phase in zip(directions, phases, strict=True)
        )
        value = 15_000 + 900 * texture + 2_500 * own[0]
        for places, factor, level in ((self._lumens, 1.0, 9_500.0), (self._bones, 1.0, 27_000.0)):
            for place, radius in places:
                near = sum((part - p) ** 2 for part, p in zip(own, place, strict=True))
                value = np.where(near < (factor * radius) ** 2, level, value)
        return value.astype(np.float32)
