"""How many labelled scans fine-tuning needs: pretrained against random weights, over several seeds.

The data-efficiency curve of Taleb et al., "3D self-supervised methods for medical imaging" (NeurIPS 2020, figure
7), and the convergence of Dhere and Sivaswamy (ISBI 2021, figure 5).
"""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.evaluation.metrics import score_case
from SSLFewShotLib.evaluation.plots import dice_over_shots
from SSLFewShotLib.evaluation.report_text import summary_csv
from SSLFewShotLib.evaluation.results import RESULTS_FILE, ResultTable
from SSLFewShotLib.evaluation.study_curves import draw_convergence
from SSLFewShotLib.evaluation.study_runs import Run, planned_runs, starts_of
from SSLFewShotLib.evaluation.summary import summarise
from SSLFewShotLib.imaging.cases import Case, find_cases, read_case, select_cases
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.models import installed_versions
from SSLFewShotLib.networks.device import choose_device
from SSLFewShotLib.outputs import check_output_folder, write_text
from SSLFewShotLib.pretext.continuing import Beginning
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.choice import chosen
from SSLFewShotLib.segmentation.finetune import FineTuneSegmenter

STUDY_FILE = "study.json"
CURVES_FILE = "curves.csv"
SHOTS = (1, 2, 5, 10)
_FILES = (STUDY_FILE, RESULTS_FILE, CURVES_FILE, "summary.csv", "dice_over_scans.png", "convergence.png")
_OF_A_RUN = ("seed", "scratch", "start_sha256")
_CURVE = ("start", "scans", "seed", "iteration", "minutes", "loss", "training_dice", "held_out_dice")


def study(
    folder: Path | str,
    supports: Sequence[str],
    output: Path | str,
    *,
    shots: Sequence[int] = SHOTS,
    seeds: int = 3,
    models: Sequence[str] | None = None,
    queries: Sequence[str] | None = None,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    image_suffix: str | None = None,
    label_suffix: str | None = None,
    progress: Progress = ignore_progress,
) -> dict[str, Any]:
    """Fine-tune with 1, 2, … labelled scans, from pretrained models and from random weights, and score all.

    folder: of labelled scans. supports: ids that may be learned from; queries: ids to be scored on, None for all
    others. shots: numbers of labelled scans; seeds: repetitions, each with other scans and other random numbers.
    models: names or folders, None for the one that fits; random weights are put beside them, once for each kind of
    network. settings: keyword arguments of `FineTuneSegmenter`.

    output gets results.csv (each structure of each query), summary.csv, curves.csv (loss, Dice of the patches, and
    Dice on what is held out of the supports, over iterations), study.json, dice_over_scans.png and
    convergence.png, all of them anew after each run. A study that was stopped or killed goes on where it was,
    within a run too. No label of a query is looked at before its network is done.

    Returns what study.json holds. Raises InputError for unusable scans or settings, when no model fits, and when
    `output` holds another study and `overwrite` is not set; Cancelled when the user cancels.
    """
    folder, output = Path(folder), Path(output)
    cases = {case.id: case for case in find_cases(folder, image_suffix, label_suffix) if case.labels is not None}
    named = [case.id for case in select_cases(list(cases.values()), supports)]
    asked = _queries(cases, named, queries)
    planned_runs(named, shots, seeds, ())
    settings = dict(settings or {})
    for name in ("seed", "scratch", "keep"):
        if settings.pop(name, None):
            raise InputError(f"{name}: a study sets that itself; leave it out")
    progress(0.0, "loading the models")
    if not models:
        first, _ = read_case(cases[named[0]])
        models = [chosen("finetune", None, first)[1]]
        if models[0] is None:
            raise InputError(f"{first.name}: no dense model fits it; name the pretrained models to be studied")
    begun = [Beginning.read(model) for model in models]
    runs = planned_runs(named, shots, seeds, starts_of(begun))
    made = _segmenter(runs[0], device, settings)
    facts = {
        "folder": "/".join(folder.resolve().parts[-2:]),
        "supports": named,
        "queries": asked,
        "scans": sorted(set(shots)),
        "seeds": seeds,
        "models": {one.card.name: one.card.weights["sha256"] for one in begun},
        "settings": {k: v for k, v in made.provenance()["settings"].items() if k not in _OF_A_RUN},
        "versions": installed_versions(),
    }
    _take_up(output, facts, overwrite)
    table, curves = ResultTable(output), _Curves(output)
    for number, run in enumerate(runs):
        part = portion(progress, number / len(runs), (number + 1) / len(runs))
        left = [query for query in asked if not table.has(run.unit(query))]
        if left:
            _do(run, left, cases, output, device, settings, table, curves, part)
            written = _write(output, facts, table, curves)
    table.tidy()
    written = _write(output, facts, table, curves)
    progress(1.0, f"wrote {output / STUDY_FILE}")
    return written


def _do(
    run: Run,
    queries: Sequence[str],
    cases: Mapping[str, Case],
    output: Path,
    device: str,
    settings: Mapping[str, Any],
    table: ResultTable,
    curves: _Curves,
    progress: Progress,
) -> None:
    """One fine-tuning, and the scores of the queries that it lacks."""
    work = output / "runs" / run.name
    segmenter = _segmenter(run, device, settings)
    segmenter.folder, segmenter.resume = work, True
    title = f"{run.start.label}, {run.shots} labelled, seed {run.seed}"
    support = SupportSet([read_case(cases[identity]) for identity in run.supports])

    def told(fraction: float, message: str) -> None:
        progress(fraction, f"{title}: {message}")

    segmenter.fit(support, portion(told, 0.0, 0.9))
    curves.take(run, segmenter)
    marked = {segment.name for segment in support.segments}
    for number, query in enumerate(queries):
        part = portion(told, 0.9 + 0.1 * number / len(queries), 0.9 + 0.1 * (number + 1) / len(queries))
        volume, truth = read_case(cases[query])
        began = time.perf_counter()
        found, _ = segmenter.predict(volume, part)
        seconds = time.perf_counter() - began
        columns = dict(zip(("method", "model", "shots", "support", "query"), run.unit(query), strict=True))
        rows = [{**columns, **row, "seconds": seconds} for row in score_case(truth, found)]
        for row in rows:
            if row["segment"] not in marked:
                row.update(dice=math.nan, nsd=math.nan, hd95_mm=math.nan)
        table.add(rows)
    shutil.rmtree(work, ignore_errors=True)


