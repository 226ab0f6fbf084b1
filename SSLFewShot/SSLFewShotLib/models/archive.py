"""A model as one `.zip`, to hand to somebody else: written the same every time, read with distrust.

The archive holds the files of the model's folder (`card.json`, `weights.safetensors`, perhaps `loss.csv` and
`loss.png`) and nothing else, without folders.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from pathlib import Path

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.models.card import CARD_FILE, MAX_CARD_BYTES, WEIGHTS_FILE, ModelCard
from SSLFewShotLib.models.folder import MODEL_FILES, plain_file, unpacked
from SSLFewShotLib.outputs import refuse_existing, written_atomically

MAX_WEIGHTS_BYTES = 1 << 30
MAX_EXTRA_BYTES = 16 << 20

_REMEDY = "get the archive again, or make it with `sslfewshot models export`"
_LARGEST = {CARD_FILE: MAX_CARD_BYTES, WEIGHTS_FILE: MAX_WEIGHTS_BYTES}
_ENCRYPTED = 0x1
_MSDOS_DIRECTORY = 0x10


def write_archive(folder: Path, archive: Path, overwrite: bool = False) -> None:
    """Write the model in `folder` to the zip file `archive`; the same model gives the same bytes.

    Raises InputError when `archive` exists and `overwrite` is not set, or is not named .zip.
    """
    archive = Path(archive)
    if archive.suffix.lower() != ".zip":
        raise InputError(f"{archive}: a model is exported as a zip archive; let its name end with .zip")
    refuse_existing(archive, overwrite)
    # Stored, not deflated: weights hardly shrink, and the bytes do not depend on the version of zlib.
    with written_atomically(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as target:
        for name in MODEL_FILES:
            if (folder / name).exists():
                entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.create_system = 3
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                target.writestr(entry, plain_file(folder, name).read_bytes())


def read_archive(archive: Path) -> tuple[ModelCard, dict[str, bytes]]:
    """Read and verify an archive without unpacking it: (card, file name → content).

    Every entry is judged by its raw name, kind and size before anything is decompressed; names come only from
    the list of a model's files, so that no path of the archive is ever used.

    Raises InputError when the archive holds anything but one valid model.
    """
    archive = Path(archive)
    if not archive.is_file():
        raise InputError(f"{archive}: no such file; expected a model archive (.zip)")
    try:
        with zipfile.ZipFile(archive) as source:
            entries = _checked_entries(archive, source.infolist())
            card = ModelCard.from_bytes(_read(source, entries[CARD_FILE]), f"{archive}, {CARD_FILE}")
            declared = entries[WEIGHTS_FILE].file_size
            if declared != card.weights["bytes"]:
                said = card.weights["bytes"]
                raise InputError(
                    f"{archive}: {WEIGHTS_FILE} has {declared} bytes where its card says {said}; {_REMEDY}"
                )
            contents = {name: _read(source, entry) for name, entry in entries.items()}
    except InputError:
        raise
    # zipfile raises all of these on damaged files, NotImplementedError for what it cannot decompress.
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        RuntimeError,
        ValueError,
        OverflowError,
    ) as error:
        raise InputError(f"{archive}: damaged, or not a zip archive ({error}); {_REMEDY}") from error
    except OSError as error:
        raise InputError(f"{archive}: could not be read ({error.strerror or error})") from error
    unpacked(card, contents[WEIGHTS_FILE], f"{archive}, {WEIGHTS_FILE}")
    return card, contents


def _checked_entries(archive: Path, listed: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in listed:
        # zipfile cuts `filename` at a NUL and turns separators round; the raw name is what was written.
        name = entry.orig_filename
        wrong = _wrong_name(name) or _wrong_kind(entry)
        if name in entries:
            wrong = "is there twice"
        if wrong:
            shown = "".join(letter if letter.isprintable() else " " for letter in name[:80])
            raise InputError(f"{archive}: the entry '{shown}' {wrong}; {_REMEDY}")
        entries[name] = entry
    for name in (CARD_FILE, WEIGHTS_FILE):
        if name not in entries:
            raise InputError(f"{archive}: {name} is missing in it, so it is no model archive; {_REMEDY}")
    return entries


def _wrong_name(name: str) -> str | None:
    parts = re.split(r"[/\\]", name)
    if parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", name):
        return "would leave the model's folder"
    if len(parts) > 1:
        return "is a folder or lies in one, where a model archive has none"
    if name not in MODEL_FILES:
        return f"is not a file of a model (these are {', '.join(MODEL_FILES)})"
    return None


def _wrong_kind(entry: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or entry.external_attr & _MSDOS_DIRECTORY:
        return "is a link or another special file"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in a way that is not read here (stored and deflated are)"
    largest = _LARGEST.get(entry.orig_filename, MAX_EXTRA_BYTES)
    if entry.file_size > largest:
        return f"is too large when decompressed ({entry.file_size} bytes, at most {largest})"
    return None


def _read(source: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The entry's content. Never more than the size that was judged: zipfile stops there and checks the CRC."""
    with source.open(entry) as stream:
        return stream.read(entry.file_size)
