"""The anatomy of a synthetic torso: which tissue lies at which point of a patient.

Everything is in a patient frame: x to the left, y to the back, z to the head (LPS), in mm, with the origin in the
middle of a torso that reaches from the heart to the iliac crests. A seed makes a patient: sizes, fat, the curve of
the spine, each organ's place, size and tilt, and a smooth deformation of all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

_LATTICE = 12.0  # mm between the nodes at which deformation and bowel are tabulated
_REACH = 264.0  # mm from the origin that the lattice covers


class Tissue(IntEnum):
    """What a voxel is made of; an index into the tables of grey values."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    LUNG = 3
    BONE = 4
    MARROW = 5
    DISC = 6
    CSF = 7
    CORD = 8
    BLOOD = 9
    HEART = 10
    LIVER = 11
    SPLEEN = 12
    STOMACH = 13
    KIDNEY = 14
    MEDULLA = 15
    BOWEL = 16
    GAS = 17
    TABLE = 18
    VESSEL = 19
    SKIN = 20


# centre, radii (mm) and tilt (degrees about x, y, z) of organs that are made of ellipsoids.
_ORGANS = {
    "Liver": (
        ((-72, -14, 32), (74, 74, 68), (0, 18, 0)),
        ((-8, -42, 48), (70, 40, 32), (0, -12, 0)),
    ),
    "Spleen": (((98, 40, 32), (28, 44, 54), (25, -12, 0)),),
    "Stomach": (((52, -28, 34), (36, 38, 46), (0, 25, 0)), ((24, -48, -8), (42, 21, 20), (0, -25, 15))),
    "LeftKidney": (((63, 44, -22), (27, 25, 53), (-8, 12, 0)),),
    "RightKidney": (((-62, 44, -38), (27, 25, 53), (-8, -12, 0)),),
}
_SINUS = {"LeftKidney": ((44, 40, -22), (17, 9, 18)), "RightKidney": ((-43, 40, -38), (17, 9, 18))}
_MADE_OF = {
    "Liver": (Tissue.LIVER, Tissue.VESSEL),
    "Spleen": (Tissue.SPLEEN,),
    "Stomach": (Tissue.STOMACH, Tissue.GAS),
    "LeftKidney": (Tissue.KIDNEY, Tissue.MEDULLA),
    "RightKidney": (Tissue.KIDNEY, Tissue.MEDULLA),
    "Aorta": (Tissue.BLOOD,),
    "SpinalCord": (Tissue.CORD,),
}


@dataclass
class _Organ:
    """One organ's own variation: where it moved, how much it grew, how it turned."""

    move: np.ndarray
    grow: float
    turn: Rotation


