"""Seconds that a warm segmenter takes for each query, from one support, at each speed.

    taskset -c 0,1 python Testing/Benchmarks/segmentation_speed.py --data FOLDER --support ID --queries IDS
        [--speeds fast,balanced] [--threads 2]

FOLDER holds labelled scans (head-neck-ct/labelled); scans are read before, and the first is segmented once before
the clock runs. To be run alone on the machine.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from SSLFewShotLib.errors import InputWarning
from SSLFewShotLib.imaging.cases import find_cases, read_case, select_cases
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.segmentation.choice import make_segmenter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--support", required=True)
    parser.add_argument("--queries", required=True)
    parser.add_argument("--speeds", default="fast,balanced")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    torch.set_num_threads(arguments.threads)
    cases = find_cases(arguments.data)
    (support,) = (read_case(case) for case in select_cases(cases, [arguments.support]))
    volumes = [read_case(case)[0] for case in select_cases(cases, arguments.queries.split(","))]
    for speed in arguments.speeds.split(","):
        segmenter = make_segmenter("auto", None, support[0], speed=speed)
        began = time.perf_counter()
        segmenter.fit(SupportSet([support]))
        fitting = time.perf_counter() - began
        segmenter.predict(volumes[0])
        seconds = []
        for volume in volumes:
            began = time.perf_counter()
            segmenter.predict(volume)
            seconds.append(time.perf_counter() - began)
        print(
            f"{speed}: support {fitting:.1f} s, {len(seconds)} scans median {np.median(seconds):.1f} s, "
            f"{min(seconds):.1f} to {max(seconds):.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
