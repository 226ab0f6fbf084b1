"""`sslfewshot localise`: its arguments, and what it does."""

from __future__ import annotations

import argparse
from typing import Any

from SSLFewShotLib.cli import remote
from SSLFewShotLib.cli.shared_arguments import (
    EXIT_CODES,
    SCANS,
    add_command,
    add_device,
    add_output,
    add_overwrite,
    add_support,
    add_targets,
    add_worker,
    given,
)
from SSLFewShotLib.progress import Progress

_METHODS = ("support", "certainty", "clustering")


def add_localise(commands: argparse._SubParsersAction) -> None:
    """Add the sub-command."""
    parser = add_command(
        commands,
        "localise",
        "Find the object in scans, as a box for 3D Slicer: from a marked scan, or without any mark.",
        "Writes DIR/<stem>_box.mrk.json (Slicer's Markups ROI) for each scan in which something was found, and "
        "DIR/report.json with place, size, certainty and what a crop would save. A scan may also be a folder of "
        f"TIFF slices. {SCANS} {EXIT_CODES}",
    )
    add_targets(parser)
    add_support(parser, "with the structures to look for")
    add_output(parser)
    parser.add_argument(
        "--method",
        choices=_METHODS,
        help="support (default with --support), certainty (default without; how surely a network tells the right "
        "rotation, slice by slice) or clustering (dense clusters of embeddings are background)",
    )
    parser.add_argument(
        "--model",
        type=given,
        metavar="NAME_OR_DIR",
        help="default: the first that fits the scans (certainty: of slice-rotation; clustering: of slice-order or "
        "slice-rotation; support: dense, else xavier+gvdiff)",
    )
    parser.add_argument("--segments", nargs="+", metavar="NAME", help="only these segments of the support")
    parser.add_argument(
        "--margin", type=float, metavar="MM", help="added on every side (default: the method's, in the report)"
    )
    parser.add_argument(
        "--segment-boxes", action="store_true", help="a file for each structure too: <stem>_<segment>_box.mrk.json"
    )
    add_overwrite(parser)
    add_device(parser)
    add_worker(parser)


def localise(arguments: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """`sslfewshot localise`."""
    report = remote.localise(arguments, progress) if arguments.worker else _localised(arguments, progress)
    return report, "\n".join(_line(target) for target in report["targets"])


def _localised(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Localise in this process."""
    from SSLFewShotLib.localisation.job import LocalisationJob, run

    job = LocalisationJob(
        targets=arguments.targets,
        output=arguments.output,
        method=arguments.method or ("support" if arguments.support else "certainty"),
        model=arguments.model,
        supports=[tuple(pair) for pair in arguments.support],
        segment_names=arguments.segments,
        margin=arguments.margin,
        segment_boxes=arguments.segment_boxes,
        device=arguments.device,
        overwrite=arguments.overwrite,
    )
    return run(job, progress)


def _line(target: dict[str, Any]) -> str:
    if "error" in target:
        return f"{target['image']}: {target['error']}"
    if not target["found"]:
        return f"{target['image']}: {target['reason']}"
    box = target["box"]
    size = " × ".join(f"{side:.4g}" for side in box["size"])
    centre = ", ".join(f"{place:.4g}" for place in box["centre"])
    note = f"; {target['reason']}" if target["reason"] else ""
    return (
        f"{target['image']}: {size} mm around ({centre}), certainty {target['certainty']:.2f}, a crop saves "
        f"{target['crop']['saved']:.0%}{note}"
    )
