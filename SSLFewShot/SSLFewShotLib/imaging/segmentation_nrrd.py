"""Slicer's segmentation files (.seg.nrrd): names, colours, terminology and overlapping segments.

Source of the format: 3D Slicer's user guide, "Segmentation file format" (image computing, segmentations), and
what `vtkMRMLSegmentationStorageNode` reads and writes. Segments that do not overlap share a layer; several
layers are a fourth, fastest axis of kind `list`.
"""

from __future__ import annotations

import functools
import gzip
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.labelmap import LabelMap, Segment, as_labels, default_colour, present_values
from SSLFewShotLib.progress import Progress, ignore_progress, watched

_TERMINOLOGY = "TerminologyEntry"
_ID = "ID"


def has_segments(metadata: dict[str, str]) -> bool:
    """Whether the key-value pairs of a NRRD file describe segments."""
    return any(re.fullmatch(r"Segment\d+_(ID|Name|LabelValue)", key) for key in metadata)


def labels_from_segmentation(
    array: np.ndarray,
    matrix: np.ndarray,
    metadata: dict[str, str],
    name: str,
    progress: Progress = ignore_progress,
) -> LabelMap:
    """Build the label map of a segmentation file.

    array: (K, J, I), or (K, J, I, L) layers; matrix: (4, 4) ijkToLps; metadata: the file's key-value pairs.

    Slicer numbers the segments of every layer from 1, a `LabelMap` has one number a segment: where numbers
    meet, all segments are renumbered 1..S in the file's order. Voxels that belong to no listed segment become
    background, with an `InputWarning`.
    Raises InputError when a segment lies in a layer that the file does not have.
    """
    what = f"sorting the segments of {name}"
    array = watched(functools.partial(as_labels, array, name), progress, 1.0, what)
    stored = array if array.ndim == 4 else array[..., np.newaxis]
    entries = _entries(metadata, stored.shape[-1], name)
    values = [entry.value for entry in entries]
    if len(set(values)) != len(values):
        values = list(range(1, len(entries) + 1))

    largest = max(int(stored.max()), *(entry.value for entry in entries), *values, 1)
    layers = np.empty(stored.shape, np.uint8 if max(values) < 256 else np.int16)
    unlisted: set[int] = set()
    for layer in range(stored.shape[-1]):
        lookup = np.zeros(largest + 1, layers.dtype)
        for entry, value in zip(entries, values, strict=True):
            if entry.layer == layer:
                lookup[entry.value] = value
        here = stored[..., layer]
        layers[..., layer] = watched(functools.partial(lookup.__getitem__, here), progress, 1.0, what)
        present = watched(functools.partial(present_values, here), progress, 1.0, what)
        unlisted |= {v for v in present if not lookup[v]}
    if unlisted:
        warnings.warn(
            f"{name}: label values {sorted(unlisted)} belong to no segment of the file; taken as background",
            InputWarning,
            stacklevel=2,
        )

    segments = [
        Segment(value, entry.name, entry.colour or default_colour(value), entry.terminology, entry.tags)
        for entry, value in zip(entries, values, strict=True)
    ]
    if layers.shape[-1] == 1:
        return LabelMap(layers[..., 0], matrix, name, segments=segments)
    where = {value: entry.layer for entry, value in zip(entries, values, strict=True)}
    return LabelMap(layers, matrix, name, segments=segments, layers=where)


@dataclass(frozen=True)
class _Entry:
    value: int
    layer: int
    name: str
    colour: tuple[float, float, float] | None
    terminology: str
    tags: dict[str, str]


def _entries(metadata: dict[str, str], layers: int, name: str) -> list[_Entry]:
    numbers = sorted({int(m[1]) for key in metadata if (m := re.match(r"Segment(\d+)_", key))})
    entries = []
    for number in numbers:

        def value(key: str, default: str = "", prefix: str = f"Segment{number}_") -> str:
            return _text(metadata.get(prefix + key, default))

        # Files written before Slicer 4.11 have one layer a segment and the value 1 in each.
        try:
            label = int(value("LabelValue", "1"))
            layer = int(value("Layer", str(number)))
        except ValueError:
            raise InputError(f"{name}: the label value or layer of segment {number} is not a number") from None
        if not 0 <= layer < layers or label < 1:
            raise InputError(
                f"{name}: segment {number} has label value {label} in layer {layer}, but the file has "
                f"{layers} layer(s) with values from 1 up; save the segmentation again in Slicer"
            )
        tags = _parsed_tags(value("Tags"))
        terminology = tags.pop(_TERMINOLOGY, "")
        if value(_ID):
            tags[_ID] = value(_ID)
        shown = value("Name") or value(_ID) or f"Segment_{number + 1}"
        entries.append(_Entry(label, layer, shown, _parsed_colour(value("Color")), terminology, tags))
    return entries


