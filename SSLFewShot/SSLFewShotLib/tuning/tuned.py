"""A fine-tuned network: what it needs to segment, and as a model with a card that names its support set."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.labelmap import Segment, default_colour
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.models import ModelCard, ModelEntry, ModelStore, UnknownModelError, save_model
from SSLFewShotLib.models.card import check_name, installed_versions
from SSLFewShotLib.sampling.preparation import Preparation
from SSLFewShotLib.tuning.start import TUNED, Start, network_of, preparation_of

BRANCH = "network"


@dataclass
class TunedNetwork:
    """network: to channels as `loss` has them. patch: voxels (k, j, i) that it was trained on.

    segments: numbered 1 to S, in the order of the channels; overlapping: whether a voxel may have several.
    """

    network: nn.Module
    preparation: Preparation
    patch: tuple[int, int, int]
    segments: list[Segment]
    overlapping: bool
    loss: str

    @classmethod
    def of_model(cls, card: ModelCard, tensors: dict[str, np.ndarray], like: Volume) -> TunedNetwork:
        """The network of a model that was kept; like: a scan of the kind to be segmented.

        Raises InputError for a model that was not fine-tuned, or that does not fit its card.
        """
        check_tuned(card)
        settings = card.training["settings"]
        try:
            segments = segments_of(card)
            patch = tuple(int(side) for side in settings["patch"])
            overlapping, loss = bool(settings["overlapping"]), str(settings["loss"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"model {card.name}: its card does not say what it segments; get it again") from error
        network = network_of(card, tensors).to(memory_format=torch.channels_last_3d)
        return cls(network, preparation_of(card, like), patch, segments, overlapping, loss)


def check_tuned(card: ModelCard) -> None:
    """Raise InputError unless a model was fine-tuned to segment."""
    if card.method != TUNED:
        raise InputError(
            f"model {card.name}: was not fine-tuned and segments nothing by itself; mark a scan, or "
            "choose a model that was kept after fine-tuning"
        )


def segments_of(card: ModelCard) -> list[Segment]:
    """What a fine-tuned model segments, numbered from 1. Raises KeyError or TypeError for a card that lacks it."""
    return [
        Segment(
            number,
            str(entry["name"]),
            tuple(entry.get("colour") or default_colour(number)),
            str(entry.get("terminology", "")),
        )
        for number, entry in enumerate(card.training["settings"]["segments"], start=1)
    ]


def check_free(name: str, store: ModelStore | None = None) -> None:
    """Raise InputError unless a model can be kept under this name."""
    check_name(name, "the model to be kept")
    try:
        (store or ModelStore()).find(name)
    except UnknownModelError:
        return
    raise InputError(
        f"{name}: there is a model of this name already; keep it under another, or remove that one first"
    )


def is_kept(name: str, content: str, store: ModelStore | None = None) -> bool:
    """Whether a model of this name was fine-tuned on scans and labels with this checksum."""
    try:
        card = (store or ModelStore()).find(name).card
    except UnknownModelError:
        return False
    return card.method == TUNED and card.training["settings"].get("support", {}).get("sha256") == content


def keep(
    name: str,
    tuned: TunedNetwork,
    start: Start,
    support: Sequence[str],
    content: str,
    trained: Mapping[str, Any],
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    store: ModelStore | None = None,
) -> ModelEntry:
    """Put a fine-tuned network into the store.

    support: names of its scans; content: checksum of what they and their labels hold. trained: iterations,
    minutes, device, seed and the network's channels.

    Raises InputError as `check_free` does, OutputError when the store cannot be written.
    """
    store = store or ModelStore()
    check_free(name, store)
    before = start.card
    own = {
        "name": f"support set: {', '.join(support)}"[:200],
        "source": "scans that the user has marked",
        "licence": "not stated",
        "scans": len(support),
    }
    extent = tuned.preparation.extent
    named = [{"name": s.name, "colour": list(s.colour), "terminology": s.terminology} for s in tuned.segments]
    listed = ", ".join(segment.name for segment in tuned.segments)
    origin = f"from {before.name}" if start.pretrained and before else "from random weights"
    card = ModelCard(
        name=name,
        title=f"Fine-tuned: {listed}"[:200],
        description=f"Segments {listed}; fine-tuned {origin} on {', '.join(support)}.",
        method=TUNED,
        architecture={
            "name": type(tuned.network).__name__,
            "branches": [BRANCH],
            "parameters": sum(parameter.numel() for parameter in tuned.network.parameters()),
            "settings": {
                "encoder": start.encoder[0],
                "encoder_settings": start.encoder[1],
                "outputs": trained["channels"],
            },
        },
        preprocessing={
            "modality": start.modality if re.fullmatch("[A-Z]{2,8}", start.modality) else "any",
            "intensity": tuned.preparation.intensity.to_dict(),
            "spacing_mm": extent.scale * tuned.preparation.step if extent.unit == "mm" else None,
        },
        extent={"unit": extent.unit, "scale": extent.scale, "patch": max(tuned.patch) * tuned.preparation.step},
        training={
            "data": [*(before.training["data"] if start.pretrained and before else []), own],
            "iterations": trained["iterations"],
            "minutes": trained["minutes"],
            "device": trained["device"],
            "seed": trained["seed"],
            "settings": {
                **settings,
                "patch": list(tuned.patch),
                "loss": tuned.loss,
                "segments": named,
                "overlapping": tuned.overlapping,
                "start": before.name if start.pretrained and before else None,
                "support": {"scans": list(support), "sha256": content},
            },
        },
        metrics=dict(metrics),
        versions=installed_versions(),
        licence=before.licence if start.pretrained and before else "not stated",
    )
    tensors = {
        f"{BRANCH}/{key}": np.ascontiguousarray(tensor.detach().cpu().numpy())
        for key, tensor in tuned.network.state_dict().items()
    }
    with tempfile.TemporaryDirectory(prefix="sslfewshot-") as folder:
        save_model(Path(folder) / name, card, tensors)
        return store.add(Path(folder) / name)
