"""`SupportSet`: the scans that a user has marked, over one common list of segments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.labelmap import LabelMap, Segment
from SSLFewShotLib.imaging.volume import Volume


class SupportSet:
    """Pairs of (Volume, LabelMap) over one common list of segments, matched by name.

    segments: the union over all supports, in the order in which they first appear, renumbered 1..S.
    pairs: (Volume, LabelMap); the label map lies on the volume's own grid.

    A segment that one support lacks is simply not marked there: `marked(n)` tells which ones are, so that
    a method does not take an unmarked organ for background.

    Raises InputError when there is no support, a label is not on its volume's grid, or nothing is marked.
    """

    def __init__(self, pairs: Sequence[tuple[Volume, LabelMap]], segment_names: Sequence[str] | None = None):
        if not pairs:
            raise InputError("no support was given: mark at least one scan and name its image and its labels")
        wanted = None if segment_names is None else set(segment_names)
        self.segments: list[Segment] = []
        names: set[str] = set()
        for volume, labels in pairs:
            if not volume.same_grid(labels):
                raise InputError(
                    f"{labels.name}: not on the grid of {volume.name}; resample it to the image first"
                )
            there = [s for s in labels.segments if labels.mask(s).any()]
            if not there:
                raise InputError(f"{labels.name}: no foreground; mark at least one voxel of one structure")
            marked = [s for s in there if wanted is None or s.name in wanted]
            if not marked:
                raise InputError(
                    f"{labels.name}: none of the segments {', '.join(sorted(wanted or ()))} is marked here, only "
                    f"{', '.join(s.name for s in there)}; correct the names or leave this support out"
                )
            for segment in marked:
                if segment.name not in names:
                    names.add(segment.name)
                    value = len(self.segments) + 1
                    self.segments.append(
                        Segment(value, segment.name, segment.colour, segment.terminology, segment.tags)
                    )
        if wanted is not None and wanted - names:
            missing = ", ".join(sorted(wanted - names))
            raise InputError(f"no support has the segment {missing}; marked are {', '.join(sorted(names))}")
        self.pairs = list(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[tuple[Volume, LabelMap]]:
        return iter(self.pairs)

    def marked(self, index: int) -> list[Segment]:
        """The common segments that support `index` has marked."""
        labels = self.pairs[index][1]
        there = {segment.name for segment in labels.segments}
        return [s for s in self.segments if s.name in there and labels.mask(s.name).any()]

    def masks(self, index: int) -> Mapping[int, np.ndarray]:
        """Common segment value → (K, J, I) bool, for the segments that support `index` has marked.

        Each mask is made when it is asked for: all at once, those of a large scan would not fit into memory.
        """
        return _Masks(self.pairs[index][1], {segment.value: segment.name for segment in self.marked(index)})


class _Masks(Mapping[int, np.ndarray]):
    def __init__(self, labels: LabelMap, names: dict[int, str]):
        self._labels = labels
        self._names = names

    def __getitem__(self, value: int) -> np.ndarray:
        return self._labels.mask(self._names[value])

    def __iter__(self) -> Iterator[int]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
