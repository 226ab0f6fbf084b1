"""What stays loaded from request to request: support sets and fitted segmenters, known by what they hold."""

from __future__ import annotations

import json
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.progress import Progress, ignore_progress, portion, watched
from SSLFewShotLib.worker import memory

if TYPE_CHECKING:
    import torch

    from SSLFewShotLib.imaging.support import SupportSet
    from SSLFewShotLib.segmentation.job import Fitted, SegmentationJob
    from SSLFewShotLib.segmentation.segmenter import Segmenter

Pair = tuple[Path, Path]

MOST_SUPPORTS = 4
MOST_SEGMENTERS = 4
_MOST_SOURCES = 256

_Thing = TypeVar("_Thing")


class _LastUsed(Generic[_Thing]):
    """A dictionary of so many entries; the one that was not used for longest makes room."""

    def __init__(self, most: int):
        self._most = most
        self._kept: OrderedDict[Any, _Thing] = OrderedDict()

    def get(self, key: Any) -> _Thing | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def put(self, key: Any, thing: _Thing) -> None:
        self._kept[key] = thing
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def clear(self, but: Callable[[Any], bool] = lambda key: False) -> None:
        for key in [key for key in self._kept if not but(key)]:
            del self._kept[key]


@dataclass(frozen=True)
class Kept:
    """A support set, its content's checksum, its files, and the warnings that it gave (and gives again)."""

    content: str
    support: SupportSet
    pairs: tuple[Pair, ...]
    warnings: tuple[str, ...] = ()


class Warm:
    """Support sets by content, and segmenters by (support, method, models' cards, settings, device).

    Not for several threads: only the one that runs jobs uses it.
    """

    def __init__(self, supports: int = MOST_SUPPORTS, segmenters: int = MOST_SEGMENTERS):
        self._supports: _LastUsed[Kept] = _LastUsed(supports)
        self._segmenters: _LastUsed[tuple[Segmenter, tuple[str, ...]]] = _LastUsed(segmenters)
        self._sources: _LastUsed[tuple[tuple[Pair, ...], tuple[str, ...] | None]] = _LastUsed(_MOST_SOURCES)

    def clear(self, but: str | None = None) -> None:
        """Forget all that takes memory, except for one support's; where supports came from is still known."""
        self._supports.clear(lambda content: content == but)
        self._segmenters.clear(lambda key: key[0] == but)

    def holds(self, content: str) -> bool:
        """Whether the support set with this checksum is in memory."""
        return self._supports.get(content) is not None

    def read_support(
        self,
        pairs: Sequence[Pair],
        segment_names: Sequence[str] | None,
        said: list[str],
        progress: Progress = ignore_progress,
    ) -> tuple[Kept, bool]:
        """Read a support set and keep it; also returns whether what it holds was here already.

        said: the request's warnings, to which those of the reading are added.
        Raises InputError as `segmentation.support_files.read_support` does.
        """
        from SSLFewShotLib.segmentation.fingerprint import support_content
        from SSLFewShotLib.segmentation.support_files import read_support

        before = len(said)
        support = read_support(pairs, segment_names, portion(progress, 0.0, 0.8))
        content = watched(lambda: support_content(support), progress, 0.8, "looking what the support holds")
        known = self._supports.get(content)
        names = None if segment_names is None else tuple(segment_names)
        # The same arrays, so that what was computed for them holds; the files' names are this request's.
        read = Kept(content, known.support if known else support, tuple(pairs), tuple(said[before:]))
        self._supports.put(content, read)
        self._sources.put(content, (read.pairs, names))
        return read, known is not None

    def support(self, content: str, said: list[str], progress: Progress = ignore_progress) -> tuple[Kept, bool]:
        """The support set with this checksum, read again if it had to make room, and whether it was still here.

        Raises InputError when it was never set, or when its files hold something else by now.
        """
        kept = self._supports.get(content)
        if kept is not None:
            for text in kept.warnings:
                warnings.warn(text, InputWarning, stacklevel=2)
            return kept, True
        kept, _ = self.read_support(*self.source(content), said, progress)
        if kept.content != content:
            raise InputError(
                f"{kept.pairs[0][0]}: the files of the support have changed since it was set; set it again"
            )
        return kept, False

    def source(self, content: str) -> tuple[tuple[Pair, ...], tuple[str, ...] | None]:
        """The files and the wanted segments of a support that was set. Raises InputError when it never was."""
        source = self._sources.get(content)
        if source is None:
            raise InputError(f"support '{content:.12}…': this worker does not have it; set the support first")
        return source

    def segmenter(
        self, kept: Kept, job: SegmentationJob, device: torch.device, said: list[str], progress: Progress
    ) -> tuple[Fitted, bool]:
        """A segmenter as the job wants it, fitted to the support, and whether it was here already.

        Raises InputError as `segmentation.choice.make_segmenter` does.
        """
        from SSLFewShotLib.segmentation.choice import make_segmenter
        from SSLFewShotLib.segmentation.job import Fitted
        from SSLFewShotLib.segmentation.pseudo_labels import chosen_scans
        from SSLFewShotLib.segmentation.tuning_folder import begin_in, joins_network

        key = (
            kept.content,
            job.method,
            _models_content(job),
            json.dumps(job.settings, sort_keys=True),
            str(device),
            # Several targets are learned from too.
            *(map(str, chosen_scans(job.targets)) if joins_network(job.method, job.settings) else ()),
        )
        known = self._segmenters.get(key)
        if known is not None:
            segmenter, texts = known
            for text in texts:
                warnings.warn(text, InputWarning, stacklevel=2)
            return Fitted(kept.support, segmenter), True
        before = len(said)
        segmenter = make_segmenter(job.method, job.model, kept.support.pairs[0][0], device, **job.settings)
        # What is to be said of the fitting is of this one time.
        texts = tuple(said[before:])
        begin_in(job.output, segmenter, job.resume, job.overwrite, job.targets)
        began = time.monotonic()
        segmenter.fit(kept.support, progress)
        self._segmenters.put(key, (segmenter, texts))
        return Fitted(kept.support, segmenter, time.monotonic() - began), False


