"""Which model and which method, by name or by what fits the scan."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from SSLFewShotLib.descriptors.loading import TRAINING_FREE, joined_names, load_descriptor
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.models import ModelCard, ModelStore, UnknownModelError, load_model
from SSLFewShotLib.pretext.continuing import Beginning
from SSLFewShotLib.sampling.extent import LARGE_BODY_UNIT, Extent
from SSLFewShotLib.sampling.intensity import modality_of
from SSLFewShotLib.segmentation.aligned import AlignedSegmenter
from SSLFewShotLib.segmentation.box_alignment import BodyBoxSegmenter
from SSLFewShotLib.segmentation.finetune import FineTuneSegmenter
from SSLFewShotLib.segmentation.knn import KnnSegmenter
from SSLFewShotLib.segmentation.prototype import PrototypeSegmenter
from SSLFewShotLib.segmentation.segmenter import SPEEDS, Segmenter
from SSLFewShotLib.segmentation.tuned import TunedSegmenter
from SSLFewShotLib.tuning.start import TUNED

METHODS = ("auto", "aligned", "prototype", "knn", "finetune", "tuned", "box")
DEFAULT_MODEL = "xavier+gvdiff"
"""Of the nearest neighbours: of what suits any modality and size, it measured best from one support (README)."""

_PREFERENCE = ("dense", "alpnet", "heatmap", "reg2d", "doersch")
_OF_METHOD = {"aligned": ("dense", "alpnet"), "prototype": ("dense", "alpnet"), "finetune": ("dense", "alpnet")}
"""The kinds of model that a method takes by itself, the one that measured better first (README)."""
_SIZE_TOLERANCE = 1.5
_KINDS: dict[str, type[Segmenter]] = {
    kind.name: kind
    for kind in (
        *(AlignedSegmenter, PrototypeSegmenter, KnnSegmenter),
        *(FineTuneSegmenter, TunedSegmenter, BodyBoxSegmenter),
    )
}


def fitting_models(volume: Volume, store: ModelStore | None = None) -> list[ModelCard]:
    """The models made for this scan's modality and size, then those for any modality.

    Among them the user's own come before bundled ones, and then the best method first.
    """
    return models_for(Extent.suited_to(volume).scale, modality_of(volume), store)


def models_for(unit: float, modality: str | None, store: ModelStore | None = None) -> list[ModelCard]:
    """Likewise for scans of `unit` mm (see `Extent.suited_to`); modality: None where it is not known."""
    found = []
    for entry in (store or ModelStore()).list():
        card = entry.card
        if card.method not in _PREFERENCE or (modality is not None and ModelStore.suits(card, modality)):
            continue
        scale = float(card.extent.get("scale", unit)) if card.extent["unit"] == "mm" else unit
        if abs(math.log(scale / unit)) <= math.log(_SIZE_TOLERANCE):
            found.append((_for_any(card), entry.bundled, _PREFERENCE.index(card.method), card.name, card))
    return [card for *_, card in sorted(found, key=lambda item: item[:4])]


def chosen(
    method: str, model: str | None, like: Volume, store: ModelStore | None = None
) -> tuple[str, str | None]:
    """The method and the model that are meant.

    "auto" is "aligned" where a dense model fits the scan `like` (or one is given), "prototype" with an alpnet
    model that was given, else "knn"; no model is what `to_align_with` says for "aligned", the first that fits for
    "prototype", `DEFAULT_MODEL` for "knn", and stays None for "box". "auto" with a model that was fine-tuned is
    "tuned".
    "finetune" without a model takes what "aligned" would; where none fits it stays None, and begins with random
    weights.

    Raises InputError for an unknown method, for "aligned" and "prototype" when no model of theirs fits, and for
    "tuned" without a model.
    """
    if method not in METHODS:
        raise InputError(f"method '{method}' is not known; choose one of {', '.join(METHODS)}")
    if method == "box":
        return method, None
    store = store or ModelStore()
    if method in _OF_METHOD and model is None:
        for kind in _OF_METHOD[method]:
            if found := [card for card in fitting_models(like, store) if card.method == kind]:
                joins = method == "aligned" and kind == "dense"
                return method, to_align_with(found, Extent.suited_to(like).scale) if joins else found[0].name
        if method == "finetune":
            return method, None
        raise InputError(
            f"{like.name}: there is no {_OF_METHOD[method][0]} model for a scan of its modality and size; choose "
            "one all the same, pretrain one, or take the nearest neighbours (method knn)"
        )
    if method == "tuned" and model is None:
        raise InputError("method tuned: name the model, one that was kept after fine-tuning")
    if method == "auto" and model is None:
        dense = [card for card in fitting_models(like, store) if card.method == "dense"]
        return ("aligned", to_align_with(dense, Extent.suited_to(like).scale)) if dense else ("knn", DEFAULT_MODEL)
    if method == "auto":
        kinds = {"dense": "aligned", "alpnet": "prototype", TUNED: "tuned"}
        method = kinds.get(_kind_of(model, store), "knn")
    return method, model or DEFAULT_MODEL


def to_align_with(cards: Sequence[ModelCard], unit: float) -> str:
    """The dense model, of those that fit, that aligns scans of `unit` mm (see `Extent.suited_to`).

    cards: the best first, which it is. On scans of a part of the body the first that was made for any modality
    joins it: it costs little there and tells more, on larger scans it tells nothing more (README).
    """
    first = cards[0]
    if unit >= LARGE_BODY_UNIT or _for_any(first):
        return first.name
    return "+".join([first.name, *(card.name for card in cards if _for_any(card))][:2])


def _for_any(card: ModelCard) -> bool:
    return card.preprocessing["modality"] == "any"


def _kind_of(model: str, store: ModelStore) -> str:
    """The pretraining's method of a model, or of all that are joined; "" for others, and for what is none."""
    names = joined_names(model)
    if set(names) & set(TRAINING_FREE):
        return ""
    try:
        kinds = {store.find(name).card.method for name in names}
    except UnknownModelError:
        return ""  # `load_descriptor` says what is wrong with it
    return kinds.pop() if len(kinds) == 1 else ""


