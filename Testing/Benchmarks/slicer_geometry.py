"""Labels through the bridge between Slicer and the worker: how much of them comes back to where it was.

A phantom's organs are marked on a scan of each geometry; scan and marks are written for the worker, read and
written again by the library, and placed in the scene. Truth and result are compared as points in the world.

    python Testing/Benchmarks/slicer_geometry.py        # needs slicer-core, numpy, scipy, SimpleITK, pytest

Prints Markdown.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Slicer"))

from bridge_scene import clear_scene
from round_trip import nested_transforms, oblique_and_sheared, permutations_and_flips, round_trip
from SSLFewShotLib.imaging.phantoms import phantom


def main():
    _, organs = phantom(0, size=(48, 40, 36))
    truth = organs.array
    sheared = list(oblique_and_sheared(2))[1][1]
    groups = {
        "48 axis orders and directions": [(matrix, (), ()) for _, matrix in permutations_and_flips()],
        "20 random oblique and sheared": [(matrix, (), ()) for _, matrix in oblique_and_sheared()],
    }
    for name, scan, marks in nested_transforms():
        groups[f"transforms: {name}"] = [(matrix, scan, marks) for matrix in (np.eye(4), sheared)]
    print("| geometry | cases | least Dice of a structure | as the library read it | voxel centres apart, mm |")
    print("|---|---|---|---|---|")
    for name, cases in groups.items():
        outcomes = [_measured(*case, truth) for case in cases]
        dice, seen = min(o.dice for o in outcomes), min(o.seen for o in outcomes)
        print(f"| {name} | {len(cases)} | {dice:.6g} | {seen:.6g} | {max(o.apart for o in outcomes):.1e} |")


def _measured(matrix, above_scan, above_marks, truth):
    clear_scene()
    with tempfile.TemporaryDirectory() as folder:
        return round_trip(Path(folder), matrix, above_scan, above_marks, truth)


if __name__ == "__main__":
    main()
