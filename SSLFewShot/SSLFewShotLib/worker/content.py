"""What a scan, its labels or a support holds, as one number: by content, whatever the file is called."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion


def content_of(volume: Volume, progress: Progress = ignore_progress) -> str:
    """SHA-256 (hex) of voxels, their type, geometry and modality; of labels, also of their segments."""
    sha = hashlib.sha256()
    facts = {
        "shape": volume.array.shape,
        "type": volume.array.dtype.newbyteorder("<").str,
        "modality": volume.modality,
        "segments": None,
    }
    if isinstance(volume, LabelMap):
        facts["segments"] = [
            [s.value, s.name, [float(c) for c in s.colour], s.terminology, sorted(s.tags.items())]
            for s in volume.segments
        ]
        facts["layers"] = sorted(volume.layers.items())
    sha.update(json.dumps(facts).encode())
    sha.update((volume.ijkToLps + 0.0).astype("<f8").tobytes())  # -0.0 is 0.0
    little = volume.array.dtype.newbyteorder("<")
    for number, plane in enumerate(volume.array):
        progress(number / len(volume.array), f"looking at {volume.name}")
        sha.update(np.ascontiguousarray(plane, little).data)
    return sha.hexdigest()


def content_of_support(support: SupportSet, progress: Progress = ignore_progress) -> str:
    """SHA-256 (hex) of all scans and labels of a support, and of which segments are wanted."""
    sha = hashlib.sha256(json.dumps([segment.name for segment in support.segments]).encode())
    for number, (volume, labels) in enumerate(support):
        part = portion(progress, number / len(support), (number + 1) / len(support))
        sha.update(content_of(volume, portion(part, 0.0, 0.7)).encode())
        sha.update(content_of(labels, portion(part, 0.7, 1.0)).encode())
    return sha.hexdigest()