class Patient:
    """The anatomy that belongs to a seed.

    `tissues(points)` and the organs that come with it only depend on the seed, not on grid or modality.
    """

    def __init__(self, rng: np.random.Generator):
        self.centre = rng.normal(0, [12, 12, 60])
        self.scale = np.array([1, 1, 1]) * rng.uniform(0.93, 1.07) * (1 + rng.uniform(-0.04, 0.04, 3))
        self.turn = Rotation.from_euler("xyz", rng.normal(0, [1.5, 1.5, 3.0]), degrees=True)
        self.fat = rng.uniform(9, 26)
        self.visceral_fat = rng.uniform(-0.25, 0.45)
        self.lordosis = rng.uniform(4, 12)
        self.scoliosis = rng.normal(0, 3)
        self.first_vertebra = rng.uniform(-18, 18)
        self.cord_end = rng.uniform(-45, -15)
        self.diaphragm = rng.uniform(62, 84)
        self.organs = {
            name: _Organ(
                rng.normal(0, [4, 4, 6]),
                rng.normal(1, 0.06),
                Rotation.from_euler("xyz", rng.normal(0, 6, 3), degrees=True),
            )
            for name in _ORGANS
        }
        self._fields = [6.0 * _smooth_field(rng, 50.0) for _ in range(3)]
        self._bowel = _smooth_field(rng, 13.0)

    def tissues(self, points: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """What lies at LPS `points` (…, 3) mm: (…) uint8 of `Tissue`, and a bool array for each organ."""
        shape = points.shape[:-1]
        frame = self.turn.inv().as_matrix() / self.scale[:, None]
        local = ((points.reshape(-1, 3) - self.centre) @ frame.T).astype(np.float32)
        nodes = (local.T + _REACH) / _LATTICE
        for axis, field in enumerate(self._fields):
            local[:, axis] += ndimage.map_coordinates(field, nodes, order=1, mode="nearest")
        bowel = ndimage.map_coordinates(self._bowel, nodes, order=1, mode="nearest")
        x, y, z = np.ascontiguousarray(local.T)
        tissue, organs = self._paint(x, y, z, bowel)
        return tissue.reshape(shape), {name: mask.reshape(shape) for name, mask in organs.items()}

    def _paint(self, x, y, z, bowel) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Paint from the outside to the inside; what is painted later lies on top."""
        tissue = np.zeros(x.shape, np.uint8)
        depth = _depth_under_skin(x, y, z)
        wall = self.fat + 4 * np.cos(2 * np.arctan2(y, x))  # thicker at the flanks than in front
        cavity = depth > wall + 17
        thorax = cavity & (z > self._dome(x, y))
        tissue[depth > 0] = Tissue.FAT
        tissue[(depth > 0) & (depth < 2.5)] = Tissue.SKIN
        tissue[depth > wall] = Tissue.MUSCLE
        tissue[cavity] = Tissue.FAT
        _, spine_y = self._spine(z)
        tissue[cavity & (bowel > self.visceral_fat) & (z < 20) & (y < 35)] = Tissue.BOWEL
        tissue[cavity & (bowel > self.visceral_fat + 1.3) & (z < 20) & (y < 0)] = Tissue.GAS
        tissue[thorax & (np.abs(x - 6) > 26 - 0.12 * (z - 60))] = Tissue.LUNG
        tissue[thorax & (bowel > 1.6) & (tissue == Tissue.LUNG)] = Tissue.VESSEL
        tissue[_in_ellipsoid(x, y, z, (24, -38, 128), (62, 52, 62)) & thorax] = Tissue.HEART
        organs = self._paint_organs(tissue, x, y, z, cavity & ~thorax)
        self._paint_bones(tissue, x, y, z, depth - wall)
        organs |= self._paint_spine(tissue, x, y, z)
        aorta = np.hypot(x - 14 - 0.05 * z, y - spine_y + 30 - 0.04 * z) < 10.5 - 0.015 * (120 - z)
        organs["Aorta"] = aorta & (z > -105) & ~organs["SpinalCord"]
        tissue[organs["Aorta"]] = Tissue.BLOOD
        vena_cava = np.hypot((x + 17) / 1.25, y - spine_y + 27) < 9.5
        tissue[vena_cava & (z < 70) & (z > -115) & ~np.isin(tissue, (Tissue.BONE, Tissue.MARROW))] = Tissue.BLOOD
        for name, kinds in _MADE_OF.items():
            organs[name] &= np.isin(tissue, kinds)
        return tissue, organs

    def _spine(self, z):
        """(x, y) mm of the middle of the vertebral bodies at height z."""
        return self.scoliosis * np.sin(z / 70), 48 - self.lordosis * np.cos(z / 95)

    def _dome(self, x, y):
        """Height of the diaphragm; the right dome is the higher one."""
        right = self.diaphragm + 8 - 0.008 * (x + 70) ** 2
        left = self.diaphragm - 2 - 0.008 * (x - 70) ** 2
        return np.maximum(right, left) - 0.006 * (y + 10) ** 2

    def _paint_organs(self, tissue, x, y, z, room) -> dict[str, np.ndarray]:
        organs = {}
        for name, ellipsoids in _ORGANS.items():
            own = self.organs[name]
            mask = np.zeros(x.shape, bool)
            for centre, radii, tilt in ellipsoids:
                turn = own.turn * Rotation.from_euler("xyz", tilt, degrees=True)
                mask |= _in_ellipsoid(x, y, z, centre + own.move, np.multiply(radii, own.grow), turn)
            organs[name] = mask & room
        for name, (centre, radii) in _SINUS.items():
            own = self.organs[name]
            organs[name] &= ~_in_ellipsoid(x, y, z, centre + own.move, radii)
        organs["Liver"] &= (y < 8) | (x < -32)  # the bare area stops at the vena cava
        # The order in which they make room for each other; each keeps a small layer of fat around it.
        taken = np.zeros(x.shape, bool)
        for name in ("LeftKidney", "RightKidney", "Liver", "Spleen", "Stomach"):
            organs[name] &= ~taken
            taken |= organs[name]
        for name, kind in (("Liver", Tissue.LIVER), ("Spleen", Tissue.SPLEEN), ("Stomach", Tissue.STOMACH)):
            tissue[organs[name]] = kind
        for name in ("LeftKidney", "RightKidney"):
            (centre, radii, tilt), own = _ORGANS[name][0], self.organs[name]
            turn = own.turn * Rotation.from_euler("xyz", tilt, degrees=True)
            around = _in_ellipsoid(x, y, z, centre + own.move, np.multiply(radii, own.grow) + 9, turn) & room
            tissue[around & ~taken] = Tissue.FAT
            inner = _in_ellipsoid(x, y, z, centre + own.move, np.multiply(radii, own.grow) - 9, turn)
            tissue[organs[name]] = Tissue.KIDNEY
            tissue[organs[name] & inner] = Tissue.MEDULLA
        bubble = self.organs["Stomach"].move + np.array([52, -52, 40])
        tissue[organs["Stomach"] & _in_ellipsoid(x, y, z, bubble, (22, 13, 24))] = Tissue.GAS
        vessels = _in_ellipsoid(x, y, z, (-50, 5, 38), (42, 4.5, 4.5)) | _in_ellipsoid(
            x, y, z, (-70, -12, 52), (5, 34, 5)
        )
        tissue[organs["Liver"] & vessels] = Tissue.VESSEL
        return organs

    def _paint_bones(self, tissue, x, y, z, below_fat) -> None:
        """Ribs, breast bone and pelvis."""
        slope = z + 0.45 * y - 0.1 * np.abs(x)
        phase = np.mod(slope - self.first_vertebra, 30.0) - 15
        ribs = (np.abs(phase) < 5.5) & (np.abs(below_fat - 11) < 4.0)
        ribs &= (z > -10 + 0.35 * np.abs(y + 60)) & (np.abs(x) > 22)
        tissue[ribs] = Tissue.BONE
        tissue[(below_fat > 3) & (below_fat < 13) & (np.abs(x) < 18) & (y < 0) & (z > 95)] = Tissue.MARROW
        # An iliac wing runs from the sacrum outwards, forwards and up, and ends in a rounded crest.
        wing = np.abs(np.abs(x) - 47 - 0.66 * (55 - y) - 0.32 * (z + 150))
        plate = (wing < 8.5) & (z < -102 - 0.007 * (y - 8) ** 2) & (y < 66) & (y > -62) & (below_fat > 2)
        tissue[plate] = Tissue.MARROW
        tissue[plate & (wing > 4.5)] = Tissue.BONE

    def _paint_spine(self, tissue, x, y, z) -> dict[str, np.ndarray]:
        spine_x, spine_y = self._spine(z)
        u, v = x - spine_x, y - spine_y
        level = np.mod(z - self.first_vertebra, 36.0) - 18
        bulk = 1.15 - 0.0012 * z  # lumbar vertebrae are bigger than thoracic ones
        for side in (-1, 1):
            tissue[np.hypot((u - side * 36) / 1.35, v - 38) < 20] = Tissue.MUSCLE  # erector spinae
            psoas = np.hypot(u - side * (38 - 0.12 * z), (v + 2) / 1.1) < 10 - 0.11 * z
            tissue[psoas & (z < 20) & np.isin(tissue, (Tissue.FAT, Tissue.BOWEL, Tissue.GAS))] = Tissue.MUSCLE
        radius = np.hypot(u / 1.28, v) / bulk
        body, disc = radius < 17, np.abs(level) > 13.5
        tissue[body] = Tissue.MARROW
        tissue[body & ((radius > 14.5) | (np.abs(level) > 11))] = Tissue.BONE
        tissue[body & disc] = Tissue.DISC
        canal = np.hypot(u, (v - 24 * bulk) * 1.1)
        arch = (canal < 15.5) & (np.abs(level) < 12)
        process = (np.abs(u) < 3.6) & (v > 30) & (v < 58) & (np.abs(level + 0.3 * (v - 30)) < 8)
        across = (np.abs(v - 22 * bulk) < 4.5) & (np.abs(u) < 36) & (np.abs(level) < 6)
        tissue[arch | process | across] = Tissue.BONE
        tissue[canal < 10.5] = Tissue.CSF
        cord = (canal < 6.2) & (z > self.cord_end)
        tissue[cord] = Tissue.CORD
        return {"SpinalCord": cord}


def _depth_under_skin(x, y, z):
    """About how many mm a point lies under the skin; negative outside. A tapered superellipse."""
    half_width = 158 + 13 * np.cos((z - 150) / 70)
    half_depth = 107 + 7 * np.cos((z - 130) / 80)
    # Exponent 2.5 is squarer than an ellipse, as a trunk is; the back is flatter than the belly.
    across, along = np.abs(x / half_width), np.abs(y / half_depth)
    radius = (across**2.5 + along**2.5) ** np.float32(0.4)
    length = np.sqrt(x * x + y * y) + 1e-3
    return length / np.maximum(radius, 1e-3) * (1 - radius)


def _in_ellipsoid(x, y, z, centre, radii, turn: Rotation | None = None) -> np.ndarray:
    shift = np.asarray(centre, np.float32)
    axes = (np.eye(3) if turn is None else turn.as_matrix()) / np.maximum(radii, 1e-3)
    u, v, w = x - shift[0], y - shift[1], z - shift[2]
    total = np.zeros(x.shape, np.float32)
    for a, b, c in axes.T.astype(np.float32):
        total += (a * u + b * v + c * w) ** 2
    return total < 1


def _smooth_field(rng: np.random.Generator, length: float) -> np.ndarray:
    """A random field on the lattice, standard deviation 1, that varies over `length` mm."""
    coarse = max(length / 2, _LATTICE)
    side = int(np.ceil(2 * _REACH / coarse)) + 1
    field = ndimage.gaussian_filter(rng.standard_normal((side,) * 3).astype(np.float32), length / coarse / 2)
    fine = int(2 * _REACH / _LATTICE) + 1
    if fine != side:
        field = ndimage.zoom(field, fine / side, order=3)
    return (field - field.mean()) / field.std()
