"""Reading a support from files, and whether a file can hold its segments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.files import read_labels, read_volume
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.resampling import labels_on_grid
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion, watched


def read_support(
    pairs: Sequence[tuple[Path, Path]],
    segment_names: Sequence[str] | None = None,
    progress: Progress = ignore_progress,
) -> SupportSet:
    """Read (image, labels) files; labels on another grid are resampled to the image, with a warning.

    Raises InputError when a file is unusable or given as both, image and labels do not overlap in space, or
    nothing is marked.
    """
    read: list[tuple[Volume, LabelMap]] = []
    for number, (image, labels) in enumerate(pairs):
        if Path(image).resolve() == Path(labels).resolve():
            raise InputError(f"{image}: given as a scan and as its labels too; name the scan and then its labels")
        part = portion(progress, number / len(pairs), (number + 1) / len(pairs))
        part(0.0, "reading the support")
        volume = read_volume(image, portion(part, 0.0, 0.5))
        part(0.5, "reading the support's labels")
        marked = read_labels(labels, portion(part, 0.5, 0.9))
        read.append((volume, labels_on_grid(marked, volume, portion(part, 0.9, 1.0))))
    return watched(lambda: SupportSet(read, segment_names), progress, 1.0, "reading the support")


def check_format(format: str, support: SupportSet) -> None:
    """Raise InputError when a format cannot hold the segments of a support, because they overlap."""
    if format != "seg.nrrd" and any(_in_several_layers(support, n) for n in range(len(support))):
        raise InputError(
            f"the support's segments overlap, which .{format} cannot hold; choose the format seg.nrrd"
        )


def _in_several_layers(support: SupportSet, number: int) -> bool:
    """Whether those segments of a support that are wanted overlap, as far as its layers tell."""
    labels = support.pairs[number][1]
    wanted = {segment.name for segment in support.marked(number)}
    layers = {labels.layers.get(s.value, 0) for s in labels.segments if s.name in wanted}
    return labels.overlapping and len(layers) > 1
