"""The arguments of the command `sslfewshot`. Nothing heavy is imported, so that --help answers at once."""

from __future__ import annotations

import argparse
from pathlib import Path

from SSLFewShotLib.version import __version__

PLAIN_KNN = {"normalise": False, "spatial_weight": 0.0, "largest_component": False}
"""The vote of the context-feature paper (section 3.1)."""
DEVICE_HELP = "auto (default: a GPU when there is one), cpu, cuda, cuda:N or mps"


def build_parser() -> argparse.ArgumentParser:
    """The parser of `sslfewshot` with all its sub-commands; `command` names the one that was given."""
    parser = argparse.ArgumentParser(
        prog="sslfewshot",
        description="Label one scan, get the rest: few-shot segmentation of 3D medical images.",
    )
    parser.add_argument("--version", action="version", version=f"sslfewshot {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_segment(commands)
    _add_pretrain(commands)
    _add_models(commands)
    _add_evaluate(commands)
    _add_demo(commands)
    return parser


def _add_segment(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "segment", "Segment scans after one or more labelled ones.")
    parser.add_argument("targets", nargs="+", type=Path, metavar="TARGET", help="a scan, or a folder of scans")
    parser.add_argument(
        "--support",
        nargs=2,
        type=Path,
        action="append",
        required=True,
        metavar=("IMAGE", "LABELS"),
        help="a labelled scan; may be given several times",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--method", default="knn", help="knn (default) or box (body-box alignment, a baseline)")
    parser.add_argument("--model", help="name or folder; left out: the one that fits the support best")
    parser.add_argument("--format", default="nii.gz", choices=("nii.gz", "nrrd", "seg.nrrd"))
    parser.add_argument("--segments", nargs="+", metavar="NAME", help="only these segments of the support")
    _add_knn_settings(parser)
    _add_overwrite(parser)
    _add_device(parser)


def _add_pretrain(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "pretrain", "Pretrain a descriptor on a folder of unlabelled scans.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--method", default="heatmap", help="heatmap (default), reg2d or doersch")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="MODEL_DIR",
        help="the model's folder; its name is the model's",
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--iterations", type=int, metavar="N")
    budget.add_argument("--minutes", type=float, metavar="M", help="default: 30")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint of an interrupted run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--batch-size", type=int, default=16, metavar="N", help="pairs an iteration and axis (default 16, paper 8)"
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=1e-3,
        metavar="R",
        help="default 0.001 (paper 0.00005, for 800,000 iterations)",
    )
    parser.add_argument(
        "--schedule", choices=("cosine", "constant"), default="cosine", help="of the learning rate"
    )
    parser.add_argument("--modality", help="CT, MR, …; left out: found from the scans")
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
    parser.add_argument("--data-source", default="the user's own folder", help="for the model's card")
    parser.add_argument("--data-licence", default="not stated", help="for the model's card")
    _add_overwrite(parser)
    _add_device(parser)


def _add_models(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("models", help="List, show, import, export and remove models.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="all models")
    show = actions.add_parser("show", help="a model's card")
    show.add_argument("name", metavar="NAME")
    take = actions.add_parser("import", help="take a model's archive (.zip) or folder into the store")
    take.add_argument("archive", type=Path, metavar="ARCHIVE")
    give = actions.add_parser("export", help="write a model as an archive (.zip)")
    give.add_argument("name", metavar="NAME")
    give.add_argument("archive", type=Path, metavar="ARCHIVE")
    remove = actions.add_parser("remove", help="remove one of your models")
    remove.add_argument("name", metavar="NAME")
    for action in (listing, show, take, give, remove):
        _add_json(action)
    for action in (take, give):
        _add_overwrite(action)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "evaluate", "Measure few-shot segmentation on a folder of labelled scans.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--supports", type=_list, required=True, metavar="ID,ID,…", help="cases that are marked, in turn"
    )
    parser.add_argument(
        "--queries", type=_list, metavar="ID,ID,…", help="cases to segment; left out: all but the supports"
    )
    parser.add_argument(
        "--shots", type=_numbers, default=[1], metavar="K,K,…", help="labelled scans at a time, e.g. 1,2,3,5,9"
    )
    parser.add_argument("--methods", type=_list, default=["knn"], metavar="NAME,…")
    parser.add_argument(
        "--models",
        type=_list,
        required=True,
        metavar="NAME,…",
        help="names or folders; gvdiff, mind and xavier need no training",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="an unfinished evaluation there is continued"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="support sets for each number of shots, at most (default 5)"
    )
    parser.add_argument(
        "--two-fold",
        action="store_true",
        help="each half of the cases is segmented from the other (paper, section 3.1)",
    )
    parser.add_argument("--save-segmentations", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    _add_knn_settings(parser)
    _add_overwrite(parser)
    _add_device(parser)


def _add_demo(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "demo", "Make scans, pretrain briefly, segment from one support, score, report.")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="real labelled scans instead of made ones")
    parser.add_argument("--output", type=Path, default=Path("sslfewshot-demo"), metavar="DIR")
    parser.add_argument("--minutes", type=float, default=1.0, help="of pretraining (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    _add_overwrite(parser)
    _add_device(parser)


def _add_knn_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("k nearest neighbours")
    group.add_argument("--k", type=int, help="neighbours that vote (default 21)")
    group.add_argument("--spacing", type=float, metavar="MM", help="distance of the points that are classified")
    group.add_argument(
        "--spatial-weight", type=float, metavar="W", help="how much the place in the body counts; 0: not at all"
    )
    group.add_argument(
        "--plain",
        action="store_true",
        help="the paper's: vectors as they are, no place in the body, all pieces kept",
    )
    group.add_argument("--index", choices=("exact", "approximate"))
    group.add_argument(
        "--all-components", action="store_true", help="keep all pieces of a segment, not the largest alone"
    )


def knn_settings(arguments: argparse.Namespace) -> dict:
    """The kNN settings that were given."""
    settings = dict(PLAIN_KNN) if arguments.plain else {}
    names = ("k", "spacing", "spatial_weight", "index")
    settings |= {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return settings | {"largest_component": False} if arguments.all_components else settings


def _command(commands: argparse._SubParsersAction, name: str, summary: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=summary)
    _add_json(parser)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the result on standard output as JSON")


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in _list(text)]
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError("whole numbers from 1 up were expected, such as 1,2,3")
    return numbers
