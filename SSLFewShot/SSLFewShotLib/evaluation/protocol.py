"""k-shot and two-fold evaluation on a folder of labelled scans; can be stopped and taken up again at any time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.evaluation.contenders import Contender, make_contenders
from SSLFewShotLib.evaluation.contest import contest
from SSLFewShotLib.evaluation.report import REPORT_FILES, SETTINGS_FILE, write_report
from SSLFewShotLib.evaluation.results import RESULTS_FILE, ResultTable
from SSLFewShotLib.evaluation.shots import Fold, plan_folds
from SSLFewShotLib.imaging.cases import Case, find_cases, read_case
from SSLFewShotLib.models import installed_versions
from SSLFewShotLib.outputs import check_output_folder, write_text
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.version import __version__


def evaluate(
    folder: Path | str,
    supports: Sequence[str],
    output: Path | str,
    *,
    shots: Sequence[int] = (1,),
    methods: Sequence[str] = ("knn",),
    models: Sequence[str] = (),
    queries: Sequence[str] | None = None,
    repeats: int | Sequence[int] = 5,
    two_fold: bool = False,
    device: str = "auto",
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    save_segmentations: bool = False,
    overwrite: bool = False,
    image_suffix: str | None = None,
    label_suffix: str | None = None,
    progress: Progress = ignore_progress,
) -> Path:
    """Score methods and models by labelling scans from 1, 2, … marked ones.

    folder: of labelled scans, paired as `imaging.cases` says (image_suffix, label_suffix as there).
    supports, queries, shots, repeats, two_fold: who labels whom, see `shots.plan_folds` and `shots.cyclic_sets`.
    output: gets results.csv (a row for each structure of each scan labelled from each support set: Dice, NSD at
        2 mm, HD95 in mm, seconds), evaluation.json (all settings), and the report of `report.write_report`.
    methods: "knn", "aligned", "prototype" and "finetune" (with each of `models`), and "box", the support's masks
        after alignment of the bodies' boxes.
    models: names in the store or folders, "gvdiff", "mind" or "xavier".
    settings: keyword arguments of the segmenters.
    save_segmentations: keep each result, segmentations/<method and model>/<k>_<first support>/<query>.seg.nrrd.
    overwrite: replace an evaluation in `output`. Otherwise one with the same settings is taken up where it
        was left, and methods and models can be added to it.

    Scores are of whole scans on their own grid. A structure that the reference lacks, or that no scan of the
    support set has marked, is not scored (NaN). A query that fails is named in the report and tried again next
    time; the rest goes on.

    Returns the path of report.md. Raises InputError for unusable supports or settings, and when `output` holds an
    evaluation with other settings; Cancelled when the user cancels, what is finished being kept.
    """
    folder, output = Path(folder), Path(output)
    cases = {case.id: case for case in find_cases(folder, image_suffix, label_suffix)}
    folds = plan_folds(list(cases.values()), supports, queries, shots, repeats, two_fold)
    progress(0.0, "loading models")
    first, _ = read_case(cases[folds[0].supports[0]])
    contenders = make_contenders(methods, models, first, device, {"seed": seed, **(settings or {})})
    del first
    protocol = {
        "shots": sorted({len(chosen) for fold in folds for chosen in fold.support_sets}),
        "repeats": repeats if isinstance(repeats, int) else list(repeats),
        "two_fold": two_fold,
        "support_sets": [[list(chosen) for chosen in fold.support_sets] for fold in folds],
        "queries": [list(fold.queries) for fold in folds],
        "seed": seed,
        "suffixes": [image_suffix, label_suffix],
        "scans": {identity: _files(cases[identity]) for fold in folds for identity in _taking_part(fold)},
        "sslfewshot": __version__,
    }
    _take_up(output, folder, protocol, contenders, overwrite)
    table = ResultTable(output)
    total = len(contenders) * sum(len(fold.support_sets) * len(fold.queries) for fold in folds)
    kept = output / "segmentations" if save_segmentations else None
    done = 0
    for fold in folds:
        pairs = {identity: read_case(cases[identity]) for identity in fold.supports}
        for contender in contenders:
            size = len(fold.support_sets) * len(fold.queries)
            report = portion(progress, 0.98 * done / total, 0.98 * (done + size) / total)
            contest(contender, fold, pairs, cases, table, report, kept)
            done += size
    table.tidy()
    return write_report(output, portion(progress, 0.98, 1.0))


def _take_up(
    output: Path, folder: Path, protocol: Mapping[str, Any], contenders: Sequence[Contender], overwrite: bool
) -> None:
    """Write evaluation.json, or check that the one there is of the same evaluation and add what is new to it."""
    path = output / SETTINGS_FILE
    check_output_folder(output)
    if overwrite:
        for name in (SETTINGS_FILE, RESULTS_FILE, *REPORT_FILES):
            (output / name).unlink(missing_ok=True)
        shutil.rmtree(output / "segmentations", ignore_errors=True)
    # As it reads back, for the comparison: tuples are lists then.
    protocol = json.loads(json.dumps(protocol))
    known: dict[str, Any] = {}
    if path.exists():
        known = _read_settings(path)
        other = [key for key in protocol if known["protocol"].get(key) != protocol[key]]
        if other:
            raise InputError(
                f"{output}: holds an evaluation with other {', '.join(other)}; choose another output or overwrite"
            )
    elif (output / RESULTS_FILE).exists():
        raise InputError(
            f"{output}: holds results without their settings; choose another output, or overwrite them"
        )
    facts = dict(known.get("contenders", {}))
    for contender in contenders:
        new = json.loads(json.dumps(contender.facts()))
        if facts.setdefault(contender.title, new) != new:
            raise InputError(
                f"{output}: holds an evaluation of {contender.title} with other weights or settings; choose "
                "another output or overwrite it"
            )
    content = {
        "folder": str(folder.resolve()),
        "protocol": protocol,
        "contenders": facts,
        "versions": installed_versions(),
    }
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(known["protocol"], dict) and isinstance(known["contenders"], dict):
            return known
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise InputError(f"{path}: not the settings of an evaluation; choose another output, or overwrite it")


def _taking_part(fold: Fold) -> list[str]:
    return sorted({*fold.supports, *fold.queries})


def _files(case: Case) -> list[Any]:
    """What tells a case's files from others without reading them: names and sizes."""
    return [[path.name, path.stat().st_size if path.is_file() else 0] for path in (case.image, case.labels)]
