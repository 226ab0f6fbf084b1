"""Names of files that travel between client and worker: one rule for both sides.

A name is what remains of a path on the other side: parts joined by "/", of which none can lead out of the folder
that it is put in, on any system. Pure standard library of Python 3.9.
"""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import PurePosixPath

LONGEST_PART = 200
"""Bytes of one part in UTF-8; file systems take 255, of which results need some for their endings."""
_MOST_PARTS = 16

_NEVER = set('/\\:*?"<>|')
# What Windows opens instead of a file, whatever ending follows.
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"} | {
    f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"
}
# Characters that are no letter of a name: control, invisible, surrogate, unassigned, line ends.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def flaw_of(name: str) -> str:
    """What keeps a name of several parts from being used, in words without the name; "" for a good one."""
    parts = name.split("/")
    if len(parts) > _MOST_PARTS:
        return f"it has more than {_MOST_PARTS} parts"
    return next((flaw for part in parts for flaw in [_flaw_of_part(part)] if flaw), "")


def carried_name(name: str) -> str:
    """A name that `flaw_of` accepts for one part of a path: itself, or alike and marked with a checksum."""
    if not _flaw_of_part(name):
        return name
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    ending = "".join(PurePosixPath(name).suffixes[-2:])
    kept = name[: len(name) - len(ending)]
    kept, ending = (
        "".join("_" if _is_bad(character) else character for character in text) for text in (kept, ending)
    )
    if _flaw_of_part(f"x{ending}") or len(ending) > 20:
        ending = ""
    while len(f"{kept}-{mark}{ending}".encode()) > LONGEST_PART:
        kept = kept[:-1]
    found = f"{kept}-{mark}{ending}"
    return f"file-{mark}{ending}" if _flaw_of_part(found) else found


def _flaw_of_part(part: str) -> str:
    if not part or part in (".", ".."):
        return "a part of it is empty or leads to another folder"
    if any(_is_bad(character) for character in part):
        return "it holds a separator, a character that is not shown, or one that some systems do not allow"
    if len(part.encode("utf-8")) > LONGEST_PART:
        return f"a part of it is longer than {LONGEST_PART} bytes"
    # As file systems that fold characters (full-width dots, ligatures) would see it.
    folded = unicodedata.normalize("NFKC", part)
    for seen in (part, folded):
        if seen[-1:] in (".", " ") or seen[:1] == " " or not seen.strip(". "):
            return "a part of it begins with a space, or ends with a space or a dot"
        if any(character in _NEVER for character in seen):
            return "it holds a character that stands for a separator"
        if seen.split(".")[0].rstrip(" ").casefold() in _DEVICES:
            return "it is the name of a device"
    return ""


def _is_bad(character: str) -> bool:
    if character in _NEVER or unicodedata.category(character) in _INVISIBLE:
        return True
    return any(folded in _NEVER for folded in unicodedata.normalize("NFKC", character))
