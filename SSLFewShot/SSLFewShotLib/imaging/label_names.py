"""Names for the numbers of a plain label file, from a JSON file beside it."""

from __future__ import annotations

import json
from pathlib import Path

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.labelmap import Segment, default_colour


def named_segments(folder: Path, stem: str) -> list[Segment]:
    """Segments from `<stem>_labels.json`, else `labels.json`, in `folder`; empty when there is neither.

    The file says {"1": "Brainstem", …} or {"1": {"name": "Brainstem", "color": [r, g, b]}, …}, colours in 0..1
    or 0..255; the background, 0, is passed over. Raises InputError when it says something else.
    """
    candidates = (folder / f"{stem}_labels.json", folder / "labels.json")
    sidecar = next((candidate for candidate in candidates if candidate.is_file()), None)
    if sidecar is None:
        return []
    try:
        entries = json.loads(sidecar.read_text(encoding="utf-8-sig"))
        segments = [_segment(int(value), entry) for value, entry in entries.items() if int(value) != 0]
    except (ValueError, TypeError, KeyError, AttributeError, OSError):
        raise InputError(
            f'{sidecar}: {{"1": "name", …}} or {{"1": {{"name": …, "color": [r, g, b]}}, …}} was expected; '
            "correct or remove the file"
        ) from None
    return segments


def _segment(value: int, entry: str | dict) -> Segment:
    if isinstance(entry, str):
        return Segment(value, entry, default_colour(value))
    colour = entry.get("color") or entry.get("colour")
    if colour is None:
        return Segment(value, str(entry["name"]), default_colour(value))
    red, green, blue = (float(channel) for channel in colour)
    scale = 255.0 if max(red, green, blue) > 1 else 1.0
    return Segment(value, str(entry["name"]), (red / scale, green / scale, blue / scale))
