"""The whole way once, on scans that it makes itself or on the user's: pretrain, mark one, segment, score, show."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.evaluation.metrics import score_case
from SSLFewShotLib.evaluation.plots import dice_table, slices_with_contours
from SSLFewShotLib.imaging.cases import Case, find_cases, read_case
from SSLFewShotLib.imaging.files import read_labels, read_volume, stem
from SSLFewShotLib.imaging.phantoms import write_cohort
from SSLFewShotLib.imaging.resampling import labels_on_grid
from SSLFewShotLib.outputs import check_output_folder, write_text
from SSLFewShotLib.pretext.pretrain import pretrain
from SSLFewShotLib.pretext.trainer import TrainerSettings
from SSLFewShotLib.pretext.training_scans import PretrainingSource
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.choice import fitting_models
from SSLFewShotLib.segmentation.job import SegmentationJob, run
from SSLFewShotLib.version import __version__

PATIENTS = 8
QUERIES = 2
PHANTOM_SIZE = (72, 60, 56)
LATTICE_SPACING = 6.0
"""mm between classified points on the made scans, whose voxels are about as large."""
MODEL_NAME = "heatmap-demo"


def run_demo(
    output: Path,
    data: Path | None = None,
    minutes: float = 1.0,
    device: str = "auto",
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = ignore_progress,
) -> dict[str, Any]:
    """Make (or take) scans, get a model, segment two scans from one support, score them, write a report folder.

    data: a folder of labelled scans; without, a cohort of phantoms is made in `output`. With `data`, a model that
        fits is taken when there is one, else one is pretrained on the folder for `minutes`.

    Returns mean_dice, report (path), model and the scores' rows. Raises InputError when `output` holds something
    and `overwrite` is not set, or when `data` has fewer than two labelled scans.
    """
    output = Path(output)
    settings = TrainerSettings(minutes=minutes, seed=seed)
    check_output_folder(output)
    if output.exists() and any(output.iterdir()) and not overwrite:
        raise InputError(f"{output}: the folder is not empty; overwrite it, or choose another output")
    scans = Path(data).resolve() if data is not None else output / "scans"
    if data is None:
        write_cohort(
            scans,
            PATIENTS,
            1 + QUERIES,
            seed,
            size=PHANTOM_SIZE,
            overwrite=overwrite,
            progress=portion(progress, 0, 0.05),
        )
    cases = [case for case in find_cases(scans) if case.labels is not None][: 1 + QUERIES]
    if len(cases) < 2:
        raise InputError(f"{scans}: at least two labelled scans were expected, a support and one to score")
    support, queries = cases[0], cases[1:]
    model = _model(scans, output, support, data is None, settings, device, progress)
    job = SegmentationJob(
        targets=[case.image for case in queries],
        supports=[(support.image, support.labels)],
        output=output / "segmentations",
        model=str(model),
        format="seg.nrrd",
        device=device,
        overwrite=overwrite,
        settings={"spacing": LATTICE_SPACING} if data is None else {},
    )
    report = run(job, portion(progress, 0.45, 0.93))
    done = {target["image"] for target in report["targets"] if "error" not in target}
    queries = [case for case in queries if case.image.name in done]
    rows = _scored(output, queries, overwrite, portion(progress, 0.93, 1.0))
    known = [row["dice"] for row in rows if np.isfinite(row["dice"])]
    if not known:
        raise InputError(f"{scans}: {support.id} and the other scans have no marked structure in common")
    mean = float(np.mean(known))
    dice_table(rows, output / "dice.png", f"One support, {len(queries)} scans", overwrite=overwrite)
    path = output / "report.md"
    write_text(path, _report_text(None if data is None else scans.name, support, queries, report, rows, mean))
    progress(1.0, f"wrote {path}")
    return {"mean_dice": mean, "report": str(path), "model": Path(model).name, "scores": rows}


def _model(
    scans: Path,
    output: Path,
    support: Case,
    made: bool,
    settings: TrainerSettings,
    device: str,
    progress: Progress,
) -> str | Path:
    """A model of the store that fits real scans, or one pretrained now."""
    if not made:
        fitting = fitting_models(read_volume(support.image))
        if fitting:
            return fitting[0].name
    folder = output / MODEL_NAME
    unfinished = folder.with_name(folder.name + ".training")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    source = PretrainingSource(
        "phantoms" if made else scans.name, "made by sslfewshot demo" if made else scans.name
    )
    pretrain(
        scans,
        "heatmap",
        folder,
        settings,
        source,
        device=device,
        overwrite=True,
        progress=portion(progress, 0.05, 0.45),
    )
    return folder


def _scored(output: Path, queries: Sequence[Case], overwrite: bool, progress: Progress) -> list[dict[str, Any]]:
    """Scores of every query against its reference, and a picture of each."""
    rows: list[dict[str, Any]] = []
    for number, case in enumerate(queries):
        progress(number / len(queries), f"scoring {case.id}")
        volume, reference = read_case(case)
        name = stem(case.image)
        labels = labels_on_grid(read_labels(output / "segmentations" / f"{name}_seg.seg.nrrd"), volume)
        confidence = read_volume(output / "segmentations" / f"{name}_confidence.nrrd")
        scores = score_case(reference, labels)
        rows += [{"query": case.id, **row} for row in scores]
        slices_with_contours(
            volume,
            labels,
            output / f"{case.id}.png",
            reference=reference,
            confidence=confidence,
            title=f"{case.id}, segmented from one support",
            scores={row["segment"]: row["dice"] for row in scores},
            overwrite=overwrite,
        )
    return rows


def _report_text(
    data: str | None,
    support: Case,
    queries: Sequence[Case],
    report: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    mean: float,
) -> str:
    descriptor = report["segmenter"]["descriptor"]
    lines = [
        "# Label one scan, get the rest",
        "",
        f"Scans: {'made phantoms' if data is None else data}. One support, {support.id}, "
        f"marked; {', '.join(case.id for case in queries)} segmented from it.",
        f"Model {descriptor['name']}, method {report['segmenter']['method']}, sslfewshot {__version__}, "
        f"on {report['device']}.",
        "",
        f"**Mean Dice {mean:.3f}**",
        "",
        "| scan | structure | Dice | NSD (2 mm) | HD95 (mm) |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['query']} | {row['segment']} | {row['dice']:.3f} | {row['nsd']:.3f} | {row['hd95_mm']:.1f} |"
        for row in rows
    ]
    lines += ["", "![Dice](dice.png)", ""]
    lines += [f"![{case.id}]({case.id}.png)" for case in queries]
    return "\n".join(lines) + "\n"