@dataclass
class WarmPreparation:
    """The `Preparation` of a segmentation job that takes what is warm, and keeps what was not.

    content: the support's checksum, None when it is to be read from the job's files.
    said: the request's warnings. support, model: afterwards, whether they were warm.
    """

    warm: Warm
    said: list[str]
    content: str | None = None
    support: bool = field(default=False, init=False)
    model: bool = field(default=False, init=False)

    def __call__(self, job: SegmentationJob, device: torch.device, progress: Progress = ignore_progress) -> Fitted:
        from SSLFewShotLib.segmentation.support_files import check_format
        from SSLFewShotLib.segmentation.tuning_folder import share_of_reading

        known = self.content is not None and self.warm.holds(self.content)
        memory.check(job, supports=not known, make_room=lambda: self.warm.clear(but=self.content))
        if self.content is None and not job.supports:
            from SSLFewShotLib.segmentation.job import fit_nothing

            return fit_nothing(job, device)
        progress(0.0, "reading the support")
        read = share_of_reading(job.method, job.settings, 0.3)
        reading, fitting = portion(progress, 0.0, read), portion(progress, read, 1.0)
        if self.content is None:
            kept, self.support = self.warm.read_support(job.supports, job.segment_names, self.said, reading)
        else:
            kept, self.support = self.warm.support(self.content, self.said, reading)
        check_format(job.format, kept.support)
        fitted, self.model = self.warm.segmenter(kept, job, device, self.said, fitting)
        return fitted


def _models_content(job: SegmentationJob) -> tuple[str, ...]:
    """What the job's models are: their cards, which hold the checksums of their weights."""
    from SSLFewShotLib.descriptors.loading import TRAINING_FREE, joined_names
    from SSLFewShotLib.models import ModelStore
    from SSLFewShotLib.segmentation.choice import DEFAULT_MODEL

    if job.method == "box":
        return ()
    store = ModelStore()
    names = joined_names(job.model or DEFAULT_MODEL)
    if job.model is None and job.method != "knn":
        # Which one will be chosen depends on the support, which is known by its content as well.
        names += [entry.card.name for entry in store.list() if entry.card.method in ("dense", "alpnet")]
    try:
        return tuple(n if n in TRAINING_FREE else store.find(n).card.to_bytes().decode() for n in names)
    except InputError:
        return tuple(names)  # `make_segmenter` says what is wrong with them; nothing is kept then
