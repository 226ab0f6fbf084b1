"""The scans that a pretraining draws from, read and prepared as they are needed."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.files import read_volume
from SSLFewShotLib.progress import Progress, ignore_progress
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.preparation import Preparation, PreparedScan


class ScanPool:
    """Prepared scans, kept in memory up to `memory_limit` bytes; the least recently used goes first.

    A scan that cannot be read is named once in an `InputWarning` and left out from then on; `skipped` lists
    them. What is drawn depends on the generator and the files alone, so that a resumed run draws the same.
    """

    def __init__(self, paths: Sequence[Path], preparation: Preparation, memory_limit: int = 2 << 30):
        self.paths = list(paths)
        self.preparation = preparation
        self.memory_limit = memory_limit
        self.skipped: dict[Path, str] = {}
        self._kept: OrderedDict[Path, PreparedScan] = OrderedDict()

    def draw(
        self,
        count: int,
        rng: np.random.Generator,
        device: torch.device | str = "cpu",
        progress: Progress = ignore_progress,
    ) -> ScanBatch:
        """Return `count` different scans, or all when there are fewer.

        Raises InputError when not one can be read.
        """
        scans: list[PreparedScan] = []
        for number in rng.permutation(len(self.paths)):
            path = self.paths[number]
            if path not in self._kept and path not in self.skipped:
                progress(len(scans) / count, f"reading {path.name}")
            scan = self.get(path)
            if scan is not None:
                scans.append(scan)
            if len(scans) == count:
                break
        if not scans:
            reasons = "; ".join(list(self.skipped.values())[:3])
            raise InputError(f"none of the {len(self.paths)} scans can be read: {reasons}")
        return ScanBatch(scans, device)

    def get(self, path: Path) -> PreparedScan | None:
        """The prepared scan, or None when it cannot be read."""
        if path in self.skipped:
            return None
        if path not in self._kept:
            try:
                prepared = self.preparation(read_volume(path))
            except InputError as error:
                self.skipped[path] = str(error)
                warnings.warn(f"skipped: {error}", InputWarning, stacklevel=2)
                return None
            self._kept[path] = prepared
        self._kept.move_to_end(path)
        while len(self._kept) > 1 and sum(scan.nbytes for scan in self._kept.values()) > self.memory_limit:
            self._kept.popitem(last=False)
        return self._kept[path]
