"""The settings of tasks that train an encoder for fine-tuning, as arguments of `pretrain`."""

from __future__ import annotations

import argparse

from SSLFewShotLib.cli.shared_arguments import names_in

_NAMES = ("pair", "levels", "spacing", "jitter", "permutations", "puzzles", "code", "margin")


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `encoder_options` reads."""
    group = parser.add_argument_group(
        "cpc, rpl, jigsaw, rotation, exemplar, sides (encoders for fine-tuning; --network, --features, --side too)"
    )
    group.add_argument(
        "--pair",
        type=names_in,
        metavar="NAME,NAME",
        help="sides: the left and the right segment (default: the only two whose names differ in left and right)",
    )
    group.add_argument(
        "--levels",
        type=int,
        metavar="N",
        help="halvings of the resolution (papers 4; cpc, rpl and jigsaw: default 3)",
    )
    group.add_argument(
        "--spacing",
        type=float,
        metavar="MM",
        help="between voxels (default: a thirtieth of a unit, 4 for a trunk)",
    )
    group.add_argument(
        "--jitter", type=int, metavar="N", help="voxels that patches lie off their grid (default 3; cpc: 1)"
    )
    group.add_argument("--permutations", type=int, metavar="N", help="of jigsaw (default 100, paper)")
    group.add_argument("--puzzles", type=int, metavar="N", help="of jigsaw for each grid of patches (default 16)")
    group.add_argument(
        "--code", type=int, metavar="N", help="numbers of a code: cpc 1024 (paper), exemplar 128, sides 64"
    )
    group.add_argument("--margin", type=float, metavar="M", help="of exemplar and sides (default 1, papers)")


def encoder_options(arguments: argparse.Namespace) -> dict:
    """The options that were given, by the names of the tasks' own settings."""
    return {name: getattr(arguments, name) for name in _NAMES if getattr(arguments, name) is not None}
