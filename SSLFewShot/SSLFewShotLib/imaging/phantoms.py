"""Synthetic cohorts: torsos with labelled organs, so that everything runs without any data.

No model of acquisition, only what a segmentation method has to cope with: anatomy that varies between patients,
organs that grey values alone do not tell apart, paired organs, a thin one, noise, two modalities, any geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.labelmap import LabelMap, Segment
from SSLFewShotLib.imaging.phantom_anatomy import Patient, Tissue
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.outputs import refuse_existing
from SSLFewShotLib.progress import Progress, ignore_progress

_FIELD_OF_VIEW = np.array([400.0, 300.0, 360.0])  # mm along i, j, k when no spacing is given

# Mean grey value, and amplitude of the texture, of each tissue. CT in HU; MR in scanner units, T1-weighted.
_CT = {
    Tissue.AIR: (-1000, 0), Tissue.FAT: (-100, 10), Tissue.MUSCLE: (52, 12), Tissue.LUNG: (-830, 35),
    Tissue.BONE: (520, 90), Tissue.MARROW: (210, 45), Tissue.DISC: (75, 10), Tissue.CSF: (12, 4),
    Tissue.CORD: (42, 4), Tissue.BLOOD: (135, 6), Tissue.HEART: (105, 14), Tissue.LIVER: (92, 9),
    Tissue.SPLEEN: (104, 9), Tissue.STOMACH: (30, 14), Tissue.KIDNEY: (150, 10), Tissue.MEDULLA: (118, 10),
    Tissue.BOWEL: (38, 26), Tissue.GAS: (-850, 40), Tissue.TABLE: (-80, 30), Tissue.VESSEL: (128, 8),
    Tissue.SKIN: (20, 10),
}  # fmt: skip
_MR = {
    Tissue.AIR: (0, 0), Tissue.FAT: (880, 40), Tissue.MUSCLE: (330, 30), Tissue.LUNG: (40, 15),
    Tissue.BONE: (90, 30), Tissue.MARROW: (610, 60), Tissue.DISC: (300, 20), Tissue.CSF: (120, 10),
    Tissue.CORD: (430, 15), Tissue.BLOOD: (110, 25), Tissue.HEART: (300, 60), Tissue.LIVER: (490, 25),
    Tissue.SPLEEN: (345, 20), Tissue.STOMACH: (230, 50), Tissue.KIDNEY: (450, 25), Tissue.MEDULLA: (330, 25),
    Tissue.BOWEL: (270, 80), Tissue.GAS: (15, 10), Tissue.TABLE: (0, 0), Tissue.VESSEL: (140, 25),
    Tissue.SKIN: (350, 40),
}  # fmt: skip


def _entry(code: str, meaning: str, modifier: str = "^^") -> str:
    """Slicer's serialised terminology entry for an anatomical structure."""
    return (
        "Segmentation category and type - 3D Slicer General Anatomy list"
        f"~SCT^123037004^Anatomical Structure~SCT^{code}^{meaning}~{modifier}"
        "~Anatomic codes - DICOM master list~^^~^^"
    )


_SEGMENTS = (
    Segment(1, "Liver", (0.80, 0.36, 0.22), _entry("10200004", "Liver")),
    Segment(2, "Spleen", (0.62, 0.36, 0.80), _entry("78961009", "Spleen")),
    Segment(3, "Stomach", (0.97, 0.68, 0.20), _entry("69695003", "Stomach")),
    Segment(4, "LeftKidney", (0.20, 0.62, 0.94), _entry("64033007", "Kidney", "SCT^7771000^Left")),
    Segment(5, "RightKidney", (0.18, 0.78, 0.52), _entry("64033007", "Kidney", "SCT^24028007^Right")),
    Segment(6, "Aorta", (0.92, 0.16, 0.22), _entry("15825003", "Aorta")),
    Segment(7, "SpinalCord", (0.98, 0.92, 0.30), _entry("2748008", "Spinal cord")),
)


