"""What an evaluation compares: a method with its model, fitted to many support sets at once.

A scan is described once for all support sets, since that takes by far the longest.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.descriptors.loading import TRAINING_FREE, joined_names, load_descriptor
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.evaluation.contender import Contender, Supports
from SSLFewShotLib.evaluation.tuning_contender import FineTuneContender, tuned_contender
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.models import ModelStore
from SSLFewShotLib.networks.device import choose_device
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.intensity import modality_of
from SSLFewShotLib.segmentation.aligned import AlignedSegmenter
from SSLFewShotLib.segmentation.box_alignment import BodyBoxSegmenter
from SSLFewShotLib.segmentation.choice import at_speed
from SSLFewShotLib.segmentation.knn import KnnSegmenter
from SSLFewShotLib.segmentation.lattice import Lattice
from SSLFewShotLib.segmentation.prototype import PrototypeSegmenter
from SSLFewShotLib.segmentation.segmenter import Segmenter
from SSLFewShotLib.segmentation.support_prototypes import PlacedPrototypes
from SSLFewShotLib.segmentation.support_vectors import SupportVectors


class BoxContender(Contender):
    """The baseline `BodyBoxSegmenter`."""

    method = "box"

    def _segmenter(self) -> BodyBoxSegmenter:
        return BodyBoxSegmenter()

    def facts(self) -> dict[str, Any]:
        return {"pretraining": []}


class ModelContender(Contender):
    """What the methods that need a descriptor share."""

    kind: type[KnnSegmenter] | type[AlignedSegmenter] | type[PrototypeSegmenter]

    def __init__(
        self,
        descriptor: Descriptor,
        given: str,
        pretraining: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
    ):
        """given: what `load_descriptor` was asked for; pretraining: the data that the model's card names.

        settings: keyword arguments of the segmenter.
        """
        self.method = self.kind.name
        self.descriptor = descriptor
        self.given = given
        self.model = descriptor.name
        self.pretraining = list(pretraining)
        self.settings = dict(settings)
        if self._segmenter().trains:
            self.share_of_fitting = FineTuneContender.share_of_fitting

    def _segmenter(self) -> Segmenter:
        try:
            return self.kind(self.descriptor, **self.settings)
        except TypeError as error:
            raise InputError(
                f"settings {', '.join(self.settings)}: not all are settings of {self.method} ({error})"
            ) from None

    def facts(self) -> dict[str, Any]:
        provenance = {key: value for key, value in self.descriptor.provenance().items() if key != "name"}
        return {
            "given": self.given,
            "descriptor": provenance.pop("method", self.model),
            **provenance,
            "settings": self._segmenter().provenance()["settings"],
            "pretraining": self.pretraining,
        }


class KnnContender(ModelContender):
    """`KnnSegmenter` with one descriptor."""

    kind = KnnSegmenter
    _lattice: Lattice | None = None

    def fit(self, sets: Mapping[Supports, SupportSet], progress: Progress = ignore_progress) -> None:
        self.fitted = {}
        vectors = SupportVectors(self.descriptor)
        for number, (supports, support) in enumerate(sets.items()):
            report = portion(progress, number / len(sets), (number + 1) / len(sets))
            self.fitted[supports] = self._segmenter().fit(support, report, described_before=vectors)

    def predict(
        self, supports: Supports, volume: Volume, progress: Progress = ignore_progress
    ) -> tuple[LabelMap, dict[str, float]]:
        segmenter = self.fitted[supports]
        if self._lattice is None or self._lattice.volume is not volume:
            self._lattice = segmenter.lattice(volume, portion(progress, 0.0, 0.1))
        before = self._lattice.describing_seconds
        began = time.perf_counter()
        labels, _ = segmenter.predict(volume, progress, lattice=self._lattice)
        # Every set is charged with the whole description of the scan, not with what happened to be left to do.
        return labels, {"seconds": time.perf_counter() - began + before, "recall": segmenter.recall_}


class AlignedContender(ModelContender):
    """`AlignedSegmenter` with one dense descriptor."""

    kind = AlignedSegmenter
    descriptor: DenseDescriptor
    _described: tuple[Volume, float] | None = None

    def predict(
        self, supports: Supports, volume: Volume, progress: Progress = ignore_progress
    ) -> tuple[LabelMap, dict[str, float]]:
        began = time.perf_counter()
        if self._described is None or self._described[0] is not volume:
            # The descriptor keeps the field of the last scan: every set is charged with it.
            self.descriptor.field(self.descriptor.prepare(volume), portion(progress, 0.0, 0.3))
            self._described = volume, time.perf_counter() - began
            began = time.perf_counter()
        labels, _ = self.fitted[supports].predict(volume, progress)
        return labels, {"seconds": time.perf_counter() - began + self._described[1]}


class PrototypeContender(AlignedContender):
    """`PrototypeSegmenter` with one dense descriptor; a support's prototypes are made once for all sets."""

    kind = PrototypeSegmenter

    def fit(self, sets: Mapping[Supports, SupportSet], progress: Progress = ignore_progress) -> None:
        self.fitted = {}
        known: dict[tuple[int, int], PlacedPrototypes] = {}
        for number, (supports, support) in enumerate(sets.items()):
            report = portion(progress, number / len(sets), (number + 1) / len(sets))
            self.fitted[supports] = self._segmenter().fit(support, report, known)


