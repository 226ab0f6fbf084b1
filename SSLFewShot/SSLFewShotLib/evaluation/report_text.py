"""The words and tables of an evaluation's report."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from SSLFewShotLib.evaluation.summary import FAILURE, METRICS

_TITLES = {"dice": "Dice", "nsd": "NSD 2 mm", "hd95_mm": "HD95 mm"}
_DIGITS = {"dice": 3, "nsd": 3, "hd95_mm": 1}

_NOTES = (
    "k: marked scans. Scores are of whole scans on their own grid, averaged over the structures of a scan first, "
    "then over scans; ± is the standard deviation over support sets. A structure that the reference lacks, or "
    "that the support has not marked, is in no mean; one that was not found has a Dice of 0 and the scan's "
    f"diagonal as HD95. Missed: share of structures with a Dice below {FAILURE}. Seconds: median for one scan, "
    "without reading it and without fitting to the supports."
)


def title(row: Mapping[str, Any]) -> str:
    """What a row's or summary's contender is called: "knn gvdiff", "box"."""
    return f"{row['method']} {row['model']}".strip()


def folder_title(facts: Mapping[str, Any]) -> str:
    """The evaluated folder's name with the one above, which often says more: "head-neck-ct/labelled"."""
    return "/".join(Path(facts["folder"]).parts[-2:])


def report(
    facts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    summaries: Sequence[Mapping[str, Any]],
    pictures: Sequence[str],
) -> str:
    """The whole of report.md. facts: evaluation.json; rows: results.csv; pictures: Markdown paragraphs."""
    parts = [
        f"# Few-shot evaluation on {folder_title(facts)}",
        *_protocol(facts, rows),
        "## Results",
        _overview(summaries),
        _NOTES,
        *_recalls(summaries),
        *pictures,
        *(
            part
            for metric in METRICS
            for part in (f"## {_TITLES[metric]} by structure", _structures(summaries, metric))
        ),
        "## Models",
        _models(facts),
        *_failures(rows),
        "## Settings and versions",
        _settings(facts),
    ]
    return "\n\n".join(parts) + "\n"


def summary_csv(summaries: Sequence[Mapping[str, Any]]) -> str:
    """The content of summary.csv: a row for each method, model and k, with each structure's means behind."""
    names = list(dict.fromkeys(name for summary in summaries for name in summary["structures"]))
    columns = ["method", "model", "shots", "support_sets", "pairs", "errors", "scored", "absent"]
    columns += [column for metric in METRICS for column in (metric, f"{metric}_sd")]
    columns += ["failures", "worst_dice", "worst_support", "worst_query", "seconds", "recall"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *(f"{name} {metric}" for name in names for metric in METRICS)])
    for summary in summaries:
        of = summary["structures"]
        means = [of.get(name, {}).get(metric, math.nan) for name in names for metric in METRICS]
        writer.writerow([_plain(value) for value in (*(summary.get(column, "") for column in columns), *means)])
    return text.getvalue()


