"""Intensities as a network sees them: the same tissue at about the same value in every scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.body import is_ct
from SSLFewShotLib.imaging.volume import Volume


def modality_of(volume: Volume) -> str:
    """The scan's modality: what its file says, else "CT" when it holds Hounsfield units, else "MR"."""
    return volume.modality or ("CT" if is_ct(volume) else "MR")


@dataclass(frozen=True)
class Scale:
    """From voxel values to network input: clipped to [low, high], less `centre`, over `spread`."""

    low: float = -np.inf
    high: float = np.inf
    centre: float = 0.0
    spread: float = 1.0

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Values of any shape to float32 of the same."""
        return ((np.clip(array, self.low, self.high) - self.centre) / self.spread).astype(np.float32)


AS_IT_IS = Scale()


@dataclass(frozen=True)
class Intensity:
    """How voxel values become network input.

    kind "window": clipped to [low, high] (HU) and mapped to [-1, 1], for CT, where values mean something.
    kind "zscore": clipped to the 0.5 and 99.5 percentile inside the body, minus the mean, over the
        standard deviation inside the body; for every other modality. (The paper's code takes the z-score over the
        whole volume, which then depends on how much air the scan holds.)
    """

    kind: str = "zscore"
    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("window", "zscore"):
            raise InputError(f"intensity '{self.kind}': 'window' or 'zscore' was expected")
        if self.kind == "window" and not self.low < self.high:
            raise InputError(f"intensity window from {self.low} to {self.high}: the first must be the lower one")

    @classmethod
    def for_modality(cls, modality: str) -> Intensity:
        """The habit for a modality: a soft-tissue-to-bone window for CT, z-score for the rest."""
        return cls("window", -500.0, 1000.0) if modality == "CT" else cls("zscore")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Intensity:
        """Read what a model card says."""
        return cls(values["kind"], float(values.get("low", 0.0)), float(values.get("high", 0.0)))

    def to_dict(self) -> dict[str, Any]:
        """What a model card says."""
        return (
            {"kind": self.kind, "low": self.low, "high": self.high}
            if self.kind == "window"
            else {"kind": self.kind}
        )

    def scale(self, array: np.ndarray, body: np.ndarray) -> Scale:
        """What holds for a scan of (K, J, I) values with this body mask."""
        if self.kind == "window":
            return Scale(self.low, self.high, (self.low + self.high) / 2, (self.high - self.low) / 2)
        inside = array[body] if body.any() else array.ravel()
        low, high = (float(value) for value in np.percentile(inside, [0.5, 99.5]))
        inside = np.clip(inside, low, high)
        # Rounding in a constant image is no contrast.
        spread = max(float(inside.std()), 1e-5 * max(abs(low), abs(high))) or 1.0
        return Scale(low, high, float(inside.mean()), spread)

    def apply(self, array: np.ndarray, body: np.ndarray) -> np.ndarray:
        """(K, J, I) values and body mask to (K, J, I) float32."""
        return self.scale(array, body)(array)
