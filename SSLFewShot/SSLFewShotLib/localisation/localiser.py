"""The one interface of everything that finds an object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress


@dataclass(frozen=True)
class Profile:
    """What was measured slice by slice along one axis of the patient.

    axis: "L", "P" or "S"; positions: (N,) mm along it; values: (N,); what: in words.
    threshold: above it a slice shows the object; edges: (2,) mm, or None when nothing was found.
    """

    axis: str
    positions: np.ndarray
    values: np.ndarray
    threshold: float
    edges: tuple[float, float] | None
    what: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "axis": self.axis,
            "positions": np.round(self.positions, 3).tolist(),
            "values": np.round(self.values, 4).tolist(),
            "threshold": round(float(self.threshold), 4),
            "edges": None if self.edges is None else [round(float(edge), 3) for edge in self.edges],
            "what": self.what,
        }


@dataclass(frozen=True)
class Part:
    """One of several things that were looked for: its box, None when it was not found, and why or what to mind."""

    name: str
    box: Box | None
    certainty: float
    reason: str = ""


@dataclass(frozen=True)
class Location:
    """What was found in a scan.

    box: None when nothing was found; certainty: 0..1; reason: a sentence, why nothing was found or what to mind.
    """

    box: Box | None
    certainty: float
    reason: str = ""
    parts: Sequence[Part] = ()
    profiles: Sequence[Profile] = ()


class Localiser(ABC):
    """scikit-learn's habit: the constructor takes settings, `fit` takes data, fitted attributes end in "_".

    margin: mm that a box of this method is to be grown by, unless the user says otherwise.
    """

    name: str
    margin: float = 0.0

    @abstractmethod
    def fit(self, data: Any, progress: Progress = ignore_progress) -> Localiser:
        """Learn from a `SupportSet` (method "support") or from unmarked scans (the others); returns self."""

    @abstractmethod
    def locate(self, volume: Volume, progress: Progress = ignore_progress) -> Location:
        """Find the object; the box is in LPS mm. Never a made-up box: what is not there is not found."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """What a report says of this localiser: method, model, settings."""


def emptiness(volume: Volume) -> str:
    """Why there is nothing to be found in a scan, as a sentence; "" when there may be something."""
    if volume.array.size == 0 or volume.array.min() == volume.array.max():
        return "not found: the scan is empty (all of its voxels are the same)"
    return ""
