"""The settings of tasks on whole slices, as arguments of `pretrain`."""

from __future__ import annotations

import argparse


def add_slice_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `slice_options` reads."""
    group = parser.add_argument_group("slice-order, slice-rotation (the paper: resnet50)")
    group.add_argument(
        "--axes",
        metavar="LETTERS",
        help="slicing axes, of L, P and S (default: S for slice-order, LPS for slice-rotation)",
    )
    group.add_argument(
        "--network",
        choices=("small", "resnet50", "analysis", "dense"),
        help="small (default, for the CPU) or resnet50; tasks that train an encoder: analysis (default) or dense",
    )
    group.add_argument(
        "--side",
        type=int,
        metavar="N",
        help="pixels of a slice (default 96); there voxels of a patch (default 16; rotation, exemplar: 32)",
    )
    group.add_argument(
        "--positions", choices=("normal", "uniform"), help="where slice-order draws slices (default normal, paper)"
    )
    group.add_argument(
        "--rows",
        type=int,
        metavar="N",
        help="rows of slices, each of one scan, that a step of slice-order sorts (1)",
    )


def slice_options(arguments: argparse.Namespace) -> dict:
    """The options that were given, by the names of `pretext.slice_order` and `slice_rotation`."""
    names = ("axes", "network", "side", "positions", "rows")
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
