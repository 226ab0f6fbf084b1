"""The report of an evaluation, from results.csv and evaluation.json; of an unfinished one too."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.evaluation import report_text
from SSLFewShotLib.evaluation.embedding import tsne_of_supports
from SSLFewShotLib.evaluation.plots import dice_over_shots, tsne_plot
from SSLFewShotLib.evaluation.results import read_results
from SSLFewShotLib.evaluation.summary import summarise
from SSLFewShotLib.imaging.cases import find_cases, read_case, select_cases
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.outputs import write_text
from SSLFewShotLib.progress import Progress, ignore_progress

SETTINGS_FILE = "evaluation.json"
REPORT_FILES = ("report.md", "summary.csv", "dice_over_shots.png", "tsne.png")
_TSNE_SUPPORTS = 5


def write_report(output: Path | str, progress: Progress = ignore_progress) -> Path:
    """Write report.md, summary.csv, dice_over_shots.png and, for the best model, tsne.png into `output`.

    Works on what results.csv holds so far. The t-SNE plot is made from the first supports in the evaluated folder,
    and left out when the folder or the model is not there any more.

    Returns the path of report.md. Raises InputError when there are no results.
    """
    output = Path(output)
    rows = read_results(output)
    try:
        facts = json.loads((output / SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{output / SETTINGS_FILE}: missing or damaged; evaluate again") from None
    progress(0.0, "writing the report")
    summaries = summarise(rows)
    write_text(output / "summary.csv", report_text.summary_csv(summaries))
    for picture in REPORT_FILES[2:]:
        (output / picture).unlink(missing_ok=True)
    pictures = []
    scored = [{**row, "model": report_text.title(row)} for row in rows if math.isfinite(row["dice"])]
    if scored:
        path = output / "dice_over_shots.png"
        dice_over_shots(scored, path, title=report_text.folder_title(facts))
        pictures.append(f"![Dice over labelled scans]({path.name})")
    best = _best(summaries)
    if best is None:
        pictures.append("No t-SNE plot: no result of a model is there.")
    else:
        try:
            _draw_tsne(output / "tsne.png", facts, best, progress)
            pictures.append(f"t-SNE of the descriptors of {best} at marked voxels:\n\n![t-SNE](tsne.png)")
        except (InputError, OSError) as error:
            pictures.append(f"No t-SNE plot: {error}.")
    write_text(output / "report.md", report_text.report(facts, rows, summaries, pictures))
    with contextlib.suppress(Cancelled):  # too late: all is there
        progress(1.0, f"wrote {output / 'report.md'}")
    return output / "report.md"


def _best(summaries: Sequence[Mapping[str, Any]]) -> str | None:
    """The title of the contender with a descriptor that has the highest Dice with the fewest shots."""
    found = [s for s in summaries if s["model"] and math.isfinite(s["dice"])]
    if not found:
        return None
    fewest = min(s["shots"] for s in found)
    return report_text.title(max((s for s in found if s["shots"] == fewest), key=lambda s: s["dice"]))


def _draw_tsne(path: Path, facts: Mapping[str, Any], title: str, progress: Progress) -> None:
    protocol = facts["protocol"]
    chosen = dict.fromkeys(identity for supports in protocol["support_sets"][0] for identity in supports)
    cases = find_cases(facts["folder"], *protocol["suffixes"])
    support = SupportSet([read_case(case) for case in select_cases(cases, list(chosen)[:_TSNE_SUPPORTS])])
    model = facts["contenders"][title]["given"]
    descriptor = load_descriptor(model, support.pairs[0][0])
    embedding, values = tsne_of_supports(descriptor, support, seed=protocol["seed"], progress=progress)
    tsne_plot(embedding, values, support.segments, path, title=f"{title}, {len(support)} scans")
