"""Small labelled scans and a small network, for tests of fine-tuning that take seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from SSLFewShotLib.imaging import LabelMap, SupportSet, Volume
from SSLFewShotLib.imaging.files import write_labels, write_volume
from SSLFewShotLib.imaging.labelmap import Segment
from SSLFewShotLib.models import ModelCard, save_model
from SSLFewShotLib.models.card import installed_versions
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.pretext.continuing import Beginning
from SSLFewShotLib.segmentation.finetune import FineTuneSegmenter

SPACING = 10.0
SIDE = 16


def blocks(seed: int = 0, side: int = 20, name: str = "blocks") -> tuple[Volume, LabelMap]:
    """A body of tissue with a bright block on its right and a dark one on its left, 10 mm voxels, a CT."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side, side), -1000, np.int16)
    image[2:-2, 2:-2, 2:-2] = 40
    labels = np.zeros(image.shape, np.uint8)
    at = rng.integers(5, side - 11, 2)
    labels[at[0] : at[0] + 6, at[1] : at[1] + 6, 3:8] = 1
    labels[at[1] : at[1] + 6, at[0] : at[0] + 6, -9:-4] = 2
    image[labels == 1] = 500
    image[labels == 2] = -300
    image = (image + rng.normal(0, 20, image.shape)).astype(np.int16)
    volume = Volume.from_spacing(image, (SPACING,) * 3, name=f"{name}_{seed}", modality="CT")
    segments = [Segment(1, "RightBlock", (1.0, 0.0, 0.0), "code 1"), Segment(2, "LeftBlock", (0.0, 0.0, 1.0))]
    return volume, LabelMap(labels, volume.ijkToLps, f"{name}_{seed}_labels", segments=segments)


def write_blocks(folder: Path, count: int, labels: Path | None = None) -> Path:
    """`count` of them as b_0_ct.nrrd and b_0.seg.nrrd and so on, the latter in `labels` where it is given."""
    for seed in range(count):
        volume, marked = blocks(seed)
        write_volume(volume, folder / f"b_{seed}_ct.nrrd")
        write_labels(marked, (labels or folder) / f"b_{seed}.seg.nrrd")
    return folder


def support(*seeds: int) -> SupportSet:
    return SupportSet([blocks(seed) for seed in seeds or (0,)])


def write_small_model(folder: Path, seed: int = 0) -> Path:
    """A dense model with a small U-Net as it starts, in a folder of its own name: 10 mm voxels, patches of 16."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet3d(1, 4, 8, 2)
    card = ModelCard(
        name=folder.name,
        title="A small dense model",
        description="For tests.",
        method="dense",
        architecture={
            "name": "UNet3d",
            "branches": ["unet"],
            "parameters": sum(p.numel() for p in network.parameters()),
            "settings": network.settings,
        },
        preprocessing={
            "modality": "CT",
            "intensity": {"kind": "window", "low": -500.0, "high": 1000.0},
            "spacing_mm": SPACING,
        },
        extent={"unit": "mm", "scale": 30 * SPACING, "patch": 0.4},
        training={
            "data": [{"name": "noise", "source": "made", "licence": "none", "scans": 1}],
            "iterations": 1,
            "minutes": 0.1,
            "device": "cpu",
            "seed": seed,
            "settings": {"crop": [SIDE] * 3},
        },
        versions=installed_versions(),
        licence="Apache-2.0",
    )
    save_model(folder, card, {f"unet/{name}": tensor.numpy() for name, tensor in network.state_dict().items()})
    return folder


def begun(folder: Path) -> Beginning:
    """The small model, to begin with; `folder` need not have it yet."""
    return Beginning.read(folder if (folder / "card.json").exists() else write_small_model(folder))


def segmenter(folder: Path, **settings) -> FineTuneSegmenter:
    return FineTuneSegmenter(begun(folder / "small-ct"), "cpu", **{"iterations": 4, **settings})


def dice(found: LabelMap, truth: LabelMap, name: str) -> float:
    one, other = found.mask(name), truth.mask(name)
    return 2 * (one & other).sum() / max(1, one.sum() + other.sum())
