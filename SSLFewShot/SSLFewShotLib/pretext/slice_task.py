"""What the tasks on whole slices of scans share: one network, and how slices are prepared."""

from __future__ import annotations

from typing import Any

from torch import nn

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.networks.slices import SliceNetwork
from SSLFewShotLib.pretext.task import PretextTask
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.slices import AXES, SlicePreparation, axes_in


class SliceTask(PretextTask):
    """A task for a network on slices, which become the model's one branch "slices".

    axes: the slicing axes that are drawn from, letters of "LPS". network: "small" or "resnet50"; inputs, outputs:
    its slices and its values. side: pixels of a slice.

    Each task has a constructor with the names of its own settings, see `methods.options_of`.
    """

    architecture = "SliceNetwork"

    def __init__(
        self,
        intensity: Intensity,
        batch_size: int,
        axes: str,
        side: int,
        network: str,
        inputs: int,
        outputs: int,
    ):
        if not 16 <= side <= 1024:
            raise InputError(f"side {side}: 16 to 1024 pixels were expected")
        self.preparation = SlicePreparation(intensity=intensity, side=side)
        self.batch_size = batch_size
        self.axes = axes_in(axes)
        self.network = SliceNetwork(inputs, outputs, network)

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"slices": self.network})

    def descriptor_modules(self) -> dict[str, nn.Module]:
        return {"slices": self.network}

    def architecture_settings(self) -> dict[str, Any]:
        return self.network.settings

    def settings(self) -> dict[str, Any]:
        return {
            "axes": "".join(AXES[axis] for axis in self.axes),
            "side": self.preparation.side,
            "batch_size": self.batch_size,
        }
