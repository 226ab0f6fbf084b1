"""The arguments of the command `sslfewshot`. Nothing heavy is imported, so that --help answers at once."""

from __future__ import annotations

import argparse
from pathlib import Path

from SSLFewShotLib.cli import crop, localise, study
from SSLFewShotLib.cli.encoder_arguments import add_encoder_options
from SSLFewShotLib.cli.prototype_arguments import add_alpnet_options
from SSLFewShotLib.cli.segmenter_arguments import add_segmenter_settings
from SSLFewShotLib.cli.shared_arguments import (
    EXIT_CODES,
    MODELS,
    PAIRING,
    SCANS,
    add_command,
    add_device,
    add_json,
    add_output,
    add_overwrite,
    add_seed,
    add_suffixes,
    add_support,
    add_targets,
    add_worker,
    given,
    names_in,
    numbers_in,
    path_in,
)
from SSLFewShotLib.cli.slice_arguments import add_slice_options
from SSLFewShotLib.version import __version__

PRETRAINING = (
    "heatmap (default), reg2d, doersch, dense or alpnet; cpc, rpl, jigsaw, rotation or exemplar, or sides from "
    "labelled scans, whose encoders are for fine-tuning; slice-order or slice-rotation, whose models find an "
    "object without marks"
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `sslfewshot` with all its sub-commands; `command` names the one that was given."""
    parser = argparse.ArgumentParser(
        prog="sslfewshot",
        description="Label one scan, get the rest: few-shot segmentation of 3D medical images.",
        epilog=f"Results go to standard output, progress and messages to standard error. {EXIT_CODES}",
    )
    parser.add_argument("--version", action="version", version=f"sslfewshot {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_segment(commands)
    localise.add_localise(commands)
    crop.add_crop(commands)
    _add_pretrain(commands)
    _add_models(commands)
    _add_evaluate(commands)
    study.add_study(commands)
    _add_demo(commands)
    _add_worker_command(commands)
    return parser


def _add_segment(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "segment",
        "Segment scans after one or more labelled ones.",
        "Writes DIR/<stem>_seg.<format>, DIR/<stem>_confidence.nii.gz (.nrrd with the NRRD formats) and "
        "DIR/report.json; for several scans DIR/summary.csv too. A scan that cannot be used is named and left "
        f"out. {SCANS} {EXIT_CODES}",
    )
    add_targets(parser)
    add_support(parser, "also with different segments marked; a --model that was fine-tuned needs none")
    add_output(parser)
    parser.add_argument(
        "--method",
        default="auto",
        help="auto (default: aligned where a dense model fits, else knn), aligned (labels carried by an alignment "
        "of dense descriptors, together with their vote), prototype (3D ALPNet), knn, finetune (trains a network "
        "on the supports for --minutes), tuned (a model that --keep has kept), or box (a baseline)",
    )
    parser.add_argument("--model", type=given, metavar="NAME_OR_DIR", help=f"{MODELS}; default: xavier+gvdiff")
    parser.add_argument(
        "--format",
        default="nii.gz",
        choices=("nii.gz", "nrrd", "seg.nrrd"),
        help="of the labels: nii.gz (default; numbers, named in report.json), nrrd (with names and colours) or "
        "seg.nrrd (Slicer's segmentation; the one for overlapping segments)",
    )
    parser.add_argument("--segments", nargs="+", metavar="NAME", help="only these segments of the support")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an interrupted job: results in DIR that were made with the same support, model and "
        "settings from scans that have not changed are not computed again",
    )
    parser.add_argument(
        "--crop",
        choices=("auto", "never", "always"),
        default="auto",
        help="crop a scan first to what the support's scans show: auto (default: where the scan is at least four "
        "times as large, and the region is found with certainty by a dense model), never or always",
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="have the scans segmented by the workers of this Dask cluster, such as tcp://HOST:8786, which must "
        "share the disk with scans and DIR (needs `pip install 'sslfewshot[cluster]'`)",
    )
    add_segmenter_settings(parser, keep=True)
    add_overwrite(parser)
    add_device(parser)
    add_worker(parser)


def _add_pretrain(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "pretrain",
        "Pretrain a descriptor on a folder of unlabelled scans.",
        "While it runs, MODEL_DIR.training holds its checkpoint and loss curve. A scan that cannot be read is "
        f"named and skipped. {SCANS} {EXIT_CODES}",
    )
    scans = parser.add_mutually_exclusive_group(required=True)
    scans.add_argument("folder", type=path_in, nargs="?", metavar="FOLDER", help="with scans, in sub-folders too")
    scans.add_argument(
        "--synthetic", action="store_true", help="no scans at all: random shapes (dense), a model for any modality"
    )
    parser.add_argument("--method", default="heatmap", help=PRETRAINING)
    parser.add_argument(
        "--output",
        type=path_in,
        required=True,
        metavar="MODEL_DIR",
        help="the model's folder; its name is the model's",
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--iterations", type=int, metavar="N", help="stop after so many iterations")
    budget.add_argument("--minutes", type=float, metavar="M", help="stop after so many minutes (default 30)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint of an interrupted run")
    add_seed(parser)
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="pairs an iteration and axis (default 16, paper 8; dense, alpnet: 1)",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        metavar="R",
        help="default 0.001 (paper 0.00005, for 800,000 iterations); cpc, exemplar: 0.0003, sides: 0.0001",
    )
    parser.add_argument(
        "--schedule",
        choices=("cosine", "constant", "one-cycle"),
        help="of the learning rate (default cosine; alpnet: one-cycle)",
    )
    parser.add_argument("--modality", metavar="NAME", help="CT, MR, …; left out: found from the scans")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--extent-mm",
        type=float,
        metavar="MM",
        help="mm a unit (a planar patch is 0.8 units wide); left out: 120, less for small scans",
    )
    size.add_argument(
        "--normalised", action="store_true", help="extents relative to the scan (only for scans cropped alike)"
    )
    parser.add_argument(
        "--data-source", default="the user's own folder", metavar="TEXT", help="where from, for the model's card"
    )
    parser.add_argument(
        "--data-licence", default="not stated", metavar="TEXT", help="of the scans, for the model's card"
    )
    add_alpnet_options(parser)
    add_encoder_options(parser)
    add_slice_options(parser)
    add_overwrite(parser)
    add_device(parser)


def _add_models(commands: argparse._SubParsersAction) -> None:
    summary = "List, show, import, export and remove models."
    store = "Your models lie in the user's folder for application data, or where SSLFEWSHOT_MODELS points to."
    parser = commands.add_parser("models", help=summary, description=summary, epilog=f"{store} {EXIT_CODES}")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")

    listing = action("list", "list the models that come with the software, and yours")
    show = action("show", "show a model's card: method, training data, licence, settings, metrics")
    show.add_argument("name", metavar="NAME", help="a model's name or folder")
    take = action("import", "take a model into the store")
    take.add_argument("archive", type=path_in, metavar="ARCHIVE", help="a model's archive (.zip) or folder")
    take.add_argument("--name", metavar="NAME", help="its name in the store (default: that on its card)")
    give = action("export", "write a model as an archive")
    give.add_argument("name", metavar="NAME", help="a model's name or folder")
    give.add_argument("archive", type=path_in, metavar="ARCHIVE", help="the .zip to write")
    remove = action("remove", "remove one of your models")
    remove.add_argument("name", metavar="NAME", help="a model of yours")
    for each in (listing, show, take, give, remove):
        add_json(each)
    for each in (take, give):
        add_overwrite(each)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "evaluate",
        "Measure few-shot segmentation on a folder of labelled scans.",
        f"Writes results.csv, report.md and plots to DIR and prints the report. {PAIRING} {EXIT_CODES}",
    )
    parser.add_argument("folder", type=path_in, metavar="FOLDER", help="with scans and their labels")
    parser.add_argument(
        "--supports",
        type=names_in,
        default=[],
        metavar="ID,ID,…",
        help="cases that are marked, in turn; only with --two-fold they can be left out",
    )
    parser.add_argument(
        "--queries", type=names_in, metavar="ID,ID,…", help="cases to segment; left out: all but the supports"
    )
    parser.add_argument(
        "--shots",
        type=numbers_in,
        default=[1],
        metavar="K,K,…",
        help="labelled scans at a time, e.g. 1,2,3,5,9 (default 1)",
    )
    parser.add_argument(
        "--methods",
        type=names_in,
        default=["knn"],
        metavar="NAME,…",
        help="knn (default), aligned, prototype, finetune, and box (body-box alignment, a baseline)",
    )
    parser.add_argument(
        "--models",
        type=names_in,
        default=[],
        metavar="NAME,…",
        help="for all but box: models' names or folders, or gvdiff, mind or xavier, which need no training",
    )
    parser.add_argument(
        "--output", type=path_in, required=True, metavar="DIR", help="an unfinished evaluation there is continued"
    )
    parser.add_argument(
        "--repeats",
        type=numbers_in,
        default=[5],
        metavar="N,…",
        help="support sets for each number of shots, at most: one number, or one for each (default 5)",
    )
    parser.add_argument(
        "--two-fold",
        action="store_true",
        help="each half of the cases is segmented from the other (paper, section 3.1)",
    )
    parser.add_argument("--save-segmentations", action="store_true", help="keep the labels that were scored")
    add_suffixes(parser)
    add_seed(parser)
    add_segmenter_settings(parser)
    add_overwrite(parser)
    add_device(parser)
    add_worker(parser)


def _add_demo(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "demo",
        "Make scans, pretrain briefly, segment from one support, score, report.",
        f"{PAIRING} {EXIT_CODES}",
    )
    parser.add_argument(
        "--data",
        type=path_in,
        metavar="FOLDER",
        help="real labelled scans instead of made ones; a model that fits them is taken when there is one",
    )
    parser.add_argument(
        "--output",
        type=path_in,
        default=Path("sslfewshot-demo"),
        metavar="DIR",
        help="folder for the report (default sslfewshot-demo)",
    )
    parser.add_argument("--minutes", type=float, default=1.0, metavar="M", help="of pretraining (default 1)")
    add_seed(parser)
    add_overwrite(parser)
    add_device(parser)


def _add_worker_command(commands: argparse._SubParsersAction) -> None:
    commands.add_parser(
        "worker",
        help="Compute for an application, or for another machine.",
        description="Compute for an application: JSON-RPC 2.0 on standard input and output, one object a line.",
        epilog=f"Started by programs, also through ssh; ends when they do. {EXIT_CODES}",
    )
