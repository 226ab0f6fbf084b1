"""What side prediction brings to the segmentation of a paired organ: the table of Dhere and Sivaswamy (ISBI 2021).

A network is fine-tuned on the supports' pair alone, from the model and from random weights for its network, and
segments the queries. Prints Dice, the Hausdorff distance (mm) and the difference in boundary length (%), the
perimeters of a mask summed over its axial slices, each as mean ± standard deviation over seeds, and draws the
convergence (their figure 5).

    python Testing/Benchmarks/side_prediction.py --data FOLDER --model NAME_OR_FOLDER --segments NAME,NAME
        --supports IDS --queries IDS [--iterations 300] [--seeds 3] --output convergence.png

FOLDER holds labelled scans (head-neck-ct/labelled). About five minutes a seed and start on one core.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import perimeter
from skimage.segmentation import find_boundaries
from SSLFewShotLib.errors import InputWarning
from SSLFewShotLib.evaluation.study_curves import draw_convergence
from SSLFewShotLib.imaging.cases import find_cases, read_case, select_cases
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.pretext.continuing import Beginning
from SSLFewShotLib.segmentation.finetune import FineTuneSegmenter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--model", "--segments", "--supports", "--queries"):
        parser.add_argument(name, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    names = arguments.segments.split(",")
    cases = find_cases(arguments.data)
    supports, queries = (
        [only(*read_case(case), names) for case in select_cases(cases, given.split(","))]
        for given in (arguments.supports, arguments.queries)
    )
    begun, curves = Beginning.read(arguments.model), []
    print("| | Dice | Hausdorff mm | boundary length % |\n| --- | --- | --- | --- |", flush=True)
    for title, scratch in (("with side prediction", False), ("without", True)):
        of_seeds = []
        for seed in range(arguments.seeds):
            fitted = FineTuneSegmenter(begun, iterations=arguments.iterations, scratch=scratch, seed=seed)
            fitted.fit(SupportSet(supports))
            told = {row["iteration"]: row["dice"] for row in fitted.training_.rows}
            looked = dict(fitted.scores_)
            curves += [
                {
                    "start": title,
                    "scans": str(len(supports)),
                    "seed": str(seed),
                    "iteration": str(iteration),
                    "training_dice": str(told.get(iteration, "")),
                    "held_out_dice": str(looked.get(iteration, "")),
                }
                for iteration in sorted({*told, *looked})
            ]
            scored = [
                scores(volume, truth, fitted.predict(volume)[0], name)
                for volume, truth in queries
                for name in names
            ]
            of_seeds.append(np.nanmean(scored, axis=0))
            draw_convergence(curves, arguments.output, title=", ".join(names))
        means, spread = np.mean(of_seeds, axis=0), np.std(of_seeds, axis=0, ddof=arguments.seeds > 1)
        dice, distance, length = (
            f"{m:.{n}f} ± {s:.{n}f}" for m, s, n in zip(means, spread, (3, 1, 1), strict=True)
        )
        print(f"| {title} | {dice} | {distance} | {length} |", flush=True)


def only(volume: Volume, labels: LabelMap, names: list[str]) -> tuple[Volume, LabelMap]:
    """A labelled scan with these segments alone."""
    segments = [segment for segment in labels.segments if segment.name in names]
    return volume, LabelMap.from_masks(volume, {s.name: labels.mask(s.name) for s in segments}, segments)


def scores(volume: Volume, truth: LabelMap, found: LabelMap, name: str) -> tuple[float, float, float]:
    """Dice, Hausdorff distance in mm and difference in boundary length in %; NaN where something is missing."""
    if name not in [segment.name for segment in truth.segments]:
        return np.nan, np.nan, np.nan
    one, other = truth.mask(name), found.mask(name)
    dice = 2 * (one & other).sum() / max(1, one.sum() + other.sum())
    if not other.any():
        return dice, np.nan, 100.0
    rims = [np.argwhere(find_boundaries(mask, mode="inner")) * volume.spacing[::-1] for mask in (one, other)]
    distance = max(cKDTree(rims[a]).query(rims[1 - a])[0].max() for a in (0, 1))
    lengths = [sum(perimeter(part) for part in mask if part.any()) for mask in (one, other)]
    return dice, distance, 100 * abs(lengths[1] - lengths[0]) / lengths[0]


if __name__ == "__main__":
    main()
