"""The scans of a job by the names that their results get."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.cases import find_scans
from SSLFewShotLib.imaging.files import stem
from SSLFewShotLib.imaging.tiff_stack import is_tiff_stack


def named_targets(given: Sequence[Path], tiff_stacks: bool = False) -> dict[str, Path]:
    """Stem of the results → path, of every scan at or below the given paths.

    tiff_stacks: whether a folder of TIFF slices is a scan too.

    Raises InputError when there is no target or two have the same name.
    """
    if not given:
        raise InputError("no target was given: name at least one scan")
    named: dict[str, Path] = {}
    for entry in map(Path, given):
        for path in [entry] if tiff_stacks and is_tiff_stack(entry) else find_scans(entry):
            name = stem(path)
            if name in named and named[name].resolve() != path.resolve():
                raise InputError(
                    f"{path}: has the same name as {named[name]}, so that one result would replace the other; "
                    "give them different output folders"
                )
            named[name] = path
    return named
