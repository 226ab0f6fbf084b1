"""Unlabelled scans that a network learns from too, with pseudo-labels: what an alignment gives them.

Lee, "Pseudo-label: the simple and efficient semi-supervised learning method for deep neural networks" (ICML
workshop on challenges in representation learning, 2013), whose labels are the network's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.files import read_volume, stem
from SSLFewShotLib.imaging.labelmap import LabelMap, Segment
from SSLFewShotLib.imaging.targets import named_targets
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion, renamed
from SSLFewShotLib.sampling.preparation import Preparation
from SSLFewShotLib.tuning.labelled import LabelledScan

MOST = 24
"""Scans that labels are carried to: each takes the time of a target."""
FEWEST = 4
"""Scans that are worth it: from fewer a network learns the mistakes of single alignments."""
_LEFT_OUT = 0.25
"""Share of the scans, those of which the carried labels are least certain, that nothing is learned from."""

Predict = Callable[[Volume, Progress], tuple[LabelMap, Volume]]


def chosen_scans(given: Sequence[Path | str], most: int = MOST) -> list[Path]:
    """Scans at or below the given paths, evenly over their names; none where there are too few.

    Raises InputError for a path where there is no scan.
    """
    found = list(named_targets([Path(one) for one in given]).values()) if given else []
    if len(found) < FEWEST:
        return []
    return [found[n] for n in np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int))]


def pseudo_labelled(
    paths: Sequence[Path],
    predict: Predict,
    segments: Sequence[Segment],
    preparation: Preparation,
    progress: Progress = ignore_progress,
) -> list[LabelledScan]:
    """Scans with the labels that `predict` gives them, without those that it is least sure of.

    predict: as of a fitted `Segmenter`; segments: numbered 1 to S; preparation: of the network that learns. Of
    each scan only what is prepared stays in memory. One that cannot be used, or shows nothing, is left out
    with a warning (InputWarning).
    """
    found: list[tuple[float, LabelledScan]] = []
    for number, path in enumerate(paths):
        part = portion(progress, number / len(paths), (number + 1) / len(paths))
        part(0.0, f"carrying labels to {stem(path)}")
        part = renamed(part, f"carrying labels to {stem(path)}")
        try:
            volume = read_volume(path)
            with warnings.catch_warnings():
                # They are said of the scan again when it is a target.
                warnings.simplefilter("ignore", InputWarning)
                labels, confidence = predict(volume, portion(part, 0.0, 0.9))
                scan = LabelledScan.prepared(
                    (volume, labels, None), segments, preparation, portion(part, 0.9, 1.0)
                )
        except InputError as error:
            warnings.warn(f"not learned from: {error}", InputWarning, stacklevel=3)
            continue
        marked = np.any([labels.mask(segment) for segment in labels.segments], axis=0)
        found.append((float(confidence.array[marked].mean()), scan))
    sure = sorted((one for one, _ in found), reverse=True)
    least = sure[max(0, int(len(sure) * (1 - _LEFT_OUT)) - 1)] if sure else 0.0
    return [scan for one, scan in found if one >= least]
