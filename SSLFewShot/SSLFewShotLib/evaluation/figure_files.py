"""Writing a figure: format by the path's ending, atomically, nothing replaced unasked."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.outputs import refuse_existing, written_atomically

_FORMATS = (".png", ".pdf", ".svg")


def save_figure(figure: Figure, path: str | Path, overwrite: bool = False) -> None:
    """Write a figure as .png, .pdf or .svg.

    Raises InputError for another ending, or when `path` exists and `overwrite` is not set.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"{path}: a picture is written as {', '.join(_FORMATS)}; choose one of these endings")
    refuse_existing(path, overwrite)
    with written_atomically(path) as temporary:
        figure.savefig(temporary, dpi=160, facecolor=figure.get_facecolor())
