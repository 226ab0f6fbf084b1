"""Which localiser, by its name, and which model."""

from __future__ import annotations

import torch

from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.localisation.certainty import CertaintyLocaliser
from SSLFewShotLib.localisation.clustering import ClusteringLocaliser
from SSLFewShotLib.localisation.from_support import SupportLocaliser
from SSLFewShotLib.localisation.localiser import Localiser
from SSLFewShotLib.localisation.slice_model import ORDER, ROTATION, load_slice_model
from SSLFewShotLib.models import ModelStore
from SSLFewShotLib.segmentation.choice import chosen

METHODS = ("support", "certainty", "clustering")


def make_localiser(
    method: str,
    model: str | None,
    like: Volume,
    device: torch.device | str = "cpu",
    store: ModelStore | None = None,
) -> Localiser:
    """Make an unfitted localiser.

    method: one of `METHODS`; model: a name or folder, or None for the first that fits the scan `like`: the first
    support's for "support", the first target's for the others.

    Raises InputError for an unknown method or model, and for one that cannot do this.
    """
    store = store or ModelStore()
    if method not in METHODS:
        raise InputError(f"method '{method}' is not known; choose one of {', '.join(METHODS)}")
    if method == "support":
        _, model = chosen("auto", model, like, store)
        return SupportLocaliser(load_descriptor(model, like, device, store))
    if method == "certainty":
        return CertaintyLocaliser(load_slice_model(model, (ROTATION,), like, device, store))
    return ClusteringLocaliser(load_slice_model(model, (ORDER, ROTATION), like, device, store))
