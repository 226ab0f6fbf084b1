"""ALPNET: find in one view of a scan the region that is marked in another one, by prototypes of its vectors.

3D SSL-ALPNet (Zhang and Liu 2022): supervoxels are the pseudo-labels, the query is the scan itself under affine
and elastic deformation and other contrast, the loss is Dice with prototype-alignment regularisation. With labelled
scans the same episodes go on between structures of two patients (their section 4.3).

The paper's setting is a crop of 128 × 128 × 24 with windows of 16 × 16 × 6 and 32 features, trained for 20 hours
on a graphics card. The usual one here is for a processor: 12 features and cubes of 40 voxels, which take a second
an iteration; windows are smaller, for the structures of the neck; and each pass of the network is used for up to
eight regions instead of one.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.cases import Case
from SSLFewShotLib.networks.alp import SCALE, THRESHOLD, Prototypes, dice_loss, predicted, prototypes_of
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.pretext.dense import DIMENSION, FEATURES, dense_preparation
from SSLFewShotLib.pretext.labelled_regions import LabelledRegions
from SSLFewShotLib.pretext.supervoxel_picture import draw_supervoxels
from SSLFewShotLib.pretext.task import Batch, PretextTask
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.contrast import changed_contrast
from SSLFewShotLib.sampling.episodes import Side, labelled_pair, self_supervised_pair
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.kept_supervoxels import KeptSupervoxels
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.supervoxels import make_generator
from SSLFewShotLib.sampling.views import Deformation

CROP = (40, 40, 40)
WINDOW = (4, 4, 4)
REGIONS = 8
POINTS = 4096
"""Voxels outside the regions that the loss looks at; each counts for so many more."""
SIDE = 1 / 6
"""Of a supervoxel as a cube, in units: 20 mm for a trunk."""


class Alpnet(PretextTask):
    """Find up to eight regions of one view in the other one.

    features: of the U-Net (paper 32); crop, window: voxels along k, j, i (paper 24 × 128 × 128 and 6 × 16 × 16).
    regions: of each pair of views (paper 1); supervoxel_mm3: their volume, None for a cube of a sixth of a unit.
    generator: "slic" (paper) or "merged"; alignment: λ, the weight of the prototype-alignment loss.
    """

    name = "alpnet"
    architecture = "UNet3d"
    control_metric = "dice"
    higher_is_better = True
    usual_batch = 1
    usual_schedule = "one-cycle"
    usual_optimiser = "adamw"
    usual_weight_decay = 0.01
    chance = 0.01
    deformation = Deformation()

    def __init__(
        self,
        extent: Extent,
        intensity: Intensity,
        batch_size: int = 1,
        features: int = FEATURES,
        crop: Sequence[int] = CROP,
        window: Sequence[int] = WINDOW,
        regions: int = REGIONS,
        supervoxel_mm3: float | None = None,
        generator: str = "slic",
        alignment: float = 1.0,
    ):
        self.preparation = dense_preparation(extent, intensity)
        self.batch_size = batch_size
        self.crop, self.window = _sides("crop", crop, 8), _sides("window", window, 1)
        if features < 1 or regions < 1 or not 0 <= alignment < np.inf:
            raise InputError(
                f"features {features}, regions {regions}, alignment {alignment}: numbers from 1, 1 and 0 up"
            )
        self.regions, self.alignment = regions, alignment
        scale = extent.scale if extent.unit == "mm" else 120.0
        self.generator = make_generator(generator, supervoxel_mm3 or float(f"{(scale * SIDE) ** 3:.2g}"))
        self.network = UNet3d(1, features, DIMENSION).to(memory_format=torch.channels_last_3d)
        self._source: KeptSupervoxels | LabelledRegions = KeptSupervoxels(self.generator)
        self._known: dict[int, tuple[weakref.ref, torch.Tensor]] = {}

    def use_labels(self, cases: Sequence[Case]) -> list[Case]:
        """From now on the regions are the structures of labelled scans, and pairs are of two patients."""
        self._source = LabelledRegions(cases)
        return list(cases)

    def draw_example(self, scan: PreparedScan, folder: Path) -> None:
        """supervoxels.png, or labels.png: the regions on three planes."""
        name = "labels.png" if isinstance(self._source, LabelledRegions) else "supervoxels.png"
        if not (folder / name).exists():
            draw_supervoxels(scan, self._regions(scan).numpy(), folder / name)

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"unet": self.network})

    def descriptor_modules(self) -> dict[str, nn.Module]:
        return {"unet": self.network}

    def architecture_settings(self) -> dict[str, Any]:
        return self.network.settings

    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """views, bodies: (2N, 1, K, J, I) and (2N, K, J, I), supports before queries; masks: (N, 2, R, K, J, I).

        Masks of regions that a pair has fewer of are empty. drawn: (2N, K, J, I), how many voxels of the body each
        one stands for where it is not in a region; most stand for none.
        """
        pairs = [self._pair(volumes, rng) for _ in range(self.batch_size)]
        sides = [side for which in (0, 1) for pair in pairs for side in (pair[which],)]
        masks = torch.zeros((len(pairs), 2, self.regions, *self.crop), dtype=torch.bool, device=volumes.device)
        for row, pair in zip(masks, pairs, strict=True):
            for part, side in zip(row, pair, strict=True):
                part[: len(side.masks)] = side.masks
        return {
            "views": torch.stack([side.values for side in sides])[:, None],
            "bodies": torch.stack([side.body for side in sides]),
            "masks": masks,
            "drawn": torch.stack([self._drawn(side, rng) for side in sides]),
        }

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """L = L_q + λ L_reg (equation 3.7), mean over regions and pairs; metric: Dice of the thresholded query."""
        maps = self.network(batch["views"].contiguous(memory_format=torch.channels_last_3d))
        losses, metrics = [], []
        with torch.autocast(maps.device.type, enabled=False):
            fields = F.normalize(maps.float(), dim=1)
            both = (*fields.chunk(2), *batch["bodies"].chunk(2), *batch["drawn"].chunk(2))
            for *pair, masks in zip(*both, batch["masks"], strict=True):
                there = masks.flatten(2).any(dim=2).all(dim=0)
                if not there.any():
                    # A crop without a region teaches nothing, but must not end a training of hours.
                    losses.append(0.0 * fields.sum())
                    continue
                loss, dice = self._episode(*pair, masks[:, there])
                losses.append(loss)
                metrics.append(dice)
        none = torch.zeros((), device=maps.device)
        return torch.stack(losses).mean(), {self.control_metric: torch.stack(metrics or [none]).mean()}

    def settings(self) -> dict[str, Any]:
        return {
            "features": self.network.settings["features"],
            "crop": list(self.crop),
            "window": list(self.window),
            "regions": self.regions,
            "alignment": self.alignment,
            "points": POINTS,
            "threshold": THRESHOLD,
            "similarity_scale": SCALE,
            **{f"supervoxel_{key}": value for key, value in self.generator.settings().items()},
            "rotation": self.deformation.rotation,
            "scale": self.deformation.scale,
            "shear": self.deformation.shear,
            "elastic": self.deformation.elastic,
            "batch_size": self.batch_size,
        }

    def _episode(
        self,
        support: torch.Tensor,
        query: torch.Tensor,
        support_body: torch.Tensor,
        query_body: torch.Tensor,
        support_drawn: torch.Tensor,
        query_drawn: torch.Tensor,
        masks: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        marked, truth = masks.float()
        of_support = prototypes_of(support, marked, support_body, self.window, THRESHOLD)
        loss = _partial_dice_loss(query, of_support, truth, query_body, query_drawn).mean()
        with torch.no_grad():
            hard = (predicted(query[:, query_body].T, of_support) > 0).float()
            answer = truth[:, query_body].T
            dice = 2 * (hard * answer).sum(dim=0) / (hard.sum(dim=0) + answer.sum(dim=0)).clamp(min=1)
        if self.alignment > 0 and hard.any():
            # The prediction marks the query, and from there the support is segmented (PANet).
            some = hard.any(dim=0)
            guessed = torch.zeros_like(truth)
            guessed[:, query_body] = hard.T
            of_query = prototypes_of(query, guessed[some], query_body, self.window, THRESHOLD)
            back = _partial_dice_loss(support, of_query, marked[some], support_body, support_drawn)
            loss = loss + self.alignment * back.sum() / len(marked)
        return loss, dice.mean()

    def _drawn(self, side: Side, rng: np.random.Generator) -> torch.Tensor:
        rate = min(1.0, POINTS / max(int(side.body.sum()), 1))
        chosen = rng.random(self.crop, dtype=np.float32) < rate
        return torch.from_numpy(chosen).to(side.body.device) * side.body / rate

    def _pair(self, volumes: ScanBatch, rng: np.random.Generator) -> tuple[Side, Side]:
        if isinstance(self._source, LabelledRegions):
            return self._labelled_pair(volumes, rng)
        which = rng.integers(len(volumes), size=1)
        centre = volumes.draw_body_positions(which, rng)[0]
        number = int(which[0])
        regions = self._regions(volumes.scans[number]).to(volumes.device)
        scan = volumes.on_device(number)
        return self_supervised_pair(
            scan, regions, centre, self.crop, self.regions, self.deformation, self._changed, rng
        )

    def _labelled_pair(self, volumes: ScanBatch, rng: np.random.Generator) -> tuple[Side, Side]:
        numbers = rng.permutation(len(volumes))[:2]
        numbers = (int(numbers[0]), int(numbers[-1]))
        regions = [self._regions(volumes.scans[number]) for number in numbers]
        common = np.intersect1d(*(part.unique().numpy() for part in regions))
        common = common[common != 0]
        if not len(common):
            common = np.array([0])
        wanted = int(rng.choice(common))
        centres = []
        for part in regions:
            voxels = torch.nonzero(part == wanted)
            centres.append(voxels[rng.integers(len(voxels))].flip(0).numpy().astype(np.float64))
        scans = [volumes.on_device(number) for number in numbers]
        return labelled_pair(
            tuple(scans),
            tuple(part.to(volumes.device) for part in regions),
            tuple(centres),
            self.crop,
            self.regions,
            self.deformation,
            self._changed,
            rng,
        )

    def _regions(self, scan: PreparedScan) -> torch.Tensor:
        """The regions of a scan, kept for as long as the scan is."""
        known = self._known.get(id(scan))
        if known is not None and known[0]() is scan:
            return known[1]
        regions = torch.from_numpy(self._source(scan))
        self._known = {key: value for key, value in self._known.items() if value[0]() is not None}
        self._known[id(scan)] = weakref.ref(scan), regions
        return regions

    def _changed(self, values: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        # Grey values of a CT mean something, those of others differ from scanner to scanner.
        return changed_contrast(values, rng, 0.7 if self.preparation.intensity.kind == "window" else 1.5)


def _partial_dice_loss(
    field: torch.Tensor, prototypes: Prototypes, truth: torch.Tensor, body: torch.Tensor, drawn: torch.Tensor
) -> torch.Tensor:
    """(R,) Dice loss over the body from all voxels of the regions and some of the others, which count for more."""
    regions = truth.any(dim=0)
    weights = torch.where(regions, torch.ones_like(drawn), drawn) * body
    rows = weights > 0
    found = torch.sigmoid(predicted(field[:, rows].T, prototypes))
    return dice_loss(found, truth[:, rows].T, weights[rows])


def _sides(what: str, given: Sequence[int], least: int) -> tuple[int, int, int]:
    if len(given) != 3 or min(given) < least:
        raise InputError(f"{what} {list(given)}: three numbers of voxels from {least} up were expected")
    return tuple(int(side) for side in given)
