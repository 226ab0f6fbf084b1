"""How far a patch reaches: in millimetres, or relative to the scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.volume import Volume

LARGE_BODY_UNIT = 120.0
"""mm a unit for scans of a trunk or head: a planar patch is then 96 mm wide (paper: about 117 × 97 × 9 mm)."""
SMALL_SCAN_UNIT = 0.75
"""For scans smaller than that (a cropped organ): a unit's share of the mean side."""


@dataclass(frozen=True)
class Extent:
    """The length of one unit, in which patch sizes and offsets are given.

    The paper (Blendowski et al. 2019, section 2.1) normalises every image axis to [-1, 1], so that one
    unit is half the scan's side: unit "normalised". That only makes sense for scans that are cropped
    alike; with unit "mm", one unit is `scale` millimetres along every axis, whatever the field of view. Unit
    "suited" is for models that were made for no size: what `suited_to` gives for the scan, and for all scans of a
    job what it gives for the first one (`settled`).
    """

    unit: str = "mm"
    scale: float = 120.0

    def __post_init__(self) -> None:
        if self.unit not in ("mm", "normalised", "suited"):
            raise InputError(f"extent unit '{self.unit}': 'mm', 'normalised' or 'suited' was expected")
        if not 0 < self.scale < 1e4:
            raise InputError(f"extent of {self.scale} mm a unit: a length between 0 and 10000 mm was expected")

    @classmethod
    def suited_to(cls, volume: Volume) -> Extent:
        """The unit for scans like this one: 120 mm, or 3/4 of the (geometric) mean side of a smaller scan."""
        corners = volume.corners()
        return cls("mm", _suited_mm(corners.max(axis=0) - corners.min(axis=0)))

    def settled(self, like: Volume) -> Extent:
        """The extent of a job whose first scan is `like`."""
        return Extent.suited_to(like) if self.unit == "suited" else self

    def unit_mm(self, side: np.ndarray) -> np.ndarray:
        """(3,) mm of one unit along L, P, S for a scan whose box has the `side` lengths (3,) mm."""
        if self.unit == "normalised":
            return np.asarray(side, dtype=np.float64) / 2
        return np.full(3, self.scale if self.unit == "mm" else _suited_mm(np.asarray(side)))


def _suited_mm(side: np.ndarray) -> float:
    """mm a unit for scans whose box has the `side` lengths (3,) mm, two digits."""
    mean = float(np.exp(np.log(side).mean()))
    return float(f"{min(LARGE_BODY_UNIT, SMALL_SCAN_UNIT * mean):.2g}")
