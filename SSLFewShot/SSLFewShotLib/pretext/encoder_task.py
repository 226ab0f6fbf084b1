"""What tasks that train a 3D encoder for fine-tuning have in common: the encoder, and what a card says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.networks.encoders import make_encoder
from SSLFewShotLib.pretext.dense import STEP
from SSLFewShotLib.pretext.task import PretextTask
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.grids import changed_each
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import Preparation

_NETWORKS = {"analysis": ("AnalysisEncoder", "features"), "dense": ("DenselyConnectedEncoder", "growth")}
_DENSE_LAYERS = (2, 2, 4, 8)


class EncoderTask(PretextTask):
    """A task whose model is an encoder, under the branch "encoder".

    network: "analysis" (the analysis path of a 3D U-Net) or "dense" (the densely connected one). features: its
    feature maps, None for those of the papers (16 in the first level, or 16 that each layer adds). levels: how
    often it halves the resolution, the papers 4 times. spacing: mm between voxels, None for a thirtieth of a
    unit. side: voxels of a cube that the encoder sees, None for a task that sees no cubes.
    """

    higher_is_better = True
    control_metric = "accuracy"
    usual_learning_rate = 3e-4

    def __init__(
        self,
        extent: Extent,
        intensity: Intensity,
        batch_size: int,
        network: str,
        features: int | None,
        levels: int,
        spacing: float | None,
        side: int | None = None,
    ):
        if network not in _NETWORKS:
            raise InputError(f"network '{network}': one of {', '.join(_NETWORKS)} was expected for {self.name}")
        if features is not None and not 1 <= features <= 256:
            raise InputError(f"features {features}: 1 to 256 were expected")
        self.kind = network
        self.architecture, size = _NETWORKS[network]
        if not 1 <= levels <= len(_DENSE_LAYERS):
            raise InputError(f"levels {levels}: 1 to {len(_DENSE_LAYERS)} were expected")
        depth = {"levels": levels} if network == "analysis" else {"layers": _DENSE_LAYERS[:levels]}
        self.encoder = make_encoder(self.architecture, depth if features is None else {**depth, size: features})
        self.levels = levels
        self.features = self.encoder.settings[size]
        if side is not None and (side < 1 or side % self.encoder.multiple):
            raise InputError(
                f"side {side}: a multiple of {self.encoder.multiple} voxels was expected, as often as the network "
                "halves them"
            )
        self.side = side
        self.batch_size = batch_size
        self.preparation = Preparation(extent, intensity, _step(extent, spacing))

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"encoder": self.encoder, "head": self.head})

    def descriptor_modules(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}

    def architecture_settings(self) -> dict[str, Any]:
        return self.encoder.settings

    def settings(self) -> dict[str, Any]:
        cube = {} if self.side is None else {"side": self.side, "patch_side": self.side * self.preparation.step}
        return {
            "network": self.kind,
            "features": self.features,
            "levels": self.levels,
            **cube,
            "batch_size": self.batch_size,
        }

    def code_layer(self, length: int, centred: bool = False) -> nn.Module:
        """(N, C, …) maps of the encoder's bottom, for cubes of `side` voxels, to (N, length) codes.

        centred: without what all cubes of a batch have in common, by which a classification would otherwise be
        held at chance for long. Not for tasks that compare codes: each would know of the others.
        """
        cells = (self.side // self.encoder.multiple) ** 3
        layers = [nn.Flatten(), nn.Linear(self.encoder.widths[-1] * cells, length)]
        return nn.Sequential(*layers, *([nn.BatchNorm1d(length)] if centred else []))

    def changed(self, cubes: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """(…, side, side, side) with other contrast, sharpness and noise, each cube by itself."""
        # Grey values of a CT mean something, those of others differ from scanner to scanner.
        return changed_each(cubes, rng, 0.7 if self.preparation.intensity.kind == "window" else 1.5)


def _step(extent: Extent, spacing: float | None) -> float:
    if spacing is None:
        return STEP
    if extent.unit != "mm":
        raise InputError("a spacing in mm goes with an extent in mm only; leave one of the two out")
    if not 0.05 <= spacing <= 50:
        raise InputError(f"spacing {spacing} mm: 0.05 to 50 were expected")
    return spacing / extent.scale


def accuracy(logits: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The share of rows whose greatest value is the right one."""
    return (logits.detach().argmax(dim=1) == right).float().mean()
