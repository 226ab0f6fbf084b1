"""Synthetic scans for a pretraining, where a `ScanPool` has scans of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from SSLFewShotLib.progress import Progress, ignore_progress
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.synthetic import SyntheticScan


class SyntheticPool:
    """New scans with every draw.

    What is drawn depends on the generator alone, so that a resumed run draws the same.

    paths, skipped: empty, there are no files.
    """

    def __init__(self):
        self.paths: list[Path] = []
        self.skipped: dict[Path, str] = {}

    def draw(
        self,
        count: int,
        rng: np.random.Generator,
        device: torch.device | str = "cpu",
        progress: Progress = ignore_progress,
    ) -> ScanBatch:
        """Return `count` scans that were never seen before."""
        scans = []
        for number in range(count):
            progress(number / count, "drawing synthetic scans")
            scans.append(SyntheticScan.drawn(rng))
        return ScanBatch(scans, device)
