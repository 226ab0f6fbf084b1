"""One contender labels every query of a fold from every support set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import Cancelled, InputError, OutputError
from SSLFewShotLib.evaluation.contenders import Contender, Supports
from SSLFewShotLib.evaluation.metrics import score_case
from SSLFewShotLib.evaluation.results import UNIT, ResultTable
from SSLFewShotLib.evaluation.shots import Fold, support_label
from SSLFewShotLib.imaging.cases import Case, read_case
from SSLFewShotLib.imaging.files import write_labels
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion


def contest(
    contender: Contender,
    fold: Fold,
    pairs: Mapping[str, tuple[Volume, LabelMap]],
    cases: Mapping[str, Case],
    table: ResultTable,
    progress: Progress = ignore_progress,
    segmentations: Path | None = None,
) -> None:
    """Label and score what `table` does not hold yet; one query after the other, from all support sets at once.

    pairs: the supports, read. cases: those of the queries, by id. segmentations: a folder to keep the results in.
    A query that fails gets a row with the error, and the rest goes on.
    """
    todo = {
        query: [s for s in fold.support_sets if not table.has(_unit(contender, s, query))]
        for query in fold.queries
    }
    todo = {query: sets for query, sets in todo.items() if sets}
    if not todo:
        progress(1.0, f"{contender.title}: done before")
        return
    wanted = [s for s in fold.support_sets if any(s in sets for sets in todo.values())]
    sets = {supports: SupportSet([pairs[identity] for identity in supports]) for supports in wanted}
    share = contender.share_of_fitting
    contender.fit(sets, portion(progress, 0.0, share))
    marked = {supports: {segment.name for segment in support.segments} for supports, support in sets.items()}
    for number, (query, chosen) in enumerate(todo.items()):
        start, end = (share + (1 - share) * n / len(todo) for n in (number, number + 1))
        report = portion(progress, start, end)
        scan: tuple[Volume, LabelMap] | Exception
        try:
            scan = read_case(cases[query])
        except Exception as error:
            scan = error
        for step, supports in enumerate(chosen):
            unit = _unit(contender, supports, query)
            part = portion(report, step / len(chosen), (step + 1) / len(chosen))
            title = f"{contender.title}, {len(supports)} marked"
            part(0.0, f"{title}: {query}")
            try:
                if isinstance(scan, Exception):
                    raise scan
                found, measured = contender.predict(supports, scan[0], _titled(portion(part, 0.0, 0.95), title))
                end = portion(part, 0.95, 1.0)
                rows = _scores(scan[1], found, marked[supports], measured, _titled(end, title))
                if segmentations is not None:
                    write_labels(found, segmentations / _path(unit), overwrite=True, progress=end)
            except (Cancelled, OutputError):
                raise
            except Exception as error:
                known = isinstance(error, (InputError, OSError))
                rows = [{"error": str(error) if known else f"{type(error).__name__}: {error}"}]
            table.add([{**dict(zip(UNIT, unit, strict=True)), **row} for row in rows])


def _unit(contender: Contender, supports: Supports, query: str) -> tuple:
    return contender.method, contender.model, len(supports), support_label(supports), query


def _path(unit: tuple) -> Path:
    method, model, shots, support, query = unit
    first = support.split("+")[0]
    names = (f"{method}-{model}" if model else method, f"{shots}_{first}", f"{query}.seg.nrrd")
    return Path(*(name.replace("/", "_") for name in names))


def _scores(
    reference: LabelMap,
    found: LabelMap,
    marked: set[str],
    measured: Mapping[str, float],
    progress: Progress,
) -> list[dict[str, Any]]:
    rows = score_case(reference, found, progress=progress)
    for row in rows:
        row.update(measured)
        if row["segment"] not in marked:
            row.update(dice=math.nan, nsd=math.nan, hd95_mm=math.nan)
    return rows


def _titled(progress: Progress, title: str) -> Progress:
    return lambda fraction, message: progress(fraction, f"{title}: {message}")
