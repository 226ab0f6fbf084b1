"""`Box`: where something is, as a box in physical space along any three axes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.volume import Volume


@dataclass(frozen=True)
class Box:
    """A box in LPS millimetres.

    centre: (3,) LPS mm; size: (3,) mm, the lengths of its edges along its axes.
    axes: (3, 3) orthonormal columns, right-handed; a left-handed set gets its last axis turned round, which is the
        same box.
    certainty: 0..1, how sure it is that the thing is there.

    Raises InputError for values that are not finite, sizes that are not above 0 and axes that are not orthonormal.
    """

    centre: np.ndarray
    size: np.ndarray
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))
    name: str = "box"
    certainty: float = 1.0

    def __post_init__(self) -> None:
        try:
            centre = np.array(self.centre, dtype=np.float64).reshape(3)
            size = np.array(self.size, dtype=np.float64).reshape(3)
            axes = np.array(self.axes, dtype=np.float64).reshape(3, 3)
        except (TypeError, ValueError):
            raise InputError(f"{self.name}: a centre, a size and axes of three numbers were expected") from None
        if not (np.isfinite(centre).all() and np.isfinite(size).all() and np.isfinite(axes).all()):
            raise InputError(f"{self.name}: a box of finite numbers was expected")
        if not (size > 0).all():
            raise InputError(f"{self.name}: a box with edges above 0 mm was expected, not {size.tolist()}")
        if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
            raise InputError(f"{self.name}: the axes of a box must be at right angles and of length 1")
        if np.linalg.det(axes) < 0:
            axes[:, 2] *= -1
        for name, value in (("centre", centre), ("size", size), ("axes", axes)):
            object.__setattr__(self, name, value)

    @classmethod
    def around(cls, points: np.ndarray, axes: np.ndarray | None = None, **kwargs: Any) -> Box:
        """The smallest box along `axes` (those of the patient when left out) that holds (N, 3) LPS mm."""
        axes = np.eye(3) if axes is None else np.asarray(axes, dtype=np.float64)
        along = np.asarray(points, dtype=np.float64) @ axes
        low, high = along.min(axis=0), along.max(axis=0)
        return cls(axes @ ((low + high) / 2), np.maximum(high - low, 1e-6), axes, **kwargs)

    @classmethod
    def of_grid(cls, volume: Volume, first: Any = (0, 0, 0), size: Any = None, **kwargs: Any) -> Box:
        """The box around the outer faces of voxels `first` to `first` + `size` − 1 (i, j, k) of a grid."""
        size = volume.size if size is None else size
        low = np.asarray(first, dtype=np.float64) - 0.5
        corners = np.array([low + np.asarray(size) * bits for bits in np.ndindex(2, 2, 2)])
        return cls.around(volume.points_from_indices(corners), grid_axes(volume), **kwargs)

    @classmethod
    def from_dict(cls, values: Any, name: str = "box") -> Box:
        """Read what `to_dict` gives. Raises InputError for anything else."""
        if not isinstance(values, dict) or not {"centre", "size"} <= values.keys():
            raise InputError(f"{name}: a box with centre, size and axes was expected")
        try:
            axes = np.array(values.get("axes", np.eye(3)), dtype=np.float64).reshape(3, 3).T
            certainty = float(values.get("certainty", 1.0))
        except (TypeError, ValueError):
            raise InputError(f"{name}: a centre, a size and axes of three numbers were expected") from None
        return cls(values["centre"], values["size"], axes, str(values.get("name", name)), certainty)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; `axes` is a list of three unit vectors."""
        return {
            "name": self.name,
            "centre": np.round(self.centre, 4).tolist(),
            "size": np.round(self.size, 4).tolist(),
            "axes": np.round(self.axes.T, 9).tolist(),
            "certainty": round(float(self.certainty), 3),
        }

    @property
    def volume(self) -> float:
        """mm³."""
        return float(np.prod(self.size))

    def corners(self) -> np.ndarray:
        """(8, 3) LPS mm."""
        signs = np.array(list(np.ndindex(2, 2, 2))) - 0.5
        return self.centre + (signs * self.size) @ self.axes.T

    def grown(self, margin: float) -> Box:
        """The box with every face `margin` mm further out; a negative one shrinks it, to a point at most."""
        return replace(self, size=np.maximum(self.size + 2 * margin, 1e-6))

    def clipped(self, volume: Volume) -> Box | None:
        """The part of the box within a scan's outer faces, along the box's axes; None when there is none.

        Of a scan with other axes it is the part within the smallest box around the scan.
        """
        limits = volume.corners() @ self.axes
        middle = self.centre @ self.axes
        low = np.maximum(middle - self.size / 2, limits.min(axis=0))
        high = np.minimum(middle + self.size / 2, limits.max(axis=0))
        if not (high > low).all():
            return None
        return replace(self, centre=self.axes @ ((low + high) / 2), size=high - low)

    def holds(self, points: np.ndarray) -> np.ndarray:
        """(N,) bool: whether (N, 3) LPS mm lie in the box, its faces included."""
        return (np.abs((np.asarray(points) - self.centre) @ self.axes) <= self.size / 2 + 1e-6).all(axis=1)


def grid_axes(volume: Volume) -> np.ndarray:
    """(3, 3) orthonormal columns along a grid's axes i, j, k; for a sheared grid the nearest such ones."""
    left, _, right = np.linalg.svd(volume.direction)
    return left @ right
