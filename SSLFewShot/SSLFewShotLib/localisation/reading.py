"""As much of a scan as localising needs, also of one that does not fit into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.lazy import Scan, open_scan
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, portion

MOST_VOXELS = 1 << 27
"""Of a scan that is compared as it is; a larger one, 512 MB as floats, is by means over blocks of its voxels."""
MOST_IN_SLICES = 1 << 24
"""The same for the methods that look at slices of a hundred pixels or some more."""
MOST_TO_LEARN_FROM = 6
"""How many of the targets are clustered."""

_kept: dict[Path, tuple[Scan, Volume]] = {}


def read_scan(path: Path, method: str, progress: Progress) -> tuple[Scan, Volume]:
    """A scan, and as much of it as a method looks at; that of the last large one is kept until the job ends."""
    if path in _kept:
        return _kept[path]
    scan = open_scan(path, portion(progress, 0.0, 0.5))
    volume = scan.reduced(MOST_VOXELS if method == "support" else MOST_IN_SLICES, portion(progress, 0.5, 1.0))
    if scan.whole() is None:
        _kept.clear()
        _kept[path] = scan, volume
    return scan, volume


def some_of(targets: dict[str, Path], method: str, progress: Progress) -> list[Volume]:
    """Some of the scans, evenly spread, those that can be read. Raises InputError when there is none."""
    most = MOST_TO_LEARN_FROM if method == "clustering" else 1
    paths, errors, volumes = list(targets.values()), [], []
    chosen = {round(place) for place in np.linspace(0, len(paths) - 1, min(most, len(paths)))}
    for number in [*sorted(chosen), *(n for n in range(len(paths)) if n not in chosen)]:
        try:
            part = portion(progress, len(volumes) / most, (len(volumes) + 1) / most)
            volumes.append(read_scan(paths[number], method, part)[1])
        except InputError as error:
            errors.append(str(error))
        if len(volumes) == len(chosen):
            break
    if not volumes:
        more = f" (and none of the {len(paths)} scans can be used)" if len(paths) > 1 else ""
        raise InputError(errors[0] + more)
    return volumes


def forget_scans() -> None:
    """Let go what is kept."""
    _kept.clear()
