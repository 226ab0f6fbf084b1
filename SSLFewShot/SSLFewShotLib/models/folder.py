"""A model's folder: `card.json`, `weights.safetensors` and what may lie beside them.

Only JSON and safetensors are read, so that nothing which is loaded can run code.
"""

from __future__ import annotations

import dataclasses
import filecmp
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.models.card import CARD_FILE, MAX_CARD_BYTES, WEIGHTS_FILE, ModelCard
from SSLFewShotLib.outputs import refuse_existing, written_atomically

EXTRA_FILES = ("loss.csv", "loss.png")
MODEL_FILES = (CARD_FILE, WEIGHTS_FILE, *EXTRA_FILES)

_REMEDY = "get the model again"


def save_model(
    folder: Path,
    card: ModelCard,
    tensors: Mapping[str, np.ndarray],
    extras: Mapping[str, Path] | None = None,
    overwrite: bool = False,
) -> ModelCard:
    """Write a model's folder and return its card with `weights` filled in.

    tensors: name → array of any shape, in a type that safetensors knows (float16/32/64, integers, bool).
    extras: "loss.csv" and "loss.png" → the file to copy.

    The folder appears whole or not at all. Other files in an existing folder (checkpoints) are left alone;
    a model there is replaced only with `overwrite`.

    Raises InputError when the card or a tensor is not valid or the model exists, OutputError when the folder
    cannot be written.
    """
    folder = Path(folder)
    extras = {name: Path(path) for name, path in (extras or {}).items()}
    for name, path in extras.items():
        if name not in EXTRA_FILES:
            known = " and ".join(EXTRA_FILES)
            raise InputError(f"{name}: cannot lie in a model's folder; beside card and weights only {known} can")
        if not path.is_file():
            raise InputError(f"{path}: no such file to keep as {name} of the model")
    content = _packed(card.name, tensors)
    card = dataclasses.replace(
        card,
        weights={"file": WEIGHTS_FILE, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)},
    )
    card_content = card.to_bytes()

    def write(staged: Path) -> None:
        (staged / WEIGHTS_FILE).write_bytes(content)
        for name, path in extras.items():
            shutil.copyfile(path, staged / name)
        (staged / CARD_FILE).write_bytes(card_content)

    place_model(folder, write, overwrite)
    return ModelCard.from_bytes(card_content, folder / CARD_FILE)


