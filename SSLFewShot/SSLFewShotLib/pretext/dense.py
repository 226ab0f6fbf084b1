"""DENSE: the same place in two deformed views of a scan gets the same vector, other places other ones.

Contrastive learning of a fully convolutional descriptor: InfoNCE (van den Oord et al., "Representation learning
with contrastive predictive coding", 2018, equation 4) between corresponding points of two views, all other points
of the same scan being the negatives. One pass over a scan describes every place of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.pretext.task import Batch, PretextTask
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.contrast import changed_contrast
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import Preparation, PreparedScan
from SSLFewShotLib.sampling.synthetic import STRONGLY_CHANGED, SyntheticScan
from SSLFewShotLib.sampling.views import Deformation, View, sampled

STEP = 1 / 30
"""Distance of two voxels that the network sees, in units (4 mm for a trunk)."""
CROP = (40, 40, 40)
POINTS = 512
TEMPERATURE = 0.07
FEATURES, DIMENSION = 12, 32
NEAREST_NEGATIVE = 1.5
"""Voxels: a point closer than that to the right one is no negative."""
_JITTER = 8
_CANDIDATES = 4096


def dense_preparation(extent: Extent, intensity: Intensity) -> Preparation:
    """The grid that the network sees."""
    return Preparation(extent, intensity, STEP)


def contrastive_loss(
    first: torch.Tensor, second: torch.Tensor, places: torch.Tensor, temperature: float = TEMPERATURE
) -> tuple[torch.Tensor, torch.Tensor]:
    """InfoNCE both ways between (N, C) vectors of the same N places, and the share that finds its partner.

    L = −1/2N Σ_n [log softmax_m(a_n·b_m / τ)_n + log softmax_m(b_n·a_m / τ)_n], vectors at unit length.
    places: (N, 3) voxels; other places within `NEAREST_NEGATIVE` of the right one are left out.
    """
    logits = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature
    near = torch.cdist(places, places) < NEAREST_NEGATIVE
    near.fill_diagonal_(False)
    logits = logits.masked_fill(near, -torch.inf)
    right = torch.arange(len(logits), device=logits.device)
    loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    return loss, (logits.detach().argmax(dim=1) == right).float().mean()


class Dense(PretextTask):
    """Tell 512 places of a scan apart in two deformed views with changed contrast."""

    name = "dense"
    architecture = "UNet3d"
    control_metric = "accuracy"
    higher_is_better = True
    usual_batch = 1
    chance = 1 / POINTS
    deformation = Deformation()

    def __init__(self, extent: Extent, intensity: Intensity, batch_size: int = 1):
        self.preparation = dense_preparation(extent, intensity)
        self.batch_size = batch_size
        self.network = UNet3d(1, FEATURES, DIMENSION).to(memory_format=torch.channels_last_3d)

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"unet": self.network})

    def descriptor_modules(self) -> dict[str, nn.Module]:
        return {"unet": self.network}

    def architecture_settings(self) -> dict[str, Any]:
        return self.network.settings

    def sample(self, volumes: ScanBatch, rng: np.random.Generator) -> Batch:
        """views: (2N, 1, K, J, I), first views before second ones; points: (N, 2, P, 3) indices of the same places
        in both; places: (N, P, 3) indices in the scan.
        """
        firsts, seconds, points, places = [], [], [], []
        for _ in range(self.batch_size):
            which = rng.integers(len(volumes), size=1)
            centre = volumes.draw_body_positions(which, rng)[0]
            scan = volumes.scans[int(which[0])]
            one = View.drawn(CROP, centre, self.deformation, rng)
            other = View.drawn(CROP, centre + rng.uniform(-_JITTER, _JITTER, 3), self.deformation, rng)
            firsts.append(self._seen(scan, one, rng))
            seconds.append(self._seen(scan, other, rng, second=True))
            sources, pair = _corresponding(scan, one, other, rng)
            points.append(pair)
            places.append(sources)
        # Rarely does a crop show too little body for all points: a batch has as many as its poorest pair.
        least = min(len(sources) for sources in places)
        return {
            "views": torch.stack(firsts + seconds)[:, None].to(volumes.device),
            "points": torch.stack([pair[:, :least] for pair in points]).to(volumes.device),
            "places": torch.stack([sources[:least] for sources in places]).to(volumes.device),
        }

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Mean over the pairs; metric: how often a place finds itself among all."""
        maps = self.network(batch["views"].contiguous(memory_format=torch.channels_last_3d)).float()
        firsts, seconds = maps.chunk(2)
        losses, metrics = [], []
        for first, second, points, places in zip(firsts, seconds, batch["points"], batch["places"], strict=True):
            loss, accuracy = contrastive_loss(sampled(first, points[0]), sampled(second, points[1]), places)
            losses.append(loss)
            metrics.append(accuracy)
        return torch.stack(losses).mean(), {self.control_metric: torch.stack(metrics).mean()}

    def settings(self) -> dict[str, Any]:
        return {
            "crop": list(CROP),
            "points": POINTS,
            "temperature": TEMPERATURE,
            "nearest_negative": NEAREST_NEGATIVE,
            "rotation": self.deformation.rotation,
            "scale": self.deformation.scale,
            "shear": self.deformation.shear,
            "elastic": self.deformation.elastic,
            "batch_size": self.batch_size,
        }

    def _seen(
        self, scan: PreparedScan, view: View, rng: np.random.Generator, second: bool = False
    ) -> torch.Tensor:
        """(k, j, i) what a view shows, its contrast changed; second: of a synthetic scan it may be another one."""
        if isinstance(scan, SyntheticScan):
            return scan.painted(view, rng, strongly=second and rng.random() < STRONGLY_CHANGED)
        # Grey values of a CT mean something, those of others differ from scanner to scanner.
        strength = 0.7 if self.preparation.intensity.kind == "window" else 1.5
        return changed_contrast(view.read(scan), rng, strength)


def _corresponding(
    scan: PreparedScan, one: View, other: View, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """(P, 3) indices of places in the body that both views show, and (2, P, 3) where they show them."""
    candidates = torch.as_tensor(rng.uniform(0, 1, (_CANDIDATES, 3)), dtype=torch.float32) * 2 * one.middle
    sources = one.sources(candidates)
    shown = other.places(sources)
    size = torch.tensor(scan.body.shape[::-1])
    nearest = sources.round().long()
    there = ((nearest >= 0) & (nearest < size)).all(dim=1)
    i, j, k = nearest.clamp(min=0).minimum(size - 1).T
    found = (other.sources(shown) - sources).norm(dim=1) < 0.5
    good = other.inside(shown) & found & there & scan.body[k, j, i]
    if int(good.sum()) < 2:
        # A crop beyond all tissue teaches little, but must not end a training of hours.
        good = other.inside(shown)
        good[:2] = True
    rows = torch.nonzero(good)[:POINTS, 0]
    return sources[rows], torch.stack([candidates[rows], shown[rows]])
