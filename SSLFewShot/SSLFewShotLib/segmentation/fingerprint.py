"""What a result was made from and with, so that a later run can tell whether it would come out the same."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from SSLFewShotLib.imaging.files import file_format, stem
from SSLFewShotLib.imaging.labelmap import Segment
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.models import installed_versions
from SSLFewShotLib.segmentation.segmenter import Segmenter

_ALSO_AT_WORK = ("faiss-cpu", "scipy", "scikit-image")

_contents: weakref.WeakKeyDictionary[SupportSet, str] = weakref.WeakKeyDictionary()


def fingerprint(support: SupportSet | None, segmenter: Segmenter, form: str, crop: str = "auto") -> dict[str, Any]:
    """All that decides what comes out for a scan, as plain JSON values.

    support: None for a segmenter that needs none.

    The support by its content, the model by its checksum, every setting, the format and the versions; neither
    files' names and places nor the device, on which results are the same to tolerance.
    """
    made_with = {
        "support": None if support is None else support_content(support),
        "segments": [s.name for s in (segmenter.segments_ if support is None else support.segments)],
        "segmenter": segmenter.provenance(),
        "format": form,
        **({} if crop == "auto" else {"crop": crop}),
        "versions": {**installed_versions(), **{name: _version(name) for name in _ALSO_AT_WORK}},
    }
    return json.loads(json.dumps(made_with))


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two fingerprints differ in, a phrase each: "settings.k was 9 and is 21"."""
    old, new = _flat(there), _flat(now)
    phrases = []
    for key in (*old, *(key for key in new if key not in old)):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if key == "support":
            phrases.append("the support is not the same (its scans or labels were changed)")
        elif key == "segmenter.descriptor":
            names = [(value or {}).get("name", "none") for value in (before, after)]
            same = "the weights or settings of the model {0} are others"
            phrases.append((same if names[0] == names[1] else "the model was {0} and is {1}").format(*names))
        else:
            phrases.append(f"{key.removeprefix('segmenter.')} was {_shown(before)} and is {_shown(after)}")
    return phrases


def support_content(support: SupportSet) -> str:
    """SHA-256 of what a support holds: voxels, geometry and segments, whatever the files are called.

    It is kept as long as the support is.
    """
    if support in _contents:
        return _contents[support]
    sha = hashlib.sha256()
    for segment in support.segments:
        sha.update(_text(_segment(segment)))
    for number, (volume, labels) in enumerate(support):
        sha.update(_text([volume.modality, [segment.name for segment in support.marked(number)]]))
        _add_volume(sha, volume)
        _add_volume(sha, labels)
        sha.update(_text([[_segment(segment) for segment in labels.segments], sorted(labels.layers.items())]))
    return _contents.setdefault(support, sha.hexdigest())


def scan_identity(path: Path, with_content: bool = True) -> dict[str, Any]:
    """Size, time of the last change and, when wanted, SHA-256 of a scan's files (a folder's, for DICOM).

    Raises OSError when a file cannot be read.
    """
    files = _files_of(path)
    states = [file.stat() for file in files]
    identity: dict[str, Any] = {
        "bytes": sum(state.st_size for state in states),
        "modified_ns": max((state.st_mtime_ns for state in states), default=0),
    }
    if with_content:
        identity["sha256"] = _content(files)
    return identity


def is_same_scan(path: Path, identity: Mapping[str, Any]) -> bool:
    """Whether a scan is the one that `scan_identity` described: untouched, or of the same content."""
    try:
        now = scan_identity(path, with_content=False)
        if now["bytes"] != identity.get("bytes"):
            return False
        if now["modified_ns"] == identity.get("modified_ns"):
            return True
        return "sha256" in identity and _content(_files_of(path)) == identity["sha256"]
    except OSError:
        return False


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    if file_format(path) in (".mhd", ".nhdr"):  # the voxels lie in a file beside it
        return sorted(file for file in path.parent.iterdir() if file.name.startswith(stem(path) + "."))
    return [path]


def _content(files: list[Path]) -> str:
    sha = hashlib.sha256()
    for file in files:
        with open(file, "rb") as opened:
            while chunk := opened.read(1 << 20):
                sha.update(chunk)
    return sha.hexdigest()


def _add_volume(sha: Any, volume: Volume) -> None:
    array = np.ascontiguousarray(volume.array)
    sha.update(_text([array.dtype.str, array.shape, volume.ijkToLps.tolist()]))
    sha.update(array.data.cast("B"))


def _segment(segment: Segment) -> list[Any]:
    return [segment.value, segment.name, list(segment.colour), segment.terminology, sorted(segment.tags.items())]


def _text(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as "outer.inner" → value; a model's own account stays whole."""
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        if isinstance(entry, Mapping) and key != "descriptor":
            flat |= _flat(entry, f"{prefix}{key}.")
        else:
            flat[prefix + key] = entry
    return flat


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "not there" if value is None else str(value)
