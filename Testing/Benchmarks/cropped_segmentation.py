"""Segmentation of scans that show much more than the support: cropped to the support's region first, or not.

CTs of head and neck are put into a larger field of view (see localisation.py: 20 to 60 % of a side more at each
side, on a made table) and segmented from one marked scan, with `crop` "never" and "auto". For each structure, over
all scans: Dice both ways, and the share of its voxels beyond the crop, lost whatever the method; for each
scan how many times as large as the support's it is, what the crop leaves of it, and the time.

    python Testing/Benchmarks/cropped_segmentation.py --data FOLDER [--support ID] [--queries IDS]
        [--method knn] [--model gvdiff]

FOLDER holds labelled scans (head-neck-ct/labelled). One to a few minutes a scan.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from localisation import in_larger_field
from SSLFewShotLib.errors import InputWarning
from SSLFewShotLib.evaluation.metrics import dice
from SSLFewShotLib.imaging.body import body_mask
from SSLFewShotLib.imaging.cases import find_cases, read_case, select_cases
from SSLFewShotLib.imaging.crop import crop_range
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.segmentation.choice import make_segmenter
from SSLFewShotLib.segmentation.cropping import predict_cropped

CROPS = ("never", "auto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--support", default="013")
    parser.add_argument("--queries", default="017,022,031")
    parser.add_argument("--method", default="knn")
    parser.add_argument("--model", default="gvdiff")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    cases = find_cases(arguments.data)
    (marked,) = (read_case(case) for case in select_cases(cases, [arguments.support]))
    support = SupportSet([marked])
    segmenter = make_segmenter(arguments.method, arguments.model, marked[0]).fit(support)
    dices: dict[str, dict[str, list[float]]] = {}
    lost: dict[str, list[float]] = {}
    print("| scan | times the support | seconds, never / auto | kept of the scan, % |\n| --- | --- | --- | --- |")
    for number, case in enumerate(select_cases(cases, arguments.queries.split(","))):
        volume, labels = in_larger_scan(*read_case(case), np.random.default_rng(number))
        seconds, part = [], None
        for how in CROPS:
            started = time.monotonic()
            found, _, box = predict_cropped(segmenter, support, volume, how)
            seconds.append(f"{time.monotonic() - started:.0f}")
            part = part if box is None else crop_range(volume, box)
            for segment in labels.segments:
                truth = labels.mask(segment)
                if truth.any():
                    values = dices.setdefault(segment.name, {name: [] for name in CROPS})
                    values[how].append(dice(truth, found.array == segment.value))
        for segment in labels.segments:
            truth = labels.mask(segment)
            if truth.any():
                inside = truth if part is None else truth[part.slices]
                lost.setdefault(segment.name, []).append(1 - inside.sum() / truth.sum())
        times = size_of(volume) / size_of(marked[0])
        kept = 100 if part is None else 100 * np.prod(part.size) / np.prod(volume.size)
        print(f"| {case.id} | {times:.1f} | {' / '.join(seconds)} | {kept:.0f} |", flush=True)
    print("\n| structure | Dice, never | Dice, auto | voxels beyond the crop, % |\n| --- | --- | --- | --- |")
    for name, values in dices.items():
        means = " | ".join(f"{np.mean(values[how]):.3f}" for how in CROPS)
        print(f"| {name} | {means} | {100 * np.mean(lost[name]):.2f} |")
    means = " | ".join(f"{np.mean([np.mean(values[how]) for values in dices.values()]):.3f}" for how in CROPS)
    print(f"| all | {means} | {100 * np.mean([np.mean(shares) for shares in lost.values()]):.2f} |")


def in_larger_scan(volume: Volume, labels: LabelMap, rng: np.random.Generator) -> tuple[Volume, LabelMap]:
    """A scan and its labels in the same larger field of view."""
    field = in_larger_field(volume, body_mask(volume), rng)
    first = np.round(field.indices_from_points(volume.origin[None])[0]).astype(int)[::-1]
    array = np.zeros(field.array.shape, labels.array.dtype)
    array[tuple(slice(f, f + n) for f, n in zip(first, labels.array.shape, strict=True))] = labels.array
    return field, LabelMap(array, field.ijkToLps, labels.name, segments=list(labels.segments))


def size_of(volume: Volume) -> float:
    """mm³ that a scan shows."""
    return float(np.prod(volume.spacing * volume.size))


if __name__ == "__main__":
    main()
