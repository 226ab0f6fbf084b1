"""The sub-command `study`: Dice against the number of labelled scans, pretrained against random weights."""

from __future__ import annotations

import argparse
from typing import Any

from SSLFewShotLib.cli.shared_arguments import (
    EXIT_CODES,
    PAIRING,
    add_command,
    add_device,
    add_overwrite,
    add_suffixes,
    names_in,
    numbers_in,
    path_in,
)
from SSLFewShotLib.cli.tuning_arguments import add_tuning_settings, tuning_settings
from SSLFewShotLib.progress import Progress


def add_study(commands: argparse._SubParsersAction) -> None:
    """Add the sub-command."""
    parser = add_command(
        commands,
        "study",
        "Measure how many labelled scans fine-tuning needs, with and without pretraining.",
        "Writes results.csv, summary.csv, curves.csv, study.json and plots (dice_over_scans.png, convergence.png) "
        f"to DIR. {PAIRING} {EXIT_CODES}",
    )
    parser.add_argument("folder", type=path_in, metavar="FOLDER", help="with scans and their labels")
    parser.add_argument(
        "--supports",
        type=names_in,
        required=True,
        metavar="ID,ID,…",
        help="cases whose labels may be learned from; each seed draws its own of them",
    )
    parser.add_argument(
        "--queries", type=names_in, metavar="ID,ID,…", help="cases to score on; left out: all but the supports"
    )
    parser.add_argument(
        "--shots",
        type=numbers_in,
        default=[1, 2, 5, 10],
        metavar="K,K,…",
        help="labelled scans (default 1,2,5,10)",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="repetitions (default 3)")
    parser.add_argument(
        "--models",
        type=names_in,
        metavar="NAME_OR_DIR,…",
        help="to begin with, beside random weights (default: the one that fits)",
    )
    parser.add_argument(
        "--output", type=path_in, required=True, metavar="DIR", help="an unfinished study there is continued"
    )
    add_suffixes(parser)
    add_tuning_settings(parser)
    add_overwrite(parser)
    add_device(parser)


def study(arguments: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """`sslfewshot study`."""
    from SSLFewShotLib.evaluation.study import study

    result = study(
        arguments.folder,
        arguments.supports,
        arguments.output,
        shots=arguments.shots,
        seeds=arguments.seeds,
        models=arguments.models,
        queries=arguments.queries,
        device=arguments.device,
        settings=tuning_settings(arguments),
        overwrite=arguments.overwrite,
        image_suffix=arguments.image_suffix,
        label_suffix=arguments.label_suffix,
        progress=progress,
    )
    wide = max((len(row["model"]) for row in result["summary"]), default=0)
    lines = [f"scans  {'start':<{wide}}   Dice   ± over seeds"]
    for row in result["summary"]:
        spread = "–" if row["dice_sd"] is None else f"{row['dice_sd']:.3f}"
        dice = "–" if row["dice"] is None else f"{row['dice']:.3f}"
        lines.append(f"{row['shots']:>5}  {row['model']:<{wide}}  {dice}  {spread} ({row['repetitions']} seeds)")
    return result, "\n".join(lines)
