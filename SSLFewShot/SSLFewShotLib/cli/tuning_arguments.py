"""The settings of fine-tuning, as arguments of `segment`, `evaluate` and `study`."""

from __future__ import annotations

import argparse


def add_tuning_settings(parser: argparse.ArgumentParser, keep: bool = False) -> None:
    """Add the arguments that `tuning_settings` reads; keep: --keep too."""
    group = parser.add_argument_group("fine-tuning (--method finetune; --all-components holds here too)")
    budget = group.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, metavar="M", help="of training on the supports (default 10)")
    budget.add_argument("--iterations", type=int, metavar="N", help="of training instead of minutes")
    group.add_argument(
        "--loss",
        choices=("bce-dice", "dice-ce"),
        help="binary cross-entropy and Dice, the share of Dice growing (default), or Dice and cross-entropy",
    )
    group.add_argument(
        "--frozen", type=float, metavar="SHARE", help="of the training, in which the encoder stays (default 0.2)"
    )
    group.add_argument(
        "--held-out",
        type=float,
        metavar="SHARE",
        help="of the marked voxels, in blocks, to see when it is enough (default 0.1; 0: it goes on to the end)",
    )
    group.add_argument("--learning-rate", type=float, metavar="R", help="of fine-tuning")
    group.add_argument(
        "--scratch", action="store_true", help="begin with random weights, of the networks that --model has"
    )
    group.add_argument(
        "--network",
        choices=("unet", "dense", "analysis"),
        help="where no model fits: a plain 3D U-Net (default), the densely connected one, or the pretext tasks'",
    )
    if keep:
        group.add_argument(
            "--keep", metavar="NAME", help="put the tuned model into the store; --model NAME needs no support then"
        )


def tuning_settings(arguments: argparse.Namespace) -> dict:
    """The settings of fine-tuning that were given."""
    names = ("minutes", "iterations", "loss", "frozen", "held_out", "learning_rate", "network", "keep")
    settings = {name: value for name in names if (value := getattr(arguments, name, None)) is not None}
    return settings | {"scratch": True} if arguments.scratch else settings