def _protocol(facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    protocol = facts["protocol"]
    folds = list(zip(protocol["support_sets"], protocol["queries"], strict=True))
    if protocol["two_fold"]:
        yield "Two folds: each half of the labelled scans is labelled from supports in the other half."
    for number, (sets, queries) in enumerate(folds):
        supports = list(dict.fromkeys(identity for chosen in sets for identity in chosen))
        which = f"Fold {number + 1}. " if len(folds) > 1 else ""
        count = f"{len(sets)} support sets" if len(sets) > 1 else "One support set"
        shots = ", ".join(str(k) for k in protocol["shots"])
        repeats = protocol["repeats"]
        repeats = repeats if isinstance(repeats, int) else ", ".join(str(n) for n in repeats)
        yield (
            f"{which}{count} (k = {shots}; up to {repeats} for each k) of {len(supports)} supports: "
            f"{', '.join(supports)}.\n\n{len(queries)} queries, none of them a support: {', '.join(queries)}."
        )
    pairs = sum(len(sets) * len(queries) for sets, queries in folds) * len(facts["contenders"])
    done = len({(title(row), row["support"], row["query"]) for row in rows})
    if done < pairs:
        yield f"**Unfinished: {done} of {pairs} labellings are there.** Run the same evaluation again to go on."


def _overview(summaries: Sequence[Mapping[str, Any]]) -> str:
    scores = [_TITLES[metric] for metric in METRICS]
    header = ["method", "k", "sets", "labellings", *scores, "missed", "worst scan", "seconds"]
    lines = []
    for s in summaries:
        missed = "–" if math.isnan(s["failures"]) else f"{100 * s['failures']:.1f} %"
        worst = (
            f"{s['worst_dice']:.3f} ({s['worst_query']} from {_short(s['worst_support'])})" if s["pairs"] else "–"
        )
        scores = [_with_spread(s, metric) for metric in METRICS]
        seconds = _number(s["seconds"], 1)
        lines.append([title(s), s["shots"], s["support_sets"], s["pairs"], *scores, missed, worst, seconds])
    return _table(header, lines)


def _recalls(summaries: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    lowest = min((s["recall"] for s in summaries if not math.isnan(s["recall"])), default=1.0)
    if lowest < 1:
        yield f"The neighbour search was approximate: it found at least {100 * lowest:.2f} % of the nearest ones."


def _structures(summaries: Sequence[Mapping[str, Any]], metric: str) -> str:
    names = list(dict.fromkeys(name for summary in summaries for name in summary["structures"]))
    lines = [
        [title(s), s["shots"], *(_number(s["structures"].get(n, {}).get(metric), _DIGITS[metric]) for n in names)]
        for s in summaries
    ]
    return _table(["method", "k", *names], lines)


def _models(facts: Mapping[str, Any]) -> str:
    lines = []
    for name, known in facts["contenders"].items():
        lines.append(f"- **{name}**: {pretraining_statement(known['pretraining'], facts['folder'])}")
        rest = {k: v for k, v in known.items() if k not in ("pretraining", "given") and v not in ("", {})}
        lines += [f"  - {key}: {_inline(value)}" for key, value in rest.items()]
    return "Were the queries among the scans that a model was pretrained on?\n\n" + "\n".join(lines)


def pretraining_statement(data: Sequence[Mapping[str, Any]], folder: str) -> str:
    """Whether an evaluated folder was trained on, as far as the names on a model's card tell.

    data: a card's `training["data"]`. A name such as "head-neck-ct/labelled" is compared with the folder's end.
    """
    if not data:
        return "no: not trained on scans"
    trained = ", ".join(f"{entry['scans']} scans of {entry['name']} ({entry['source']})" for entry in data)
    parts = Path(folder).parts
    same = [e["name"] for e in data if (named := Path(e["name"]).parts) and parts[-len(named) :] == named]
    if same:
        return f"**probably: it was pretrained on {trained}**, and the evaluated folder has this name"
    return f"no, by its card: pretrained on {trained}"


def _failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    failed = [row for row in rows if row["error"]]
    if not failed:
        return []
    reasons: dict[tuple[str, str], int] = {}
    for row in failed:
        key = row["query"], row["error"]
        reasons[key] = reasons.get(key, 0) + 1
    lines = [f"- {query}: {reason} ({count} ×)" for (query, reason), count in reasons.items()]
    return ["## Not labelled", "\n".join(lines)]


def _settings(facts: Mapping[str, Any]) -> str:
    versions = {**facts["versions"], "sslfewshot": facts["protocol"]["sslfewshot"]}
    lines = [f"- folder: {facts['folder']}", f"- seed: {facts['protocol']['seed']}"]
    return "\n".join([*lines, *(f"- {package} {version}" for package, version in versions.items())])


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_inline(entry)}" for key, entry in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(header: Sequence[Any], lines: Sequence[Sequence[Any]]) -> str:
    # Numbers to the right, what begins a line to the left.
    rule = ["---", *["---:"] * (len(header) - 1)]
    text = [[str(cell).replace("|", "\\|") for cell in line] for line in (header, rule, *lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in text)


def _with_spread(summary: Mapping[str, Any], metric: str) -> str:
    mean, spread = (_number(summary[key], _DIGITS[metric]) for key in (metric, f"{metric}_sd"))
    return mean if spread == "–" else f"{mean} ± {spread}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _short(support: str) -> str:
    ids = support.split("+")
    return support if len(ids) < 3 else f"{ids[0]} and {len(ids) - 1} more"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
