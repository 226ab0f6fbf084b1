"""A model that looks at slices, made ready for localising."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from SSLFewShotLib.descriptors.context import load_weights
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.models import ModelCard, ModelStore, load_model
from SSLFewShotLib.networks.slices import SliceNetwork
from SSLFewShotLib.pretext.slice_order import SliceOrder
from SSLFewShotLib.pretext.slice_rotation import SliceRotation
from SSLFewShotLib.sampling.intensity import Intensity, modality_of
from SSLFewShotLib.sampling.slices import SlicePreparation, axes_in

ORDER, ROTATION = SliceOrder.name, SliceRotation.name


@dataclass(frozen=True)
class SliceModel:
    """A network for slices and how it is to be used.

    preparation: of a scan; axes: that it was trained on (0 L, 1 P, 2 S); angles: degrees it tells apart, none for
    a model of slice order.
    """

    name: str
    method: str
    network: SliceNetwork
    preparation: SlicePreparation
    axes: Sequence[int]
    angles: Sequence[float]
    device: torch.device
    sha256: str = ""

    @classmethod
    def of(cls, card: ModelCard, tensors: dict[str, np.ndarray], device: torch.device | str = "cpu") -> SliceModel:
        """Make it of a model's card and weights. Raises InputError when they do not fit."""
        if card.method not in (ORDER, ROTATION):
            raise InputError(
                f"model {card.name}: of {card.method}, but finding an object without marks needs one of {ORDER} "
                f"or {ROTATION}; choose another, or method support"
            )
        try:
            settings = card.training["settings"]
            network = load_weights(SliceNetwork(**card.architecture["settings"]), tensors, "slices")
            intensity = Intensity.from_dict(card.preprocessing["intensity"])
            preparation = SlicePreparation(intensity=intensity, side=int(settings["side"]))
            axes = axes_in(settings["axes"])
            angles = [float(angle) for angle in settings.get("angles", ())]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"model {card.name}: weights and card do not fit; get the model again") from error
        device = torch.device(device)
        sha256 = (card.weights or {}).get("sha256", "")
        return cls(card.name, card.method, network.to(device).eval(), preparation, axes, angles, device, sha256)

    def provenance(self) -> dict[str, Any]:
        """What a report says of it."""
        return {"name": self.name, "method": self.method, "sha256": self.sha256}


def load_slice_model(
    model: str | None,
    methods: Sequence[str],
    like: Volume,
    device: torch.device | str = "cpu",
    store: ModelStore | None = None,
) -> SliceModel:
    """Load a model by its name or folder, or the first of `methods` that is for scans like this one.

    Raises InputError when there is none, or it is of another method; warns when it is for another modality.
    """
    store = store or ModelStore()
    if model is None:
        modality = modality_of(like)
        fitting = [
            (methods.index(entry.card.method), entry.bundled, entry.card.name)
            for entry in store.list()
            if entry.card.method in methods and not ModelStore.suits(entry.card, modality)
        ]
        if not fitting:
            raise InputError(
                f"{like.name}: there is no model of {' or '.join(methods)} for {modality}; pretrain one on such "
                f"scans (method {methods[0]}), or choose one all the same"
            )
        model = min(fitting)[2]
    entry = store.find(str(model))
    if entry.card.method not in methods:
        raise InputError(
            f"model {entry.card.name}: of {entry.card.method}; this needs one of {' or '.join(methods)}: choose "
            "another model, or another method"
        )
    if warning := ModelStore.suits(entry.card, modality_of(like)):
        warnings.warn(warning, InputWarning, stacklevel=3)
    return SliceModel.of(*load_model(entry.folder), device)
