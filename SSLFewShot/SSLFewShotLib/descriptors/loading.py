"""A descriptor by its name: a model of the store, a model's folder, or a training-free one."""

from __future__ import annotations

from pathlib import Path

import torch

from SSLFewShotLib.descriptors.context import CubicDescriptor, PlanarDescriptor, load_weights
from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.descriptors.gvdiff import GreyValueDifferences
from SSLFewShotLib.descriptors.joint import JointDenseDescriptor, JointDescriptor
from SSLFewShotLib.descriptors.mind import MindSsc
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.models import ModelCard, ModelStore, UnknownModelError, load_model
from SSLFewShotLib.networks.context import D2D, D3D
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.pretext.dense import CROP
from SSLFewShotLib.pretext.planar_offset import AXIS_NAMES
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity, modality_of

TRAINING_FREE = ("gvdiff", "mind", "xavier")


def load_descriptor(
    name: str | Path,
    like: Volume,
    device: torch.device | str = "cpu",
    store: ModelStore | None = None,
    extent: Extent | None = None,
) -> Descriptor:
    """Load a descriptor.

    name: a model in the store, a model's folder, "gvdiff", "mind" or "xavier", or several of them joined with "+";
        dense ones together are a dense one.
    like: a scan of the kind to be described; the training-free ones take modality and size from it, unless
        `extent` is given.

    Raises InputError when the model is unknown, damaged, or of a kind that describes nothing.
    """
    names = joined_names(name)
    if len(names) > 1:
        parts = [load_descriptor(part, like, device, store, extent) for part in names]
        dense = all(isinstance(part, DenseDescriptor) for part in parts)
        return JointDenseDescriptor(parts) if dense else JointDescriptor(parts)
    if str(name) not in TRAINING_FREE:
        try:
            entry = (store or ModelStore()).find(str(name))
        except UnknownModelError as error:
            raise InputError(f"{error}; {', '.join(TRAINING_FREE)} need no model") from None
        return descriptor_from_model(*load_model(entry.folder), like, device)
    extent = extent or Extent.suited_to(like)
    intensity = Intensity.for_modality(modality_of(like))
    if name == "gvdiff":
        return GreyValueDifferences(extent, intensity)
    if name == "mind":
        return MindSsc(extent, intensity, device)
    return PlanarDescriptor.untrained(extent, intensity, device)


def joined_names(name: str | Path) -> list[str]:
    """The descriptors that a name such as "xavier+gvdiff" joins; one, when it is the folder of a model.

    Raises InputError when a name is empty.
    """
    if Path(name).is_dir():
        return [str(name)]
    parts = [part.strip() for part in str(name).split("+")]
    if not all(parts):
        raise InputError(f"'{name}': a name of a descriptor is missing; join names with '+' as in xavier+gvdiff")
    return parts


def descriptor_from_model(
    card: ModelCard, tensors: dict, like: Volume, device: torch.device | str = "cpu"
) -> Descriptor:
    """Make the descriptor that a model's card describes, for scans like this one.

    Raises InputError when weights and card do not fit.
    """
    extent = Extent(card.extent["unit"], float(card.extent.get("scale", 1.0))).settled(like)
    intensity = Intensity.from_dict(card.preprocessing["intensity"])
    modality = card.preprocessing["modality"]
    provenance = {"method": card.method, "sha256": card.weights["sha256"], "made_by": card.versions["sslfewshot"]}
    branches = card.architecture["branches"]
    try:
        if card.architecture["name"] == "D2D" and set(branches) <= set(AXIS_NAMES):
            encoders = {branch: load_weights(D2D(), tensors, branch) for branch in branches}
            return PlanarDescriptor(encoders, extent, intensity, card.name, device, modality, provenance)
        if card.architecture["name"] == "D3D":
            encoder = load_weights(D3D(), tensors, branches[0])
            return CubicDescriptor(encoder, extent, intensity, card.name, device, modality, provenance)
        if card.architecture["name"] == "UNet3d" and card.method in ("dense", "alpnet"):
            network = load_weights(UNet3d(**card.architecture["settings"]), tensors, branches[0])
            tile = card.training["settings"].get("crop", CROP)
            return DenseDescriptor(network, extent, intensity, card.name, device, modality, provenance, tile)
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"model {card.name}: weights and card do not fit; get the model again") from error
    if "encoder" in branches:
        raise InputError(
            f"model {card.name}: is an encoder that {card.method} pretrained, to be fine-tuned, and describes no "
            "voxels; choose the method finetune, or another model"
        )
    raise InputError(
        f"model {card.name}: its architecture '{card.architecture['name']}' with the branches "
        f"{', '.join(branches)} describes no voxels; choose another"
    )
