"""Descriptors of every kind, and a scan and places for them to describe."""

import functools

import numpy as np
import torch
from SSLFewShotLib.descriptors.context import CubicDescriptor, PlanarDescriptor
from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.descriptors.gvdiff import GreyValueDifferences
from SSLFewShotLib.descriptors.mind import MindSsc
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.networks.context import D3D
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity

EXTENT = Extent("mm", 120.0)
WINDOW = Intensity("window", -500.0, 1000.0)


@functools.cache
def torso() -> Volume:
    return phantom(0, size=(32, 26, 28), spacing=(4.0, 4.0, 4.0))[0]


def doersch(extent: Extent = EXTENT, intensity: Intensity = WINDOW) -> CubicDescriptor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CubicDescriptor(D3D(), extent, intensity, "doersch-test")


MAKERS = {
    "gvdiff": GreyValueDifferences,
    "mind": MindSsc,
    "xavier": PlanarDescriptor.untrained,
    "doersch": doersch,
}


def make(kind: str, extent: Extent = EXTENT, intensity: Intensity = WINDOW) -> Descriptor:
    return MAKERS[kind](extent, intensity)


def some_points(volume: Volume, count: int = 5, seed: int = 0) -> np.ndarray:
    ijk = np.random.default_rng(seed).uniform(0.25, 0.75, (count, 3)) * volume.size
    return volume.points_from_indices(ijk)
