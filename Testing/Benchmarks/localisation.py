"""Boxes held against known ones: a body in a CT, an object in a tomogram, structures found from a marked scan.

For each part, over all scans: intersection over union of the boxes, error of a face in mm and as a share of
the true box's side, the share of the object's voxels outside the found box (lost), the share of the scan that
a crop to the box saves and the share that the true box would save, certainty, and in how many scans nothing
was found.

body: CTs of head and neck, whose outside the data set has blanked and cropped already: as they are, and in a
larger field of view, as a scanner gives it: 20 to 60 % of the side more at each side at random, air with
noise, a table of foam with a shell below the patient, a headrest. Truth: the smallest box that holds the body
mask of the original scan (`imaging.body.body_mask`: above -300 HU, opened by 6 mm, largest piece, closed,
holes filled).

tomograms: synthetic ones (`imaging.phantom_tomogram`) of 96 x 96 x 96 voxels, seeds from 1000 on: clean, in
clutter (tube, holder, bubbles), and with a second, smaller object. Truth: the box of the first object.

support: structures of marked CTs, every support with every query. Truth: the smallest box around the labels.

    python Testing/Benchmarks/localisation.py body --data FOLDER --rotation MODEL --order MODEL
    python Testing/Benchmarks/localisation.py tomograms --rotation MODEL --order MODEL [--count 20]
    python Testing/Benchmarks/localisation.py support --data FOLDER [--supports IDS] [--queries IDS]

FOLDER holds labelled scans (head-neck-ct/labelled); models are names or folders. One to ten seconds a scan.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.errors import InputWarning
from SSLFewShotLib.imaging.body import body_mask
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.cases import find_cases, read_case, select_cases
from SSLFewShotLib.imaging.crop import crop_range
from SSLFewShotLib.imaging.phantom_tomogram import TomogramPhantom
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.localisation.certainty import CertaintyLocaliser
from SSLFewShotLib.localisation.clustering import ClusteringLocaliser
from SSLFewShotLib.localisation.localiser import Localiser
from SSLFewShotLib.localisation.slice_model import ORDER, ROTATION, load_slice_model
from SSLFewShotLib.segmentation.support_region import SupportRegions

SUPPORTS = "013,061,099,132,187"
QUERIES = "017,022,031,034,082,087,095,096,109,119,122,157,168"
MARGINS = (0.0, 5.0, 10.0, 20.0)


@dataclass(frozen=True)
class Score:
    """One box against the truth; lost: at each of `MARGINS`. A box that was not found has None."""

    certainty: float
    overlap: float | None = None
    faces_mm: np.ndarray | None = None
    faces_share: np.ndarray | None = None
    lost: np.ndarray | None = None
    saved: float | None = None
    could_save: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("body", "tomograms", "support"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rotation", help="a model of slice-rotation")
    parser.add_argument("--order", help="a model of slice-order")
    parser.add_argument("--model", default="dense-head-neck-ct", help="a dense model, for support")
    parser.add_argument("--supports", default=SUPPORTS)
    parser.add_argument("--queries", default=QUERIES)
    parser.add_argument("--count", type=int, default=20)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    {"body": body, "tomograms": tomograms, "support": support}[arguments.part](arguments)


def score(volume: Volume, box: Box | None, truth: Box, object_points: np.ndarray, certainty: float) -> Score:
    """Hold a box against the true one; both along the same axes."""
    could_save = crop_range(volume, truth).saved
    if box is None:
        return Score(certainty, could_save=could_save)
    spans = [[b.centre @ truth.axes - b.size / 2, b.centre @ truth.axes + b.size / 2] for b in (box, truth)]
    (low, high), (true_low, true_high) = spans
    common = np.prod(np.maximum(np.minimum(high, true_high) - np.maximum(low, true_low), 0))
    faces = np.abs(np.concatenate([low - true_low, high - true_high]))
    return Score(
        certainty,
        float(common / (box.volume + truth.volume - common)),
        faces,
        faces / np.tile(truth.size, 2),
        np.array([1 - box.grown(margin).holds(object_points).mean() for margin in MARGINS]),
        crop_range(volume, box).saved,
        could_save,
    )


def box_of(volume: Volume, mask: np.ndarray) -> tuple[Box, np.ndarray]:
    """The smallest box along the grid's axes that holds a mask's voxels, and their places (N, 3)."""
    ijk = np.argwhere(mask)[:, ::-1]
    return Box.of_grid(volume, ijk.min(axis=0), np.ptp(ijk, axis=0) + 1), volume.points_from_indices(ijk)


def header() -> str:
    lost = " / ".join(f"{margin:g}" for margin in MARGINS)
    names = [
        "",
        "IoU",
        "face error, mm",
        "face error, %",
        f"lost, %, at {lost} mm of margin",
        "saved, % (true box)",
    ]
    names += ["certainty", "not found"]
    return f"| {' | '.join(names)} |\n|{' --- |' * len(names)}"


def row(name: str, scores: list[Score]) -> str:
    good = [s for s in scores if s.overlap is not None]
    missed = f"{len(scores) - len(good)} of {len(scores)}"
    if not good:
        return f"| {name} | | | | | | {np.mean([s.certainty for s in scores]):.2f} | {missed} |"
    lost = " / ".join(f"{value:.1f}" for value in 100 * np.mean([s.lost for s in good], axis=0))
    faces, shares = (np.concatenate([getattr(s, key) for s in good]) for key in ("faces_mm", "faces_share"))
    saved, true = (100 * np.mean([getattr(s, key) for s in good]) for key in ("saved", "could_save"))
    unit = f"{faces.mean():.1f}" if faces.mean() >= 0.5 else f"{faces.mean():.3f}"
    overlap = np.mean([s.overlap for s in good])
    sure = np.mean([s.certainty for s in scores])
    return (
        f"| {name} | {overlap:.3f} | {unit} | {100 * shares.mean():.1f} | {lost} | {saved:.0f} ({true:.0f}) | "
        f"{sure:.2f} | {missed} |"
    )


def measured(localiser: Localiser, scans: list[tuple[Volume, Box, np.ndarray]]) -> list[Score]:
    scores = []
    for volume, truth, points in scans:
        found = localiser.locate(volume)
        scores.append(score(volume, found.box, truth, points, found.certainty))
    return scores


def without_marks(arguments: argparse.Namespace, like: Volume) -> dict[str, Callable[[list[Volume]], Localiser]]:
    """Name → what makes a localiser and fits it to scans."""
    made = {}
    if arguments.rotation:
        rotation = load_slice_model(arguments.rotation, (ROTATION,), like)
        made["certainty"] = lambda volumes: CertaintyLocaliser(rotation)
        made["clustering, slice-rotation"] = lambda volumes: ClusteringLocaliser(rotation).fit(volumes)
    if arguments.order:
        order = load_slice_model(arguments.order, (ORDER,), like)
        made["clustering, slice-order"] = lambda volumes: ClusteringLocaliser(order).fit(volumes)
    return made


def compared(arguments: argparse.Namespace, groups: dict[str, list[tuple[Volume, Box, np.ndarray]]]) -> None:
    print(header())
    first = next(iter(groups.values()))[0][0]
    for group, scans in groups.items():
        whole = [score(v, Box.of_grid(v), truth, points, 0.0) for v, truth, points in scans]
        print(row(f"{group}: the whole scan", whole), flush=True)
        for name, make in without_marks(arguments, first).items():
            localiser = make([volume for volume, _, _ in scans[:6]])
            print(row(f"{group}: {name}", measured(localiser, scans)), flush=True)
            if hasattr(localiser, "auroc_"):
                share = f"{localiser.background_:.0%} background in {localiser.clusters_} clusters"
                print(f"<!-- AUROC {localiser.auroc_:.3f}, {share} -->", flush=True)


def body(arguments: argparse.Namespace) -> None:
    cases = select_cases(find_cases(arguments.data), arguments.queries.split(","))
    original, larger = [], []
    for number, case in enumerate(cases):
        volume, _ = read_case(case)
        mask = body_mask(volume)
        truth, points = box_of(volume, mask)
        original.append((volume, truth, points))
        larger.append((in_larger_field(volume, mask, np.random.default_rng(number)), truth, points))
    compared(arguments, {"as it is": original, "larger field": larger})


def in_larger_field(volume: Volume, mask: np.ndarray, rng: np.random.Generator) -> Volume:
    """The patient alone, on a table with a headrest in noisy air."""
    shape = np.array(mask.shape)
    before, after = (np.round(shape * rng.uniform(0.2, 0.6, 3)).astype(int) for _ in range(2))
    size = shape + before + after
    matrix = volume.ijkToLps.copy()
    matrix[:3, 3] -= matrix[:3, :3] @ before[::-1]
    air = rng.normal(-1000, 12, size)
    field = Volume(air, matrix, volume.name, volume.modality)
    inner = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
    k, j, i = np.ogrid[tuple(slice(n) for n in size)]
    x = (i - before[2] - shape[2] / 2) * volume.spacing[0]
    y = (j - before[1]) * volume.spacing[1]
    z = (k - before[0]) * volume.spacing[2]
    columns = mask.any(axis=(0, 2))
    # The patient's back is towards the end of j where the axis runs to posterior, else towards its beginning.
    back = np.flatnonzero(columns)[-1 if volume.direction[1, 1] > 0 else 0] * volume.spacing[1]
    below = (y - back) * np.sign(volume.direction[1, 1]) - 6
    depth = below + 0.0006 * x**2
    table = (np.abs(x) < 230) & (depth > 0) & (depth < 40) & (z > -1e9)
    shell = table & ((depth < 6) | (depth > 34))
    rest = (np.abs(np.abs(x) - 110) < 8) & (depth > -60) & (depth < 0) & (z > 0.65 * shape[0] * volume.spacing[2])
    air[np.broadcast_to(table, size)] += 400
    air[np.broadcast_to(shell | rest, size)] += 700
    part = air[inner]
    part[mask] = volume.array[mask]
    field.array = np.clip(np.rint(air), -1024, 3071).astype(np.int16)
    return field


def tomograms(arguments: argparse.Namespace) -> None:
    kinds = {"clean": (False, False), "clutter": (True, False), "clutter and a second object": (True, True)}
    groups = {}
    for name, (clutter, second) in kinds.items():
        scans = []
        for seed in range(1000, 1000 + arguments.count):
            phantom = TomogramPhantom(seed, clutter=clutter, second=second)
            volume = Volume(phantom.slab(0, phantom.shape[0]), phantom.ijkToLps, phantom.name)
            points = volume.points_from_indices(np.argwhere(phantom.object_mask())[:, ::-1])
            scans.append((volume, phantom.box, points))
        groups[name] = scans
    compared(arguments, groups)


def support(arguments: argparse.Namespace) -> None:
    cases = find_cases(arguments.data)
    queries = {case.id: read_case(case) for case in select_cases(cases, arguments.queries.split(","))}
    scores: dict[str, list[Score]] = {}
    everything = []
    for case in select_cases(cases, arguments.supports.split(",")):
        marked = read_case(case)
        regions = SupportRegions(load_descriptor(arguments.model, marked[0])).fit(SupportSet([marked]))
        for volume, labels in queries.values():
            found, boxes, points = regions.find(volume), [], []
            for segment in labels.segments:
                mask = labels.mask(segment)
                if not mask.any() or segment.name not in found:
                    continue
                truth, places = box_of(volume, mask)
                region = found[segment.name]
                box = region.box.clipped(volume)
                scores.setdefault(segment.name, []).append(score(volume, box, truth, places, region.certainty))
                boxes.append(region.box)
                points.append(places)
            together = Box.around(np.concatenate([b.corners() for b in boxes]), boxes[0].axes).clipped(volume)
            truth, places = box_of(volume, labels.array > 0)
            certainty = float(np.mean([region.certainty for region in found.values()]))
            everything.append(score(volume, together, truth, places, certainty))
        print(f"<!-- support {case.id} done -->", flush=True)
    print(header())
    for name, values in scores.items():
        print(row(name, values))
    print(row("all together", everything))


if __name__ == "__main__":
    main()