def load_model(folder: Path) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Read a model's folder, verified against its card: (card, name → array).

    Raises InputError when a file is missing, is a link that leaves the folder, or is not what the card says.
    """
    folder = Path(folder)
    card = read_card(folder)
    path = folder / WEIGHTS_FILE
    # The bytes that are parsed are the very bytes that were checked, whatever happens to the file meanwhile.
    return card, unpacked(card, _content(path), path)


def read_card(folder: Path) -> ModelCard:
    """Read a model's card and see that weights of the right size lie beside it; the checksum is not computed.

    Raises InputError as `load_model` does.
    """
    folder = Path(folder)
    path = plain_file(folder, CARD_FILE)
    if path.stat().st_size > MAX_CARD_BYTES:
        raise InputError(f"{path}: larger than {MAX_CARD_BYTES >> 20} MiB, not a model card; {_REMEDY}")
    card = ModelCard.from_bytes(_content(path), path)
    weights = plain_file(folder, card.weights["file"])
    _check_size(card, weights.stat().st_size, weights)
    return card


def unpacked(card: ModelCard, content: bytes, source: Path | str) -> dict[str, np.ndarray]:
    """The tensors in the bytes of a weights file, once size and checksum are those of the card.

    Raises InputError, naming `source`, when they are not, or when the bytes are no safetensors.
    """
    _check_size(card, len(content), source)
    if hashlib.sha256(content).hexdigest() != card.weights["sha256"]:
        raise InputError(f"{source}: its checksum (SHA-256) is not the one on the card; {_REMEDY}")
    try:
        return safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: not a readable safetensors file; only that format is loaded") from error


def is_model(folder: Path) -> bool:
    """Whether a model lies in `folder`, a broken one perhaps."""
    return any(os.path.lexists(folder / name) for name in (CARD_FILE, WEIGHTS_FILE))


def plain_file(folder: Path, name: str) -> Path:
    """The path of the file `name` directly in `folder`. Raises InputError when it is missing or lies elsewhere."""
    path = folder / name
    if not folder.is_dir():
        raise InputError(f"{folder}: no such model folder; expected a folder with {CARD_FILE} and {WEIGHTS_FILE}")
    if path.is_symlink() and Path(os.path.realpath(folder)) not in Path(os.path.realpath(path)).parents:
        raise InputError(f"{path}: a link that leaves the model's folder; put the file itself there")
    if not path.is_file():
        raise InputError(f"{path}: missing; a model folder holds {CARD_FILE} and {WEIGHTS_FILE}")
    return path


def place_model(folder: Path, write: Callable[[Path], None], overwrite: bool) -> None:
    """Have `write` fill a temporary folder, then move its files to `folder` by renaming only.

    A new folder appears whole. In an existing one the model's files are exchanged, put back when that fails,
    and all other files are left alone.

    Raises InputError when `folder` holds a model, or another loss curve than the one to write, and `overwrite`
    is not set; OutputError when the folder cannot be written.
    """
    if not folder.exists():
        with written_atomically(folder) as staged:
            staged.mkdir()
            write(staged)
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: a file has this name; a model is written as a folder, choose another output")
    for name in (CARD_FILE, WEIGHTS_FILE):
        refuse_existing(folder / name, overwrite)
    with written_atomically(folder / CARD_FILE) as staged_card:
        staged = staged_card.parent
        write(staged)
        for name in EXTRA_FILES:
            # A training that keeps its curve in the very folder finds it there.
            new, old = staged / name, folder / name
            if new.exists() and old.exists() and not filecmp.cmp(new, old, shallow=False):
                refuse_existing(old, overwrite)
        _exchange(staged, folder)
        # The card is moved last, on leaving: a folder without a card is no model, never half of two.


def _exchange(staged: Path, folder: Path) -> None:
    """Move the old model's files out of `folder` and all new ones but the card in; undo all when one fails."""
    replaced = is_model(folder)
    moves = [
        (folder / name, staged / f"old-{name}")
        for name in MODEL_FILES
        if os.path.lexists(folder / name) and (replaced or (staged / name).exists())
    ]
    moves += [(staged / name, folder / name) for name in MODEL_FILES[1:] if (staged / name).exists()]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            os.replace(source, target)
            done.append((source, target))
    except BaseException:  # an interrupt too: the temporary folder, and the old files in it, go next
        for source, target in reversed(done):
            os.replace(target, source)
        raise


def _packed(name: str, tensors: Mapping[str, np.ndarray]) -> bytes:
    if not tensors:
        raise InputError(f"model {name}: no weights were given to save")
    for key, tensor in tensors.items():
        if not isinstance(tensor, np.ndarray):
            raise InputError(f"model {name}: weights {key} are a {type(tensor).__name__}, expected a numpy array")
        if np.issubdtype(tensor.dtype, np.inexact) and not np.isfinite(tensor).all():
            raise InputError(f"model {name}: weights {key} are not finite; the training diverged, lower its rate")
    try:
        # safetensors takes the memory as it lies: of a transposed array it would keep other values.
        return safetensors.numpy.save({key: _native(tensor) for key, tensor in tensors.items()})
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        kinds = ", ".join(sorted({str(tensor.dtype) for tensor in tensors.values()}))
        raise InputError(f"model {name}: weights of type {kinds} cannot be kept as safetensors") from error


def _native(tensor: np.ndarray) -> np.ndarray:
    """The array in C order and this machine's byte order, of the same shape (also of none)."""
    return np.asarray(tensor, dtype=tensor.dtype.newbyteorder("="), order="C")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: could not be read ({error.strerror or error})") from error


def _check_size(card: ModelCard, size: int, source: Path | str) -> None:
    if size != card.weights["bytes"]:
        raise InputError(f"{source}: has {size} bytes where its card says {card.weights['bytes']}; {_REMEDY}")
