"""Which model and which method, by name or by what fits the scan."""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any

import torch

from SSLFewShotLib.descriptors.loading import TRAINING_FREE, joined_names, load_descriptor
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.models import ModelCard, ModelStore
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import modality_of
from SSLFewShotLib.segmentation.box_alignment import BodyBoxSegmenter
from SSLFewShotLib.segmentation.knn import KnnSegmenter
from SSLFewShotLib.segmentation.segmenter import Segmenter

METHODS = ("knn", "box")
DEFAULT_MODEL = "xavier+gvdiff"
"""The descriptor that measured best from one support (README, Results), for any modality and size."""

_PREFERENCE = ("dense", "heatmap", "reg2d", "doersch")
_SIZE_TOLERANCE = 1.5


def fitting_models(volume: Volume, store: ModelStore | None = None) -> list[ModelCard]:
    """The models made for this scan's modality and size, the best method first, the user's own before bundled."""
    unit = Extent.suited_to(volume).scale
    found = []
    for entry in (store or ModelStore()).list():
        card = entry.card
        if card.method not in _PREFERENCE or ModelStore.suits(card, modality_of(volume)):
            continue
        scale = float(card.extent.get("scale", unit)) if card.extent["unit"] == "mm" else unit
        if abs(math.log(scale / unit)) <= math.log(_SIZE_TOLERANCE):
            found.append((entry.bundled, _PREFERENCE.index(card.method), card.name, card))
    return [card for *_, card in sorted(found, key=lambda item: item[:3])]


def make_segmenter(
    method: str,
    model: str | None,
    like: Volume,
    device: torch.device | str = "cpu",
    store: ModelStore | None = None,
    **settings: Any,
) -> Segmenter:
    """Make an unfitted segmenter.

    method: one of `METHODS`; model: a name, a folder, several joined with "+", or None for `DEFAULT_MODEL`.
    like: the first support's scan; settings: the segmenter's own.

    Raises InputError for an unknown method, model or setting; warns when the model is for another modality.
    """
    if method == "box":
        return _made(BodyBoxSegmenter, settings)
    if method != "knn":
        raise InputError(f"method '{method}' is not known; choose one of {', '.join(METHODS)}")
    store = store or ModelStore()
    model = model or DEFAULT_MODEL
    descriptor = load_descriptor(model, like, device, store)
    for part in joined_names(model):
        warning = part not in TRAINING_FREE and ModelStore.suits(store.find(part).card, modality_of(like))
        if warning:
            warnings.warn(warning, InputWarning, stacklevel=2)
    return _made(KnnSegmenter, settings, descriptor)


def _made(kind: type[Segmenter], settings: dict[str, Any], *arguments: Any) -> Segmenter:
    known = list(inspect.signature(kind).parameters)[len(arguments) :]
    unknown = [name for name in settings if name not in known]
    if unknown:
        there = ", ".join(known) or "none"
        raise InputError(f"{', '.join(unknown)}: no setting of {kind.name}, which has {there}; leave it out")
    return kind(*arguments, **settings)
