"""Supervoxels kept on disk by what they were made from, so that the next training does not make them again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np

from SSLFewShotLib.errors import OutputError
from SSLFewShotLib.models.store import application_folder
from SSLFewShotLib.outputs import written_atomically
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.supervoxels import SupervoxelGenerator

_MOST_BYTES = 1 << 30


def default_supervoxel_folder() -> Path:
    """Where supervoxels lie: SSLFEWSHOT_SUPERVOXELS, else in the platform's folder for application data."""
    return application_folder("SSLFEWSHOT_SUPERVOXELS", "supervoxels")


class KeptSupervoxels:
    """A generator whose results lie in `folder`, named by the content of the prepared scan and all settings.

    A file that is damaged is made again; a disk that cannot be written to only costs the time of the next run.
    Of files beyond `limit` bytes together those go first that have not been used for longest.
    """

    def __init__(self, generator: SupervoxelGenerator, folder: Path | None = None, limit: int = _MOST_BYTES):
        self.generator = generator
        self.folder = default_supervoxel_folder() if folder is None else Path(folder)
        self.limit = limit

    def __call__(self, scan: PreparedScan) -> np.ndarray:
        """(K, J, I) int32, see `SupervoxelGenerator`."""
        path = self.folder / f"{self.key(scan)}.npz"
        found = _read(path, tuple(scan.body.shape))
        if found is None:
            found = self.generator(scan)
            with contextlib.suppress(OutputError, OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                with written_atomically(path) as temporary, temporary.open("wb") as file:
                    np.savez_compressed(file, regions=found)
                self._make_room()
        return found

    def key(self, scan: PreparedScan) -> str:
        """SHA-256 of voxels, body, spacing, the generator's settings and the version of what computes them."""
        sha = hashlib.sha256()
        settings = {**self.generator.settings(), "scikit-image": metadata.version("scikit-image")}
        sha.update(json.dumps([settings, list(scan.body.shape), list(scan.spacing)], sort_keys=True).encode())
        for part in (scan.values, scan.body):
            sha.update(np.ascontiguousarray(part.numpy()).data)
        return sha.hexdigest()

    def _make_room(self) -> None:
        files = [(path.stat(), path) for path in self.folder.glob("*.npz")]
        total = sum(status.st_size for status, _ in files)
        for status, path in sorted(files, key=lambda file: file[0].st_mtime):
            if total <= self.limit:
                return
            path.unlink(missing_ok=True)
            total -= status.st_size


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """What a file holds; None when it is not there, damaged or of something else."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = archive["regions"]
        path.touch()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return found if found.shape == shape and found.dtype == np.int32 else None
