"""`sslfewshot crop`: its arguments, and what it does."""

from __future__ import annotations

import argparse
from typing import Any

from SSLFewShotLib.cli.shared_arguments import (
    EXIT_CODES,
    SCANS,
    add_command,
    add_output,
    add_overwrite,
    add_targets,
    path_in,
)
from SSLFewShotLib.progress import Progress


def add_crop(commands: argparse._SubParsersAction) -> None:
    """Add the sub-command."""
    parser = add_command(
        commands,
        "crop",
        "Cut scans down to a box: original voxels, exact geometry.",
        "Writes DIR/<stem>_cropped.<format> and DIR/report.json, which says what was saved. A large scan whose "
        f"voxels lie uncompressed in its file is cropped without being read as a whole. {SCANS} {EXIT_CODES}",
    )
    add_targets(parser)
    parser.add_argument(
        "--box",
        type=path_in,
        required=True,
        metavar="FILE_OR_DIR",
        help="a Markups ROI of 3D Slicer (.mrk.json) for all scans, or a folder with <stem>_box.mrk.json for "
        "each, as `localise` writes them",
    )
    add_output(parser)
    parser.add_argument("--margin", type=float, default=0.0, metavar="MM", help="added on every side (default 0)")
    parser.add_argument(
        "--format",
        default="nrrd",
        choices=("nrrd", "nii.gz", "mha"),
        help="of the results (default nrrd; the one for parts of more than 1 GB)",
    )
    add_overwrite(parser)


def crop(arguments: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """`sslfewshot crop`."""
    from SSLFewShotLib.localisation.crop_job import CropJob, run

    job = CropJob(
        targets=arguments.targets,
        output=arguments.output,
        box_file=arguments.box,
        margin=arguments.margin,
        format=arguments.format,
        overwrite=arguments.overwrite,
    )
    report = run(job, progress)
    lines = [
        f"{target['image']}: {target['error']}"
        if "error" in target
        else f"{arguments.output / target['cropped']}  {' × '.join(map(str, target['crop']['size']))} voxels, "
        f"{target['crop']['saved']:.0%} saved"
        for target in report["targets"]
    ]
    return report, "\n".join(lines)
