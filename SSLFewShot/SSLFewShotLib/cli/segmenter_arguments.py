"""The settings of all segmenters, as arguments of `segment` and `evaluate`."""

from __future__ import annotations

import argparse

from SSLFewShotLib.cli.knn_arguments import add_knn_settings, knn_settings
from SSLFewShotLib.cli.prototype_arguments import add_prototype_settings, prototype_settings
from SSLFewShotLib.cli.tuning_arguments import add_tuning_settings, tuning_settings


def add_segmenter_settings(parser: argparse.ArgumentParser, keep: bool = False) -> None:
    """Add the arguments that `segmenter_settings` reads; keep: --keep too."""
    parser.add_argument(
        "--speed",
        choices=("fast", "balanced", "best"),
        help="of aligned: fast gives up some accuracy for time, best trains a network on the supports first, "
        "which takes minutes; default: balanced",
    )
    parser.add_argument(
        "--unlabelled",
        nargs="+",
        metavar="PATH",
        help="scans, or folders of them, that the best speed learns from as well; segment takes those that it is "
        "given, where there are at least four",
    )
    add_knn_settings(parser)
    add_prototype_settings(parser)
    add_tuning_settings(parser, keep)


def segmenter_settings(arguments: argparse.Namespace) -> dict:
    """The settings of segmenters that were given."""
    settings = knn_settings(arguments) | prototype_settings(arguments) | tuning_settings(arguments)
    own = {name: given for name in ("speed", "unlabelled") if (given := getattr(arguments, name)) is not None}
    return settings | own
