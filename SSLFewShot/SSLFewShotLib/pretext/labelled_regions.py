"""The structures of labelled scans as the regions of episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.cases import Case
from SSLFewShotLib.imaging.files import read_labels, read_volume
from SSLFewShotLib.imaging.resampling import labels_on_grid, resample
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.sampling.preparation import PreparedScan


class LabelledRegions:
    """Numbers structures by their names, over all cases; a prepared scan is told by the name of its image."""

    def __init__(self, cases: Sequence[Case]):
        self.cases = {_name_once_read(case): case for case in cases}
        self.numbers: dict[str, int] = {}
        for case in cases:
            for segment in read_labels(case.labels).segments:
                self.numbers.setdefault(segment.name, len(self.numbers) + 1)

    def __call__(self, scan: PreparedScan) -> np.ndarray:
        """(K, J, I) int32 on the scan's grid: 0, or the number of the structure that covers a voxel's middle.

        Raises InputError when nothing is marked there.
        """
        case = self.cases[scan.name]
        labels = labels_on_grid(read_labels(case.labels), read_volume(case.image))
        found = np.zeros(scan.body.shape, np.int32)
        matrix = np.diag([*scan.spacing, 1.0])
        matrix[:3, 3] = scan.origin
        grid = Volume(np.broadcast_to(np.int8(0), scan.body.shape), matrix, scan.name)
        for segment in labels.segments:
            mask = Volume(labels.mask(segment).astype(np.uint8), labels.ijkToLps, scan.name)
            found[resample(mask, grid, order=0, fill=0).array > 0] = self.numbers[segment.name]
        if not found.any():
            raise InputError(f"{case.labels}: no foreground; mark at least one structure, or leave the case out")
        return found


def _name_once_read(case: Case) -> str:
    """What a case's scan is called once it is read."""
    return read_volume(case.image).name
