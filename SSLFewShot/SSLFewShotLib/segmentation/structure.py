"""The fine structure of a scan, compared beside dense descriptors where scans are aligned.

A dense descriptor tells a place from all others of a body, but is smooth. Where borders run, self-similarities say
(MIND-SSC), whatever the contrast; ConvexAdam (Siebert, Hansen, Heinrich 2024, section III-A) aligns by them alone.
"""

from __future__ import annotations

import numpy as np
import torch

from SSLFewShotLib.descriptors.mind import mind_ssc
from SSLFewShotLib.progress import Progress, ignore_progress
from SSLFewShotLib.sampling.preparation import PreparedScan

FINEST = 2.5
"""mm between voxels: on finer grids noise hides more than there is to see (measured, README)."""
_RANGE = (20, 90)
"""Percentiles inside the body to which values are clipped: beside bone and air, soft tissues all look the same."""


def fine_structure(scan: PreparedScan, progress: Progress = ignore_progress) -> torch.Tensor:
    """(12, K, J, I) MIND-SSC of a prepared scan about 0, of length 1 on average; a vector together in memory."""
    inside = scan.values[scan.body] if scan.body.any() else scan.values
    low, high = (float(value) for value in np.percentile(inside.numpy(), _RANGE))
    found = mind_ssc(scan.values.clamp(low, high), progress=progress)
    return (found.movedim(0, -1).contiguous() - 0.5).movedim(-1, 0)
