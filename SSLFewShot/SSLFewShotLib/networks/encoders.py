"""3D encoders by their names, taken from models that were pretrained by whichever method, and made into U-Nets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.models import ModelCard
from SSLFewShotLib.networks.analysis_unet import AnalysisEncoder, AnalysisUNet
from SSLFewShotLib.networks.dense_unet import DenselyConnectedEncoder, DenselyConnectedUNet
from SSLFewShotLib.networks.unet3d import UNet3d

Encoder = AnalysisEncoder | DenselyConnectedEncoder | UNet3d
"""All have `settings`, `widths`, `multiple` and `encode`."""

ENCODERS: dict[str, type[Encoder]] = {
    kind.__name__: kind for kind in (AnalysisEncoder, DenselyConnectedEncoder, UNet3d)
}
"""By what a card calls the architecture."""


def pretrained_encoder(card: ModelCard, tensors: Mapping[str, np.ndarray]) -> Encoder:
    """The encoder of a model, with its weights, to go on with.

    card, tensors: as `load_model` gives them, of a model of cpc, rpl, jigsaw, rotation, exemplar or sides, or of
    dense or alpnet, whose U-Net has an encoder too (its decoder comes along).

    Raises InputError when the model has no such encoder, or weights and card do not fit.
    """
    name, branches = card.architecture["name"], card.architecture["branches"]
    if name not in ENCODERS:
        raise InputError(
            f"model {card.name}: its architecture '{name}' has no 3D encoder to go on with; choose a model of "
            "cpc, rpl, jigsaw, rotation, exemplar, sides, dense or alpnet"
        )
    try:
        encoder = ENCODERS[name](**card.architecture["settings"])
        prefix = branches[0] + "/"
        encoder.load_state_dict(
            {
                key.removeprefix(prefix): torch.from_numpy(np.array(tensor))
                for key, tensor in tensors.items()
                if key.startswith(prefix)
            }
        )
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"model {card.name}: weights and card do not fit; get the model again") from error
    return encoder


def make_encoder(name: str, settings: Mapping[str, Any] | None = None) -> Encoder:
    """A fresh encoder by the name that cards use. Raises InputError for an unknown name or setting."""
    if name not in ENCODERS:
        raise InputError(f"encoder '{name}' is not known; choose one of {', '.join(ENCODERS)}")
    try:
        return ENCODERS[name](**(settings or {}))
    except TypeError as error:
        raise InputError(f"encoder {name}: {error}; leave that setting out") from error


def segmentation_network(encoder: Encoder, outputs: int) -> nn.Module:
    """The U-Net over an encoder, which it uses as it is: (N, 1, K, J, I) to logits (N, outputs, K, J, I).

    What it takes from the encoder is its part `encoder`. Over a UNet3d the decoder's weights are taken as well,
    and only the last convolution is new.
    """
    if isinstance(encoder, AnalysisEncoder):
        return AnalysisUNet(encoder, outputs)
    if isinstance(encoder, DenselyConnectedEncoder):
        return DenselyConnectedUNet(encoder, outputs)
    network = UNet3d(**{**encoder.settings, "outputs": outputs})
    network.encoder, network.decoder = encoder.encoder, encoder.decoder
    return network
