"""The settings of prototypes and of their pretraining, as arguments of `segment`, `evaluate` and `pretrain`."""

from __future__ import annotations

import argparse

from SSLFewShotLib.cli.shared_arguments import names_in

_SIZE = ("I", "J", "K")


def add_prototype_settings(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `prototype_settings` reads."""
    group = parser.add_argument_group("prototypes (--spatial-weight and --all-components hold here too)")
    _add_size(group, "--window", "voxels of the model's spacing in a foreground window (default 2 2 2)")
    _add_size(group, "--background-window", "in a background window (default 3 3 3)")
    group.add_argument("--beta", type=float, metavar="B", help="above 0.5 favours the foreground (default 0.5)")


def prototype_settings(arguments: argparse.Namespace) -> dict:
    """The settings of prototypes that were given."""
    sizes = {name: getattr(arguments, name) for name in ("window", "background_window")}
    settings: dict = {name: size[::-1] for name, size in sizes.items() if size is not None}
    return settings if arguments.beta is None else settings | {"beta": arguments.beta}


def add_alpnet_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `alpnet_options` reads, and what to go on from."""
    parser.add_argument(
        "--start",
        metavar="NAME_OR_DIR",
        help="a model with the same networks to go on from; its extent holds",
    )
    parser.add_argument(
        "--labelled",
        type=names_in,
        metavar="ID,ID,…",
        help="learn from the labels of these cases of FOLDER (alpnet), instead of from all scans without labels; "
        "sides: of these instead of all labelled ones",
    )
    group = parser.add_argument_group("alpnet (the paper: 32 features, crop 128 128 24, window 16 16 6, 1 region)")
    group.add_argument(
        "--features", type=int, metavar="N", help="of the network's first level (default 12; encoders 16)"
    )
    _add_size(group, "--view-size", "voxels that the network sees (default 40 40 40)")
    _add_size(group, "--pool-window", "voxels of a prototype's window (default 4 4 4)")
    group.add_argument("--regions", type=int, metavar="N", help="supervoxels of each pair of views (default 8)")
    group.add_argument(
        "--supervoxel-mm3",
        type=float,
        metavar="V",
        help="volume of a supervoxel (default: that of a sixth of a unit)",
    )
    group.add_argument("--supervoxels", choices=("slic", "merged"), help="how they are made (default slic, paper)")
    group.add_argument(
        "--alignment-weight", type=float, metavar="W", help="of the prototype-alignment loss (default 1, paper)"
    )


def alpnet_options(arguments: argparse.Namespace) -> dict:
    """The options that were given, by the names of `pretext.alpnet.Alpnet`."""
    options = {
        "features": arguments.features,
        "regions": arguments.regions,
        "supervoxel_mm3": arguments.supervoxel_mm3,
        "generator": arguments.supervoxels,
        "alignment": arguments.alignment_weight,
        "crop": None if arguments.view_size is None else arguments.view_size[::-1],
        "window": None if arguments.pool_window is None else arguments.pool_window[::-1],
    }
    return {option: value for option, value in options.items() if value is not None}


def _add_size(group: argparse._ArgumentGroup, name: str, text: str) -> None:
    group.add_argument(name, type=int, nargs=3, metavar=_SIZE, help=text)