def make_segmenter(
    method: str,
    model: str | None,
    like: Volume,
    device: torch.device | str = "cpu",
    store: ModelStore | None = None,
    speed: str | None = None,
    **settings: Any,
) -> Segmenter:
    """Make an unfitted segmenter.

    method: one of `METHODS`; model: a name, a folder, several joined with "+", or None; see `chosen`.
    like: the first support's scan; settings: the segmenter's own. Settings that only prototypes, fine-tuning or
        the nearest neighbours have make "auto" choose those. speed: one of `SPEEDS`, for methods that have them;
        single settings count more.

    Raises InputError for an unknown method, model or setting; warns when the model is for another modality, and
    when fine-tuning finds none that fits.
    """
    store = store or ModelStore()
    if method == "auto":
        method = _method_with(settings)
    method, model = chosen(method, model, like, store)
    settings = at_speed(_KINDS[method], speed, settings)
    if method == "box":
        return _made(BodyBoxSegmenter, settings)
    for part in joined_names(model) if model is not None else ():
        warning = part not in TRAINING_FREE and _misfit(part, like, store)
        if warning:
            warnings.warn(warning, InputWarning, stacklevel=2)
    if method == "tuned":
        return _made(TunedSegmenter, settings, *load_model(store.find(model).folder), device)
    if method == "finetune":
        if model is None:
            warnings.warn(
                f"{like.name}: no dense model fits it, so fine-tuning begins with random weights; choose a model, "
                "or pretrain one on scans of the same kind",
                InputWarning,
                stacklevel=2,
            )
        begun = None if model is None else Beginning(*load_model(store.find(model).folder))
        return _made(FineTuneSegmenter, settings, begun, device)
    return _made(_KINDS[method], settings, load_descriptor(model, like, device, store))


def at_speed(kind: type[Segmenter], speed: str | None, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a kind of segmenter at one of `SPEEDS`, with those that were given on top of them.

    Raises InputError for an unknown speed; warns where the kind has one speed only.
    """
    if speed is None:
        return settings
    if speed not in SPEEDS:
        raise InputError(f"speed '{speed}' is not known; choose one of {', '.join(SPEEDS)}")
    if not kind.speeds:
        warnings.warn(f"method {kind.name} has one speed only", InputWarning, stacklevel=3)
    return {**kind.speeds.get(speed, {}), **settings}


def tuned_segmenter(
    model: str | None,
    device: torch.device | str = "cpu",
    names: Sequence[str] | None = None,
    store: ModelStore | None = None,
    speed: str | None = None,
    **settings: Any,
) -> TunedSegmenter:
    """The segmenter of a fine-tuned model, for scans without any that is marked.

    names: of the segments that are wanted, None for all. speed: there is one only, which is said.

    Raises InputError when there is no such model, it was not fine-tuned, or does not know a segment.
    """
    if model is None:
        raise InputError("no support was given: mark at least one scan, or name a model that was fine-tuned")
    loaded = load_model((store or ModelStore()).find(model).folder)
    segmenter = _made(TunedSegmenter, at_speed(TunedSegmenter, speed, settings), *loaded, device)
    return segmenter if names is None else segmenter.only(names)


def _method_with(settings: dict[str, Any]) -> str:
    """The first method that has all of these settings; "auto" when alignment has them."""
    for name, kind in (
        ("auto", AlignedSegmenter),
        ("prototype", PrototypeSegmenter),
        ("finetune", FineTuneSegmenter),
    ):
        if set(settings) <= set(inspect.signature(kind).parameters):
            return name
    return "knn"


def _misfit(model: str, like: Volume, store: ModelStore) -> str | None:
    try:
        return ModelStore.suits(store.find(model).card, modality_of(like))
    except UnknownModelError:
        return None  # whatever needs it says so


def _made(kind: type[Segmenter], settings: dict[str, Any], *arguments: Any) -> Segmenter:
    known = list(inspect.signature(kind).parameters)[len(arguments) :]
    unknown = [name for name in settings if name not in known]
    if unknown:
        there = ", ".join(known) or "none"
        raise InputError(f"{', '.join(unknown)}: no setting of {kind.name}, which has {there}; leave it out")
    return kind(*arguments, **settings)
