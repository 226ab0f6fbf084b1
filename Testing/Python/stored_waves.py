"""One smooth object in LPS mm, stored on any grid."""

import numpy as np
from scipy.spatial.transform import Rotation
from SSLFewShotLib.imaging import Volume


def waves(points: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(np.asarray(points), -1, 0)
    return 0.4 * np.sin(x / 17 + 0.3) + 0.3 * np.cos(y / 13 - z / 31) + 0.2 * np.sin((x + 2 * z) / 23)


def storages() -> dict[str, np.ndarray]:
    """3 × 3 matrices of columns of about 2 mm, by what is unusual about them."""
    turned = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix()
    sheared = np.eye(3)
    sheared[1, 2] = 0.3
    return {
        "axial": np.diag([2.0, 2.0, 2.0]),
        "flipped": np.diag([-2.0, 2.0, -2.0]),
        "permuted": np.array([[0, 0, 2.0], [2.0, 0, 0], [0, -2.0, 0]]),
        "anisotropic": np.diag([1.5, 2.0, 3.0]),
        "oblique": turned * [2.0, 1.8, 2.2],
        "sheared": turned @ sheared * [2.0, 2.0, 2.4],
    }


def stored(name: str, function=waves, centre=(13.0, -40.0, 71.0), reach: float = 56.0) -> Volume:
    """`function` on a grid around `centre` (LPS mm) that covers about ± `reach` mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = storages()[name]
    size = np.ceil(2 * reach / np.linalg.norm(matrix[:3, :3], axis=0)).astype(int)
    matrix[:3, 3] = np.array(centre) - matrix[:3, :3] @ ((size - 1) / 2)
    ijk = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1)
    points = ijk @ matrix[:3, :3].T + matrix[:3, 3]
    return Volume(function(points).transpose(2, 1, 0).astype(np.float32), matrix, name)