_WITH_MODEL: dict[str, type[ModelContender]] = {
    kind.kind.name: kind for kind in (KnnContender, AlignedContender, PrototypeContender)
}


def make_contenders(
    methods: Sequence[str],
    models: Sequence[str],
    like: Volume,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
) -> list[Contender]:
    """One contender for each method, and of those with models one for each model that they can use.

    methods: "knn", "aligned", "prototype", "finetune", "box". models: names or folders, or "gvdiff", "mind",
    "xavier". like: a scan of the kind to be labelled. settings: keyword arguments of the segmenters with models.

    Warns (InputWarning) of a model made for another modality. Raises InputError for an unknown method or model,
    for knn without a model, and for models of one name.
    """
    contenders: list[Contender] = []
    for method in dict.fromkeys(methods):
        if method == "box":
            contenders.append(BoxContender())
        elif method == FineTuneContender.method:
            names, place = dict.fromkeys(models or [""]), choose_device(device)
            contenders += [tuned_contender(name, like, place, settings or {}) for name in names]
        elif method in _WITH_MODEL:
            if not models:
                raise InputError(f"{method}: a model is needed; name one, or for knn gvdiff, mind or xavier")
            kind = _WITH_MODEL[method]
            made = [_with_model(kind, name, like, device, settings or {}) for name in dict.fromkeys(models)]
            contenders += [contender for contender in made if contender is not None]
            if not any(made):
                raise InputError(
                    f"{method}: none of the models {', '.join(models)} is a dense one, which it needs"
                )
        else:
            raise InputError(f"method '{method}': knn, aligned, prototype, finetune or box was expected")
    names = [contender.title for contender in contenders]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name}: two models have this name; name each model once")
    return contenders


def _with_model(
    kind: type[ModelContender], name: str, like: Volume, device: str, settings: Mapping[str, Any]
) -> ModelContender | None:
    """None when the method cannot use the model."""
    given = str(Path(name).resolve()) if Path(name).is_dir() else name
    descriptor = load_descriptor(name, like, choose_device(device))
    if kind is not KnnContender and not isinstance(descriptor, DenseDescriptor):
        return None
    pretraining: list[Mapping[str, Any]] = []
    for part in joined_names(name):
        if part in TRAINING_FREE:
            continue
        card = ModelStore().find(part).card
        pretraining += card.training["data"]
        warning = ModelStore.suits(card, modality_of(like))
        if warning:
            warnings.warn(warning, InputWarning, stacklevel=4)
    single = {key: value for key, value in settings.items() if key != "speed"}
    return kind(descriptor, given, pretraining, at_speed(kind.kind, settings.get("speed"), single))
