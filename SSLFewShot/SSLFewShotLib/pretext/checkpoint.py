"""Checkpoints of a training: everything that continues it exactly, nothing that can run code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.outputs import written_atomically

CHECKPOINT_NAME = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write atomically, so that a kill at any moment leaves the previous or the new checkpoint whole."""
    with written_atomically(folder / CHECKPOINT_NAME) as temporary:
        torch.save(state, temporary)


def load_checkpoint(folder: Path, identity: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Read a checkpoint of the training that `identity` describes.

    Raises InputError when there is none, it is damaged, or it belongs to other settings.
    """
    path = folder / CHECKPOINT_NAME
    if not path.exists():
        raise InputError(f"{folder}: no checkpoint to resume from; start it anew")
    try:
        # torch does not look at the checksums that it writes.
        with zipfile.ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:
                raise zipfile.BadZipFile(broken)
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict) or not isinstance(made_with := state["identity"], dict):
            raise TypeError("a dictionary was expected")
    except PermissionError as error:
        raise InputError(f"{path}: not allowed to read the checkpoint; change its permissions") from error
    except Exception as error:  # damaged bytes can make the unpickler raise anything
        raise InputError(f"{path}: the checkpoint is damaged; start again, overwriting it") from error
    for key, value in identity.items():
        if made_with.get(key) != value:
            raise InputError(
                f"{path}: the checkpoint was made with {key} = {made_with.get(key)}, not {value}; "
                "resume with the same settings, or start again, overwriting it"
            )
    return state
