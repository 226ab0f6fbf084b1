"""How far the confidence can be believed: of voxels given a structure with a confidence, the share that are right.

Every support alone segments every query; voxels that get a structure are counted in ten classes of confidence.
Prints the table and the mean gap between confidence and share, weighted by voxels, and writes the plot.

    python Testing/Benchmarks/reliability.py --data FOLDER --supports IDS --queries IDS --output plot.png
        [--method auto] [--model NAME]

FOLDER holds labelled scans (head-neck-ct/labelled). About ten seconds a pair on one core.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from SSLFewShotLib.errors import InputWarning
from SSLFewShotLib.imaging.cases import find_cases, read_case, select_cases
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.segmentation.choice import make_segmenter

CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--supports", required=True)
    parser.add_argument("--queries", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--model")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    cases = find_cases(arguments.data)
    queries = [read_case(case) for case in select_cases(cases, arguments.queries.split(","))]
    counts, sums, right = (np.zeros(CLASSES) for _ in range(3))
    for case in select_cases(cases, arguments.supports.split(",")):
        marked = read_case(case)
        segmenter = make_segmenter(arguments.method, arguments.model, marked[0]).fit(SupportSet([marked]))
        for volume, truth in queries:
            found, confidence = segmenter.predict(volume)
            labelled, correct = compared(found, truth)
            sure = confidence.array[labelled]
            bins = np.minimum((sure * CLASSES).astype(int), CLASSES - 1)
            counts += np.bincount(bins, minlength=CLASSES)
            sums += np.bincount(bins, weights=sure, minlength=CLASSES)
            right += np.bincount(bins, weights=correct[labelled], minlength=CLASSES)
    there = counts > 0
    said, share = sums[there] / counts[there], right[there] / counts[there]
    print("| confidence | voxels | right |\n| --- | --- | --- |")
    for row in zip(said, counts[there], share, strict=True):
        print("| {:.2f} | {:.0f} | {:.2f} |".format(*row))
    gap = float((np.abs(said - share) * counts[there]).sum() / counts.sum())
    print(f"\nMean gap {gap:.3f} over {counts.sum():.0f} voxels.")
    draw(said, share, counts[there], arguments.output)


def compared(found: LabelMap, truth: LabelMap) -> tuple[np.ndarray, np.ndarray]:
    """(K, J, I): where a structure was given, and where that is the true one."""
    labelled, correct = np.zeros(found.array.shape, bool), np.zeros(found.array.shape, bool)
    known = {segment.name for segment in truth.segments}
    for segment in found.segments:
        mask = found.mask(segment.name)
        labelled |= mask
        if segment.name in known:
            correct |= mask & truth.mask(segment.name)
    return labelled, correct


def draw(said: np.ndarray, share: np.ndarray, counts: np.ndarray, path: Path) -> None:
    """The share that is right over the confidence, as a PNG; points as large as they have voxels."""
    figure = Figure(figsize=(4.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    axes.plot(said, share, color="tab:blue", linewidth=1)
    axes.scatter(said, share, s=10 + 200 * counts / counts.max(), color="tab:blue", alpha=0.7)
    axes.set(xlabel="confidence", ylabel="share of voxels that are right", xlim=(0.3, 1), ylim=(0.3, 1))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