def phantom(
    seed: int | Sequence[int],
    modality: str = "CT",
    size: tuple[int, int, int] = (96, 80, 72),
    spacing: tuple[float, float, float] | None = None,
    geometry: str = "axial",
    name: str = "phantom",
) -> tuple[Volume, LabelMap]:
    """One synthetic patient.

    seed: decides the patient; the same seed in another modality or on another grid is the same anatomy.
    modality: "CT" (int16 HU, with a table below the patient) or "MR" (uint16, T1-like contrast, bias field,
        Rician noise).
    size, spacing: voxels and mm along i, j, k; spacing None covers 400 × 300 × 360 mm.
    geometry: "axial"; "oblique" (a rotation of up to 25 degrees and randomly flipped axes, drawn for each
        patient) or "sheared" (the same with a gantry tilt, so that the axes are not at right angles).

    Returns the volume and, on the same grid, its labels: Liver, Spleen, Stomach, LeftKidney, RightKidney, Aorta
    and SpinalCord, with the same values, colours and terminology for every patient. Raises InputError for an
    unknown modality or geometry, and for a size below 1.
    """
    if modality not in ("CT", "MR"):
        raise InputError(f'{name}: the modality of a phantom is "CT" or "MR", not "{modality}"')
    if min(size) < 1 or (spacing is not None and not min(spacing) > 0):
        raise InputError(f"{name}: sizes of at least 1 and spacings above 0 were expected, not {size}, {spacing}")
    patient = Patient(np.random.default_rng(seed))
    rng = np.random.default_rng([*np.atleast_1d(seed), ("CT", "MR").index(modality), 1])
    grid = _grid(size, spacing, geometry, patient.centre, np.random.default_rng([*np.atleast_1d(seed), 2]), name)
    points = _points(grid)
    tissue, organs = patient.tissues(points)
    if modality == "CT":
        tissue[_table(points - patient.centre) & (tissue == Tissue.AIR)] = Tissue.TABLE
    image = _ct(tissue, rng) if modality == "CT" else _mr(tissue, rng)
    labels = np.zeros(tissue.shape, np.uint8)
    for segment in _SEGMENTS:
        labels[organs[segment.name]] = segment.value
    volume = Volume(image, grid.ijkToLps, f"{name}_{modality.lower()}", modality)
    return volume, LabelMap(labels, grid.ijkToLps, name, segments=list(_SEGMENTS))


def phantom_cohort(
    count: int,
    seed: int = 0,
    modality: str = "CT",
    size: tuple[int, int, int] = (96, 80, 72),
    spacing: tuple[float, float, float] | None = None,
    geometry: str = "axial",
    progress: Progress = ignore_progress,
) -> list[tuple[Volume, LabelMap]]:
    """`count` different patients, `phantom_000` and so on; the arguments are those of `phantom`."""
    cohort = []
    for index in range(count):
        progress(index / count, f"phantom {index + 1} of {count}")
        cohort.append(phantom((seed, index), modality, size, spacing, geometry, f"phantom_{index:03d}"))
    return cohort


def write_cohort(
    folder: str | Path,
    count: int,
    labelled: int | None = None,
    seed: int = 0,
    modality: str = "CT",
    size: tuple[int, int, int] = (96, 80, 72),
    spacing: tuple[float, float, float] | None = None,
    geometry: str = "axial",
    overwrite: bool = False,
    progress: Progress = ignore_progress,
) -> list[Path]:
    """Write a cohort as `phantom_000_ct.nrrd` (or `_mr`) and, for the labelled ones, `phantom_000.seg.nrrd`.

    labelled: how many patients get labels, the first ones; all when None. The rest as in `phantom`.

    Returns the paths of the images. Raises InputError, before anything is written, when a file exists and
    `overwrite` is not set.
    """
    # Only who writes needs the file formats.
    from SSLFewShotLib.imaging.files import write_labels, write_volume

    folder = Path(folder)
    names = [f"phantom_{index:03d}" for index in range(count)]
    images = [folder / f"{name}_{modality.lower()}.nrrd" for name in names]
    segmentations = [folder / f"{name}.seg.nrrd" for name in names[: count if labelled is None else labelled]]
    for path in (*images, *segmentations):
        refuse_existing(path, overwrite)
    for index, (name, path) in enumerate(zip(names, images, strict=True)):
        progress(index / count, f"phantom {index + 1} of {count}")
        volume, labels = phantom((seed, index), modality, size, spacing, geometry, name)
        write_volume(volume, path, overwrite=overwrite)
        if index < len(segmentations):
            write_labels(labels, segmentations[index], overwrite=overwrite)
    return images


