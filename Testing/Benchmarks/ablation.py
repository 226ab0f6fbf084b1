"""What each part of the default method is worth: mean Dice with it left out, one row a part.

Every support alone segments every query, once with the settings of `AlignedSegmenter` and once without each part.

    python Testing/Benchmarks/ablation.py --data FOLDER --supports IDS --queries IDS [--model NAME]

FOLDER holds labelled scans (head-neck-ct/labelled). About half a minute a pair on one core.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from SSLFewShotLib.errors import InputWarning
from SSLFewShotLib.evaluation.metrics import dice
from SSLFewShotLib.imaging.cases import find_cases, read_case, select_cases
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.segmentation.choice import make_segmenter

LEFT_OUT = {
    "nothing": {},
    "the fine structure (MIND-SSC) beside the descriptors": {"structure": 0.0},
    "the vote of the nearest neighbours": {"vote": 0.0},
    "the vote of the places around": {"local": 0.0},
    "smoothing of what is carried, by a structure's thickness": {"smoothing": 0.0},
    "intensities that tell a structure from its surroundings": {"appearance": 0.0},
    "keeping the volume that was carried": {"volume": 0.0},
    "the gradient descent": {"steps": 0},
    "the gradient descent, and half the reach of the search": {"steps": 0, "reach": 1},
    "the place in the body": {"spatial_weight": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--supports", required=True)
    parser.add_argument("--queries", required=True)
    parser.add_argument("--model")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    cases = find_cases(arguments.data)
    queries = [read_case(case) for case in select_cases(cases, arguments.queries.split(","))]
    found = {part: [] for part in LEFT_OUT}
    for case in select_cases(cases, arguments.supports.split(",")):
        marked = read_case(case)
        for part, settings in LEFT_OUT.items():
            segmenter = make_segmenter("aligned", arguments.model, marked[0], **settings).fit(SupportSet([marked]))
            found[part] += [mean_dice(segmenter.predict(volume)[0], truth) for volume, truth in queries]
    print(f"Mean Dice, {len(found['nothing'])} pairs.\n\n| left out | Dice |\n| --- | --- |")
    for part, values in found.items():
        print(f"| {part} | {np.mean(values):.3f} |")


def mean_dice(found: LabelMap, truth: LabelMap) -> float:
    """Over the structures of the truth."""
    known = {segment.name for segment in found.segments}
    return float(
        np.mean([dice(found.mask(s.name), truth.mask(s.name)) if s.name in known else 0.0 for s in truth.segments])
    )


if __name__ == "__main__":
    main()
