"""The settings of the k nearest neighbours, as arguments of `segment` and `evaluate`."""

from __future__ import annotations

import argparse

PLAIN_KNN = {"normalise": False, "spatial_weight": 0.0, "largest_component": False}
"""The vote of the context-feature paper (section 3.1)."""


def add_knn_settings(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `knn_settings` reads."""
    group = parser.add_argument_group("k nearest neighbours")
    group.add_argument("--k", type=int, metavar="N", help="neighbours that vote (default 21)")
    group.add_argument(
        "--spacing",
        type=float,
        metavar="MM",
        help="distance of the points that are classified (default: a 20th of the model's unit)",
    )
    group.add_argument(
        "--spatial-weight",
        type=float,
        metavar="W",
        help="how much the place in the body counts (default 2); 0: not at all",
    )
    group.add_argument(
        "--plain",
        action="store_true",
        help="the paper's: vectors as they are, no place in the body, all pieces kept",
    )
    group.add_argument(
        "--index",
        choices=("exact", "approximate"),
        help="search (default exact); the report states what an approximate one finds",
    )
    group.add_argument(
        "--all-components", action="store_true", help="keep all pieces of a segment, not the largest alone"
    )


def knn_settings(arguments: argparse.Namespace) -> dict:
    """The kNN settings that were given."""
    settings = dict(PLAIN_KNN) if arguments.plain else {}
    names = ("k", "spacing", "spatial_weight", "index")
    settings |= {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return settings | {"largest_component": False} if arguments.all_components else settings