def _text(value: str) -> str:
    """A value as text: files that other programs wrote in Latin-1 reach us with their bytes escaped."""
    stored = value.encode("utf-8", "surrogateescape")
    try:
        return stored.decode("utf-8")
    except UnicodeDecodeError:
        return stored.decode("latin-1")


def _parsed_tags(text: str) -> dict[str, str]:
    pairs = (part.partition(":") for part in text.split("|") if part)
    return {key.strip(): value.strip() for key, _, value in pairs if key.strip()}


def _parsed_colour(text: str) -> tuple[float, float, float] | None:
    try:
        red, green, blue = (min(max(float(part), 0.0), 1.0) for part in text.split())
    except ValueError:
        return None
    return red, green, blue


def write_segmentation(labels: LabelMap, path: Path, progress: Progress = ignore_progress) -> None:
    """Write a label map as Slicer writes a segmentation: gzip-compressed NRRD with `Segment…` keys.

    A single layer is a plain 3D NRRD that every reader of NRRD takes for a label map.
    """
    layers = labels.array
    if layers.ndim == 4 and layers.shape[-1] == 1:
        layers = layers[..., 0]
    layers = layers.astype(layers.dtype.newbyteorder("<"), copy=False)
    header = "\n".join([*_fields(labels, layers), *_keys(labels), "", ""])
    with open(path, "wb") as file:
        file.write(header.encode())
        # No time stamp: the same labels give the same file.
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as stream:
            for number, plane in enumerate(layers):
                progress(number / len(layers), f"writing {path.name}")
                stream.write(np.ascontiguousarray(plane).tobytes())


def _fields(labels: LabelMap, layers: np.ndarray) -> list[str]:
    several = layers.ndim == 4
    sizes = [*([layers.shape[3]] if several else []), *labels.size]
    directions = [_vector(labels.ijkToLps[:3, axis]) for axis in range(3)]
    return [
        "NRRD0004",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {'unsigned char' if layers.dtype.itemsize == 1 else 'short'}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {' '.join([*(['none'] if several else []), *directions])}",
        f"kinds: {'list ' if several else ''}domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(labels.origin)}",
    ]


def _vector(numbers: np.ndarray) -> str:
    return "(" + ",".join(repr(float(number)) for number in numbers) + ")"


def _keys(labels: LabelMap) -> list[str]:
    extent = " ".join(f"0 {n - 1}" for n in labels.size)
    keys = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": f"Reference image geometry|{_geometry(labels)}|&",
        # Slicer up to 5.2 reads the older name of the same field.
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_SourceRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    taken: set[str] = set()
    for number, segment in enumerate(labels.segments):
        identity = segment.tags.get(_ID) or f"Segment_{segment.value}"
        while identity in taken:
            identity += "_1"
        taken.add(identity)
        tags = {key: value for key, value in segment.tags.items() if key != _ID}
        if segment.terminology:
            tags[_TERMINOLOGY] = segment.terminology
        prefix = f"Segment{number}_"
        keys |= {
            prefix + _ID: identity,
            prefix + "Name": segment.name,
            prefix + "NameAutoGenerated": "0",
            prefix + "Color": " ".join(repr(float(channel)) for channel in segment.colour),
            prefix + "ColorAutoGenerated": "0",
            # Slicer crops a layer to the extent of its first segment, so every segment names the whole grid.
            prefix + "Extent": extent,
            prefix + "LabelValue": str(segment.value),
            prefix + "Layer": str(labels.layers.get(segment.value, 0)),
            prefix + "Tags": "".join(f"{key}:{value}|" for key, value in tags.items()),
        }
    return [f"{key}:={_escaped(value)}" for key, value in keys.items()]


def _geometry(labels: LabelMap) -> str:
    """The grid as vtkSegmentationConverter::SerializeImageGeometry writes it: ijkToRas and extent."""
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ labels.ijkToLps
    extent = [bound for n in labels.size for bound in (0, n - 1)]
    return "".join(f"{number!r};" for number in [*to_ras.ravel().tolist(), *extent])


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "")