def _segmenter(run: Run, device: str, settings: Mapping[str, Any]) -> FineTuneSegmenter:
    try:
        start, chosen_device = run.start, choose_device(device)
        return FineTuneSegmenter(start.model, chosen_device, **settings, scratch=start.scratch, seed=run.seed)
    except TypeError as error:
        raise InputError(f"settings {', '.join(settings)}: not all are settings of finetune ({error})") from None


def _queries(cases: Mapping[str, Case], supports: Sequence[str], queries: Sequence[str] | None) -> list[str]:
    if queries is None:
        rest = [identity for identity in cases if identity not in supports]
    else:
        rest = [case.id for case in select_cases(list(cases.values()), queries)]
    both = [identity for identity in rest if identity in supports]
    if both:
        raise InputError(f"{both[0]}: named as support and as query; a scan cannot be both, leave one out")
    if not rest:
        raise InputError("no labelled case is left to be a query; name fewer supports")
    return rest


def _take_up(output: Path, facts: Mapping[str, Any], overwrite: bool) -> None:
    """Write study.json, or check that the one there is of the same study."""
    check_output_folder(output)
    if overwrite:
        for name in _FILES:
            (output / name).unlink(missing_ok=True)
        shutil.rmtree(output / "runs", ignore_errors=True)
    path = output / STUDY_FILE
    facts = json.loads(json.dumps(facts))
    if not path.exists():
        if (output / RESULTS_FILE).exists():
            raise InputError(f"{output}: holds other results; choose another output, or have them overwritten")
        write_text(path, _json(facts))
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        # Further seeds, numbers of scans and models go on with what is there.
        free = ("seeds", "scans", "models", "summary", "versions")
        other = [key for key in facts if key not in free and known[key] != facts[key]]
        if any(facts["models"].get(name, checksum) != checksum for name, checksum in known["models"].items()):
            other.append("models")
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(f"{path}: not a readable study; choose another output, or have it overwritten") from None
    if other:
        raise InputError(
            f"{output}: holds a study with other {', '.join(other)}; choose another output, or have it overwritten"
        )


class _Curves:
    """curves.csv: what each training told on its way, one row an entry."""

    def __init__(self, output: Path):
        self.path = output / CURVES_FILE
        self.rows: list[dict[str, Any]] = []
        if self.path.exists():
            text = self.path.read_text(encoding="utf-8")
            self.rows = [dict(row) for row in csv.DictReader(io.StringIO(text))]

    def take(self, run: Run, segmenter: FineTuneSegmenter) -> None:
        """Put in a run's rows, in the place of those that it has."""
        key = (run.start.label, str(run.shots), str(run.seed))
        self.rows = [row for row in self.rows if (row["start"], row["scans"], row["seed"]) != key]
        self.rows += [dict(zip(_CURVE, map(str, row), strict=True)) for row in _told(run, segmenter)]
        text = io.StringIO()
        writer = csv.DictWriter(text, _CURVE, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())


def _told(run: Run, segmenter: FineTuneSegmenter) -> Iterator[tuple]:
    scores = dict(segmenter.scores_)
    rows = {row["iteration"]: row for row in segmenter.training_.rows}
    for iteration in sorted({*rows, *scores}):
        row = rows.get(iteration, {})
        numbers = (row.get("minutes", ""), row.get("loss", ""), row.get("dice", ""), scores.get(iteration, ""))
        yield run.start.label, run.shots, run.seed, iteration, *numbers


def _write(output: Path, facts: Mapping[str, Any], table: ResultTable, curves: _Curves) -> dict[str, Any]:
    """Everything that is made of the results so far; returns what study.json holds."""
    order = list(facts["models"])

    def place(start: str) -> tuple[int, str]:
        """The models as they were named, then random weights; the same in both pictures, for their colours."""
        return order.index(start) if start in order else len(order), start

    summaries = sorted(summarise(table.rows), key=lambda s: (s["shots"], place(s["model"])))
    write_text(output / "summary.csv", summary_csv(summaries))
    kept = (
        "model",
        "shots",
        "dice",
        "dice_sd",
        "nsd",
        "nsd_sd",
        "hd95_mm",
        "hd95_mm_sd",
        "failures",
        "worst_dice",
    )
    rows = [
        {
            **{
                key: None if isinstance(s[key], float) and math.isnan(s[key]) else s[key]
                for key in kept
                if key in s
            },
            "repetitions": s["support_sets"],
            "pairs": s["pairs"],
        }
        for s in summaries
    ]
    written = {**facts, "summary": rows}
    write_text(output / STUDY_FILE, _json(written))
    scored = sorted((r for r in table.rows if math.isfinite(r["dice"])), key=lambda row: place(row["model"]))
    if scored:
        dice_over_shots(scored, output / "dice_over_scans.png", title=facts["folder"], overwrite=True)
    if curves.rows:
        rows = sorted(curves.rows, key=lambda row: place(row["start"]))
        draw_convergence(rows, output / "convergence.png", title=facts["folder"])
    return written


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
