"""Where a job's fine-tuning leaves its checkpoint, and how much of the job's time it takes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.segmentation.finetune import MINUTES
from SSLFewShotLib.segmentation.network_share import STEPS
from SSLFewShotLib.segmentation.segmenter import Segmenter

FOLDER_NAME = "finetune.training"
_SECONDS_A_SCAN = 10.0
_SECONDS_AN_ITERATION = 1.0
"""Of one core; only for the estimate of what is left."""
_READING = 0.02


def begin_in(
    output: Path, segmenter: Segmenter, resume: bool, overwrite: bool, targets: Sequence[Path] = ()
) -> None:
    """Have a segmenter that trains keep its checkpoint in a job's output folder, and go on from there.

    What it may learn from without labels are the job's targets, unless other scans were given.

    Raises InputError when an unfinished fine-tuning is there that is neither gone on with nor overwritten.
    """
    if not segmenter.trains:
        return
    folder = output / FOLDER_NAME
    if folder.exists() and not resume:
        if not overwrite:
            raise InputError(
                f"{folder}: an unfinished fine-tuning is there; resume the job, have it overwritten, or choose "
                "another output"
            )
        shutil.rmtree(folder)
    segmenter.folder, segmenter.resume = folder, resume
    segmenter.unlabelled = segmenter.unlabelled or list(targets)


def end_in(output: Path) -> None:
    """Remove the checkpoint of a job that has come to its end."""
    shutil.rmtree(output / FOLDER_NAME, ignore_errors=True)


def joins_network(method: str, settings: Mapping[str, Any]) -> bool:
    """Whether a job that aligns will join a trained network with it, which learns from the targets too."""
    return method in ("auto", "aligned") and (settings.get("speed") == "best" or bool(settings.get("trained")))


def tunes(method: str, settings: Mapping[str, Any]) -> bool:
    """Whether a job with this method and these settings will train a network, as far as can be told before."""
    return joins_network(method, settings) or _fine_tunes(method, settings)


def share_of_fitting(method: str, settings: Mapping[str, Any], scans: int) -> float:
    """The share of a job's time that fitting takes, as far as can be told before."""
    if joins_network(method, settings):
        seconds = _SECONDS_AN_ITERATION * int(settings.get("training_steps") or STEPS)
    elif not _fine_tunes(method, settings):
        return 1 / (1 + scans)
    elif settings.get("iterations"):
        seconds = _SECONDS_AN_ITERATION * int(settings["iterations"])
    else:
        seconds = 60 * float(settings.get("minutes") or MINUTES)
    return seconds / (seconds + _SECONDS_A_SCAN * scans)


def share_of_reading(method: str, settings: Mapping[str, Any], otherwise: float) -> float:
    """The share of fitting's time that reading the supports takes; `otherwise` where nothing is trained."""
    return _READING if tunes(method, settings) else otherwise


def _fine_tunes(method: str, settings: Mapping[str, Any]) -> bool:
    return method == "finetune" or (method == "auto" and bool({"minutes", "iterations"} & set(settings)))
