"""What a fine-tuning starts from: a pretrained model of any method with a 3D encoder, or random weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.models import ModelCard
from SSLFewShotLib.networks.encoders import Encoder, make_encoder, pretrained_encoder, segmentation_network
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.pretext.continuing import Beginning
from SSLFewShotLib.pretext.dense import CROP, DIMENSION, FEATURES, STEP
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity, modality_of
from SSLFewShotLib.sampling.preparation import Preparation

TUNED = "finetune"
"""The method on the card of a model that was fine-tuned."""
NETWORKS = {
    "unet": ("UNet3d", {"features": FEATURES, "outputs": DIMENSION}),
    "dense": ("DenselyConnectedEncoder", {}),
    "analysis": ("AnalysisEncoder", {}),
}
"""What random weights can be of: the U-Net of the dense models, and those of the two papers."""

_WEAKER, _UNLIKELY = 0.2, -3.0


@dataclass
class Start:
    """The network that learns to segment, and how scans are prepared for it.

    network: with `outputs` channels. encoder: the name and settings of what it is made over. patch: voxels (k, j,
    i) that it sees. pretrained: whether its weights were learned, and the encoder may be frozen first. card: of
    the model that they are from, or whose networks they are; None without one.
    """

    network: nn.Module
    encoder: tuple[str, dict[str, Any]]
    preparation: Preparation
    patch: tuple[int, int, int]
    modality: str
    pretrained: bool
    card: ModelCard | None = None


def make_start(
    begun: Beginning | None,
    outputs: int,
    like: Volume,
    scratch: bool = False,
    network: str = "unet",
    seed: int = 0,
    segments: Sequence[str] = (),
) -> Start:
    """The network to fine-tune.

    begun: the model; None for random weights of `network`, one of `NETWORKS`, at the spacing suited to the scan
        `like`. scratch: random weights all the same, for the network and at the spacing of that model.
    segments: names; a model that was fine-tuned to the same ones keeps its last layer too.

    Raises InputError for a model without a 3D encoder, or weights that do not fit its card.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if begun is None:
            if network not in NETWORKS:
                raise InputError(f"network '{network}': one of {', '.join(NETWORKS)} was expected")
            name, settings = NETWORKS[network]
            encoder = make_encoder(name, settings)
            intensity = Intensity.for_modality(modality_of(like))
            preparation = Preparation(Extent.suited_to(like), intensity, STEP)
            made = _cautious(segmentation_network(encoder, outputs))
            return Start(
                made, _described(encoder, name), preparation, _patch(encoder, None), modality_of(like), False
            )
        card = begun.card
        if card.method == TUNED:
            tuned = network_of(card, begun.tensors)
            encoder = tuned if isinstance(tuned, UNet3d) else tuned.encoder
            same = [s["name"] for s in card.training["settings"]["segments"]] == list(segments)
            same = same and card.architecture["settings"]["outputs"] == outputs
            made = tuned if same and not scratch else None
            name = card.architecture["settings"]["encoder"]
        else:
            encoder, made, name = pretrained_encoder(card, begun.tensors), None, card.architecture["name"]
        settings = encoder.settings
        if scratch:
            encoder = make_encoder(name, settings)
        if made is None:
            made = _cautious(segmentation_network(encoder, outputs))
        modality = modality_of(like) if card.preprocessing["modality"] == "any" else begun.modality
        return Start(
            made,
            _described(encoder, name),
            preparation_of(card, like),
            _patch(encoder, card.training["settings"].get("crop")),
            modality,
            not scratch,
            card,
        )


def start_over(
    network: UNet3d,
    outputs: int,
    preparation: Preparation,
    patch: tuple[int, int, int],
    modality: str,
    scratch: bool = False,
    seed: int = 0,
) -> Start:
    """The network to fine-tune over a U-Net that is loaded already, which stays as it is.

    preparation: of scans for it; patch: voxels (k, j, i) that it was trained on; modality: that it is for;
    scratch: random weights for such a network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = UNet3d(**network.settings) if scratch else copy.deepcopy(network).cpu()
        made = _cautious(segmentation_network(encoder, outputs))
    return Start(made, _described(encoder, "UNet3d"), preparation, patch, modality, not scratch)


def network_of(card: ModelCard, tensors: dict[str, np.ndarray]) -> nn.Module:
    """The network of a model that was fine-tuned. Raises InputError when weights and card do not fit."""
    try:
        settings = dict(card.architecture["settings"])
        encoder = make_encoder(settings["encoder"], settings["encoder_settings"])
        network = segmentation_network(encoder, int(settings["outputs"]))
        prefix = card.architecture["branches"][0] + "/"
        state = {key.removeprefix(prefix): torch.from_numpy(np.array(tensor)) for key, tensor in tensors.items()}
        network.load_state_dict(state)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"model {card.name}: weights and card do not fit; get the model again") from error
    return network


def preparation_of(card: ModelCard, like: Volume) -> Preparation:
    """How scans are prepared for a model."""
    extent = Extent(card.extent["unit"], float(card.extent.get("scale", 1.0))).settled(like)
    spacing = card.preprocessing["spacing_mm"]
    step = STEP if spacing is None or extent.unit != "mm" else spacing / extent.scale
    return Preparation(extent, Intensity.from_dict(card.preprocessing["intensity"]), step)


def _cautious(network: nn.Module) -> nn.Module:
    """A new last layer that sees nothing anywhere at first, as is right of most voxels.

    Otherwise a tenth of a short training goes by with learning that (Lin et al., "Focal loss", 2017, section 4.1).
    """
    last = network.head if hasattr(network, "head") else network.decoder.head[-1]
    with torch.no_grad():
        last.weight.mul_(_WEAKER)
        last.bias.fill_(_UNLIKELY)
    return network


def _described(encoder: Encoder, name: str) -> tuple[str, dict[str, Any]]:
    return name, dict(encoder.settings)


def _patch(encoder: Encoder, crop: Sequence[int] | None) -> tuple[int, int, int]:
    """The model's own, else a cube; without padding inside, which the network would learn as if it were tissue."""
    return tuple(-(-int(side) // encoder.multiple) * encoder.multiple for side in crop or CROP)
