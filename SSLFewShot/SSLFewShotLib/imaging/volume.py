"""`Volume`: voxels together with where they are in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from SSLFewShotLib.errors import InputError


@dataclass
class Volume:
    """A 3D scalar image, or a 3D field of vectors, in physical space.

    array: (K, J, I), or (K, J, I, C) for a field of vectors; any numeric type.
    ijkToLps: (4, 4) float64; homogeneous voxel index (i, j, k, 1) to LPS millimetres. Any affine with
        a non-zero determinant: oblique, flipped, anisotropic, sheared.
    name: what messages call it (a file's or node's name).
    modality: "CT", "MR", … or "" when unknown.

    Raises InputError when the array is not 3D, is empty, or the matrix is not an invertible affine.
    """

    array: np.ndarray
    ijkToLps: np.ndarray
    name: str = "volume"
    modality: str = ""
    metadata: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.array = np.asarray(self.array)
        self.ijkToLps = np.array(self.ijkToLps, dtype=np.float64)
        if self.array.ndim not in (3, 4):
            raise InputError(f"{self.name}: a 3D image was expected, this one has {self.array.ndim} dimensions")
        if min(self.array.shape[:3]) < 1:
            raise InputError(f"{self.name}: the image is empty (size {self.size})")
        if self.ijkToLps.shape != (4, 4) or not np.isfinite(self.ijkToLps).all():
            raise InputError(f"{self.name}: the geometry is not a finite 4 × 4 matrix")
        if not np.array_equal(self.ijkToLps[3], [0, 0, 0, 1]) or abs(np.linalg.det(self.ijkToLps[:3, :3])) < 1e-12:
            raise InputError(f"{self.name}: the geometry is not an invertible affine (two axes are parallel)")

    @classmethod
    def from_spacing(
        cls,
        array: np.ndarray,
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
        direction: np.ndarray | None = None,
        **kwargs,
    ) -> Volume:
        """Build from ITK's description: spacing (i, j, k) mm, origin LPS mm, direction (3, 3) columns."""
        matrix = np.eye(4)
        matrix[:3, :3] = (np.eye(3) if direction is None else np.asarray(direction)) @ np.diag(spacing)
        matrix[:3, 3] = origin
        return cls(array, matrix, **kwargs)

    @property
    def size(self) -> tuple[int, int, int]:
        """Number of voxels along i, j, k (the reverse of the array's shape)."""
        return tuple(int(n) for n in self.array.shape[2::-1])

    @property
    def spacing(self) -> np.ndarray:
        """(3,) mm along i, j, k: the lengths of the matrix's columns."""
        return np.linalg.norm(self.ijkToLps[:3, :3], axis=0)

    @property
    def direction(self) -> np.ndarray:
        """(3, 3) unit columns; orthonormal unless the geometry is sheared."""
        return self.ijkToLps[:3, :3] / self.spacing

    @property
    def origin(self) -> np.ndarray:
        """(3,) LPS mm of voxel (0, 0, 0)."""
        return self.ijkToLps[:3, 3].copy()

    @property
    def lpsToIjk(self) -> np.ndarray:
        """(4, 4) inverse of `ijkToLps`."""
        return np.linalg.inv(self.ijkToLps)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³."""
        return float(abs(np.linalg.det(self.ijkToLps[:3, :3])))

    def points_from_indices(self, ijk: np.ndarray) -> np.ndarray:
        """(N, 3) indices (i, j, k), whole or not, to (N, 3) LPS mm."""
        return np.asarray(ijk, dtype=np.float64) @ self.ijkToLps[:3, :3].T + self.ijkToLps[:3, 3]

    def indices_from_points(self, lps: np.ndarray) -> np.ndarray:
        """(N, 3) LPS mm to (N, 3) continuous indices (i, j, k)."""
        inverse = self.lpsToIjk
        return np.asarray(lps, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def corners(self) -> np.ndarray:
        """(8, 3) LPS mm of the outer corners (voxel faces, not voxel centres)."""
        low, high = -0.5, np.array(self.size) - 0.5
        ijk = np.array([[(low, high[a])[bit] for a, bit in enumerate(bits)] for bits in np.ndindex(2, 2, 2)])
        return self.points_from_indices(ijk)

    def same_grid(self, other: Volume, tolerance: float = 1e-3) -> bool:
        """Whether the voxels of both coincide to within `tolerance` of a voxel at every corner."""
        if self.size != other.size:
            return False
        distance = np.abs(self.indices_from_points(other.corners()) - self.indices_from_points(self.corners()))
        return bool(distance.max() < tolerance)

    def with_array(self, array: np.ndarray, name: str | None = None) -> Volume:
        """The same grid with other voxels."""
        return Volume(
            array, self.ijkToLps, self.name if name is None else name, self.modality, dict(self.metadata)
        )