def _grid(size, spacing, geometry: str, centre: np.ndarray, rng: np.random.Generator, name: str) -> Volume:
    """An empty grid around the patient; `array` is a view of one number."""
    spacing = _FIELD_OF_VIEW / size if spacing is None else np.array(spacing, dtype=np.float64)
    matrix = np.eye(4)
    if geometry in ("oblique", "sheared"):
        axis = rng.standard_normal(3)
        angle = np.radians(rng.uniform(8, 25))
        matrix[:3, :3] = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
        matrix[:3, :3] *= rng.choice([-1, 1], 3)
        if geometry == "sheared":
            shear = np.eye(3)
            shear[:, 2] += [rng.uniform(-0.1, 0.1), rng.choice([-1, 1]) * rng.uniform(0.15, 0.35), 0]
            matrix[:3, :3] = matrix[:3, :3] @ shear
    elif geometry != "axial":
        raise InputError(f'{name}: the geometry is "axial", "oblique" or "sheared", not "{geometry}"')
    matrix[:3, :3] *= spacing
    # The field of view is set up around each patient as in a clinic: nearly, not exactly, in the middle.
    middle = centre + rng.normal(0, [4, 4, 10])
    matrix[:3, 3] = middle - matrix[:3, :3] @ ((np.array(size) - 1) / 2)
    return Volume(np.broadcast_to(np.uint8(0), tuple(size)[::-1]), matrix, name)


def _points(grid: Volume) -> np.ndarray:
    """(K, J, I, 3) LPS mm of all voxel centres."""
    columns = grid.ijkToLps[:3, :3].T
    i, j, k = (np.arange(n)[:, None] * column for n, column in zip(grid.size, columns, strict=True))
    return k[:, None, None] + j[:, None] + i + grid.origin


def _table(points: np.ndarray) -> np.ndarray:
    """A curved board under a patient in the origin."""
    x, y = points[..., 0], points[..., 1]
    return (np.abs(y - 131 + 0.0009 * x * x) < 5) & (np.abs(x) < 185)


def _grey_values(tissue: np.ndarray, table: dict, rng: np.random.Generator, spread: float) -> np.ndarray:
    """Mean and soft texture of each tissue, with a little partial volume between them."""
    # A patient's own enhancement and relaxation times: each tissue a bit off, independently of the others.
    means = np.array([table[kind][0] for kind in Tissue], np.float32)
    means += (means > table[Tissue.AIR][0]) * rng.normal(0, spread, len(means)).astype(np.float32)
    amplitudes = np.array([table[kind][1] for kind in Tissue], np.float32)
    texture = ndimage.gaussian_filter(rng.standard_normal(tissue.shape, np.float32), 1.0)
    image = ndimage.gaussian_filter(means[tissue], 0.45)
    return image + amplitudes[tissue] * texture / max(float(texture.std()), 1e-6)


def _ct(tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = _grey_values(tissue, _CT, rng, spread=6)
    image += rng.normal(0, rng.uniform(10, 18)) + 14 * rng.standard_normal(tissue.shape, np.float32)
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)


def _mr(tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = _grey_values(tissue, _MR, rng, spread=15)
    # The bias of a receive coil: a product of one slow curve an axis, +- 30 %.
    for axis, n in enumerate(tissue.shape):
        position = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
        curve = 1 + rng.uniform(-0.15, 0.15) * position + rng.uniform(-0.12, 0.05) * position**2
        image *= curve.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    noise = rng.standard_normal((2, *tissue.shape), np.float32) * 22
    gain = rng.uniform(0.7, 1.6)  # scanner units mean nothing in MR
    return np.rint(gain * np.hypot(image + noise[0], noise[1])).astype(np.uint16)
