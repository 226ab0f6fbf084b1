"""Boxes as files of 3D Slicer: Markups ROI, `.mrk.json`.

Source: Slicer's Markups JSON schema 1.0.3. "orientation" holds the axes as the columns of a matrix, row by row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.outputs import refuse_existing, write_text

ROI_ENDING = ".mrk.json"
_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_MOST_BYTES = 10_000_000


def write_roi(box: Box, path: Path | str, overwrite: bool = False) -> None:
    """Write a box as a Markups ROI.

    Raises InputError when the file exists, OutputError when it cannot be written.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    centre = box.centre.tolist()
    orientation = box.axes.ravel().tolist()
    markup = {
        "type": "ROI",
        "name": box.name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": 1,
        "roiType": "Box",
        "center": centre,
        "orientation": orientation,
        "size": box.size.tolist(),
        "insideOut": False,
        "controlPoints": [
            {
                "id": "1",
                "label": box.name,
                "description": f"certainty {box.certainty:.2f}",
                "associatedNodeID": "",
                "position": centre,
                "orientation": orientation,
                "selected": True,
                "locked": False,
                "visibility": True,
                "positionStatus": "defined",
            }
        ],
        "measurements": [],
        "display": {"visibility": True, "opacity": 1.0, "fillOpacity": 0.2, "handlesInteractive": True},
    }
    write_text(path, json.dumps({"@schema": _SCHEMA, "markups": [markup]}, indent=2, ensure_ascii=False) + "\n")


def read_roi(path: Path | str) -> Box:
    """Read the first box of a Markups file, in LPS or RAS.

    Raises InputError when the file is missing or damaged, or holds no box.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; a Markups ROI ({ROI_ENDING}) was expected")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        markups = json.loads(path.read_text(encoding="utf-8-sig"))["markups"]
        rois = [markup for markup in markups if markup.get("type") == "ROI"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{path}: not a readable Markups file; save the ROI again from Slicer") from None
    if not rois:
        raise InputError(f"{path}: holds no ROI; save a box (Markups ROI) from Slicer")
    return _box_of(rois[0], path)


def _box_of(markup: dict[str, Any], path: Path) -> Box:
    try:
        centre = markup.get("center") or markup["controlPoints"][0]["position"]
        orientation = np.reshape(markup.get("orientation", np.eye(3)), (3, 3)).astype(np.float64)
        centre, size = np.reshape(centre, 3).astype(np.float64), markup["size"]
    except (KeyError, IndexError, TypeError, ValueError):
        raise InputError(f"{path}: the ROI has no place or size; save it again from Slicer") from None
    if str(markup.get("coordinateSystem", "LPS")) in ("RAS", "0"):
        turn = np.array([-1.0, -1.0, 1.0])
        centre, orientation = turn * centre, turn[:, None] * orientation
    return Box(centre, size, orientation, str(markup.get("name") or path.name.removesuffix(ROI_ENDING)))
