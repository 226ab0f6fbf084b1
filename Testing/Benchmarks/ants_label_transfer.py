"""Label transfer by registration with ANTs SyN: what few-shot segmentation has to beat.

Each support is registered to each query (antspyx, `type_of_transform="SyN"`, all else ANTs' own defaults; CT
clipped to −300 … 700 HU first), its labels are carried over by `genericLabel` interpolation, and compared with the
query's own: Dice for each structure, in a CSV with one row a pair, and the means as Markdown.

antspyx pins an older numpy, so it gets an environment of its own; nothing else is needed there:

    python -m venv ants-environment
    ants-environment/bin/pip install antspyx==0.6.3
    ants-environment/bin/python Testing/Benchmarks/ants_label_transfer.py FOLDER --supports 013,061 \
        --queries 017,022 --names Brainstem,SpinalCord,RightParotid,LeftParotid,Esophagus,Larynx,Mandible \
        --output ants_syn.csv

FOLDER holds `<anything>_<case>_<anything>.nii.gz` for the scans (with `_ct` in the name for CT) and
`<anything>_<case>_seg.nii.gz` for the labels. Pairs that the CSV already holds are not computed again. Threads:
ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS, 1 when unset. ANTs samples voxels at random: repeated runs differ unless
--seed is given.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")  # read by ITK when it is loaded

import ants
import numpy as np

CT_WINDOW = (-300.0, 700.0)  # HU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--supports", required=True, metavar="ID,ID,…")
    parser.add_argument("--queries", required=True, metavar="ID,ID,…")
    parser.add_argument("--output", type=Path, required=True, metavar="CSV")
    parser.add_argument("--names", metavar="NAME,…", help="of the labels 1, 2, …; left out: label_1, …")
    parser.add_argument("--seed", type=int, help="of ANTs' random sampling; sets one thread")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        ants.config.set_ants_deterministic(True, arguments.seed)
    supports, queries = arguments.supports.split(","), arguments.queries.split(",")
    names = structure_names(arguments.folder, supports, arguments.names)
    header = ["support", "query", *names, "mean", "seconds"]
    done = rows_of(arguments.output, header)
    with open(arguments.output, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(header)
        for query in queries:
            for support in supports:
                if (support, query) not in {(row[0], row[1]) for row in done}:
                    row = transferred(arguments.folder, support, query, len(names))
                    print(f"{support} -> {query}: Dice {row[-2]}, {row[-1]} s", file=sys.stderr)
                    writer.writerow(row)
                    file.flush()
    rows = [r for r in rows_of(arguments.output, header) if r[0] in supports and r[1] in queries]
    values = np.array([[float(cell or "nan") for cell in row[2:]] for row in rows])
    print("| " + " | ".join(["pairs", *header[2:]]) + " |")
    print("|" + " --- |" * (len(header) - 1))
    means = [f"{mean:.3f}" for mean in np.nanmean(values[:, :-1], axis=0)]
    print("| " + " | ".join([str(len(rows)), *means, f"{np.median(values[:, -1]):.1f} (median)"]) + " |")


def transferred(folder: Path, support: str, query: str, count: int) -> list[str]:
    """One row: support, query, Dice of the labels 1 … count ("" where either scan lacks one), mean, seconds."""
    fixed, fixed_labels = scan_and_labels(folder, query)
    moving, moving_labels = scan_and_labels(folder, support)
    started = time.perf_counter()
    found = ants.registration(fixed, moving, type_of_transform="SyN")
    carried = ants.apply_transforms(fixed, moving_labels, found["fwdtransforms"], interpolator="genericLabel")
    seconds = time.perf_counter() - started
    for path in {*found["fwdtransforms"], *found["invtransforms"]}:
        Path(path).unlink(missing_ok=True)
    carried, truth = carried.numpy().round(), fixed_labels.numpy().round()
    dice = []
    for value in range(1, count + 1):
        ours, theirs = carried == value, truth == value
        both = theirs.any() and (moving_labels.numpy().round() == value).any()
        dice.append(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) if both else np.nan)
    cells = ["" if np.isnan(value) else f"{value:.3f}" for value in (*dice, np.nanmean(dice))]
    return [support, query, *cells, f"{seconds:.1f}"]


def scan_and_labels(folder: Path, case: str) -> tuple[ants.ANTsImage, ants.ANTsImage]:
    """A case's scan, clipped when it is a CT, and its labels."""
    image = ants.image_read(str(path_of(folder, case, labels=False)))
    if "_ct" in path_of(folder, case, labels=False).name.lower():
        image = image.new_image_like(np.clip(image.numpy(), *CT_WINDOW))
    return image, ants.image_read(str(path_of(folder, case, labels=True)))


def path_of(folder: Path, case: str, labels: bool) -> Path:
    """The one file of a case; ends the program when there is none, or more than one."""
    found = [path for path in folder.glob(f"*_{case}_*.nii.gz") if path.name.endswith("_seg.nii.gz") == labels]
    if len(found) != 1:
        sys.exit(f"{folder}: one file *_{case}_{'seg' if labels else '*'}.nii.gz was expected, found {len(found)}")
    return found[0]


def structure_names(folder: Path, supports: list[str], given: str | None) -> list[str]:
    """The names of the labels 1, 2, … up to the largest of the supports."""
    if given:
        return given.split(",")
    largest = max(int(ants.image_read(str(path_of(folder, s, labels=True))).max()) for s in supports)
    return [f"label_{value}" for value in range(1, largest + 1)]


def rows_of(path: Path, header: list[str]) -> list[list[str]]:
    """The rows of a CSV that an earlier run has left; ends the program when it is one of other structures."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if rows and rows[0] != header:
        sys.exit(f"{path}: holds other structures; give another --output")
    return rows[1:]


if __name__ == "__main__":
    main()
