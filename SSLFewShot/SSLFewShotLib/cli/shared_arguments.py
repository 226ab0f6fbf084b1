"""What the arguments of several sub-commands of `sslfewshot` share: sentences, options and kinds of values."""

from __future__ import annotations

import argparse
from pathlib import Path

EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong use or input (also of some targets only), 130 cancelled."
SCANS = "Scans are .nrrd, .nii.gz, .nii, .mha and .mhd files and folders of DICOM slices."
MODELS = "a model's name or folder, or gvdiff, mind or xavier, which need no training; several joined with +"
PAIRING = (
    "A case is a scan and its labels with a common stem: pt_013_ct.nii.gz or pt_013.nii.gz belongs to "
    "pt_013_seg.nii.gz, pt_013-labels.nrrd or pt_013.seg.nrrd. Label files end in .seg.nrrd, or their stem in "
    "seg, segmentation, label, labels, labelmap, mask or masks."
)


def add_command(
    commands: argparse._SubParsersAction, name: str, summary: str, epilog: str
) -> argparse.ArgumentParser:
    """Add a sub-command that gives a result, and so has --json too."""
    parser = commands.add_parser(name, help=summary, description=summary, epilog=epilog)
    add_json(parser)
    return parser


def add_targets(parser: argparse.ArgumentParser) -> None:
    """Add the scans that something is done with."""
    parser.add_argument("targets", nargs="+", type=path_in, metavar="TARGET", help="a scan, or a folder of scans")


def add_support(parser: argparse.ArgumentParser, more: str, required: bool = False) -> None:
    """Add --support; more: what there is to say of it."""
    parser.add_argument(
        "--support",
        nargs=2,
        type=path_in,
        action="append",
        required=required,
        default=None if required else [],
        metavar=("IMAGE", "LABELS"),
        help=f"a labelled scan; may be given several times, {more}",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add --output for results."""
    parser.add_argument("--output", type=path_in, required=True, metavar="DIR", help="folder for the results")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="the result on standard output as JSON")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add --overwrite."""
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add --seed."""
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="same seed, same result (default 0)")


def add_suffixes(parser: argparse.ArgumentParser) -> None:
    """Add --image-suffix and --label-suffix, for names that `PAIRING` does not cover."""
    parser.add_argument(
        "--image-suffix", metavar="TEXT", help="what images' names end in instead of the rule below, such as _t1"
    )
    parser.add_argument(
        "--label-suffix", metavar="TEXT", help="what labels' names end in instead of the rule below, such as _gt"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    help = "auto (default: a GPU when there is one), cpu, cuda, cuda:N or mps"
    parser.add_argument("--device", default="auto", metavar="NAME", help=help)


def add_worker(parser: argparse.ArgumentParser) -> None:
    """Add --worker."""
    parser.add_argument(
        "--worker",
        metavar="COMMAND",
        help="have it computed by the worker that this command starts, such as 'ssh HOST sslfewshot worker'",
    )


def given(text: str) -> str:
    """A text that is not empty, as an unset variable of a script would be; argparse's error for one that is."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; a name was expected")
    return text


def path_in(text: str) -> Path:
    """A path, which is never the present folder by mistake: see `given`."""
    return Path(given(text))


def names_in(text: str) -> list[str]:
    """`a,b` as a list; what is empty is left out."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers_in(text: str) -> list[int]:
    """`1,2` as numbers. Raises argparse's error, which ends the command, for anything but whole ones from 1 up."""
    numbers = [int(part) if part.isdecimal() else 0 for part in names_in(text)]
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text}: whole numbers from 1 up were expected, such as 1,2,3")
    return numbers
