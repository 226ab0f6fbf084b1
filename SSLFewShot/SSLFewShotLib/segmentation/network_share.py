"""A network trained on the supports, and on what an alignment gives to other scans, to be joined with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.imaging.labelmap import Segment
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.pretext.trainer import TrainerSettings
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.segmentation.carried_labels import LatticeProbabilities
from SSLFewShotLib.segmentation.fingerprint import support_content
from SSLFewShotLib.segmentation.pseudo_labels import Predict, pseudo_labelled
from SSLFewShotLib.segmentation.tuned import probabilities_by
from SSLFewShotLib.tuning.start import start_over
from SSLFewShotLib.tuning.task import TuningSettings
from SSLFewShotLib.tuning.training import LEARNING_RATE, fine_tuned, outputs_for, prepared
from SSLFewShotLib.tuning.tuned import TunedNetwork

STEPS = 600
"""Of the training; about five minutes of a processor core."""
_ALONE = 0.5
"""How much less a network counts that has seen the marked scans alone."""
_DISTRUST = 3
"""Power of the Dice on what was held out: at 0.87 (head and neck) a smaller share measured best than at 0.93."""
_CARRYING = 0.35
"""Share of the time that carrying labels to unlabelled scans takes."""
_SUPPORTS = 1 / 3
"""How often a marked scan is learned from, to one that labels were carried to."""


@dataclass
class NetworkShare:
    """A trained network and (S,) the share that it has in the probability of each segment, 0 to 1."""

    network: TunedNetwork
    shares: np.ndarray
    device: torch.device

    @classmethod
    def trained(
        cls,
        descriptor: DenseDescriptor,
        support: SupportSet,
        predict: Predict,
        unlabelled: Sequence[Path],
        most: float,
        steps: int,
        seed: int,
        identity: Mapping[str, Any],
        folder: Path | None = None,
        resume: bool = False,
        progress: Progress = ignore_progress,
    ) -> NetworkShare:
        """Fine-tune the descriptor's network, which stays as it is.

        predict: of the alignment alone, which gives the `unlabelled` scans the labels that are learned from.
        most: the share of a network that is always right; a segment's is that times the cube of the Dice on what
        was held out of the training, so that what was not learned stays with the alignment, and half of it where
        there are no unlabelled scans. steps: iterations; a scan of the support is drawn from as often as a third
        of the others.
        identity, folder, resume: see `fine_tuned`.
        """
        segments: list[Segment] = list(support.segments)
        overlapping = any(labels.overlapping for _, labels in support)
        settings, preparation = TuningSettings(), descriptor.preparation
        outputs = outputs_for(settings.loss, len(segments), overlapping)
        start = start_over(
            descriptor.network, outputs, preparation, descriptor.tile, descriptor.modality, seed=seed
        )
        scans = prepared([(volume, labels, None) for volume, labels in support], segments, preparation)
        if unlabelled:
            carrying, progress = portion(progress, 0.0, _CARRYING), portion(progress, _CARRYING, 1.0)
            carried = pseudo_labelled(unlabelled, predict, segments, preparation, carrying)
            scans = scans * max(1, round(_SUPPORTS * len(carried) / len(scans))) + carried
        tuned = fine_tuned(
            start,
            scans,
            segments,
            overlapping,
            settings,
            TrainerSettings(iterations=steps, learning_rate=LEARNING_RATE, seed=seed, checkpoint_minutes=1.0),
            descriptor.device,
            {**identity, "content": support_content(support), "segments": [s.name for s in segments]},
            folder,
            resume,
            progress,
        )
        trust = most * (1.0 if unlabelled else _ALONE)
        shares = trust * np.nan_to_num(tuned.dice).astype(np.float32) ** _DISTRUST
        return cls(tuned.network, shares, descriptor.device)

    def seen(
        self, scan: PreparedScan, near: np.ndarray, progress: Progress = ignore_progress
    ) -> LatticeProbabilities:
        """What it sees in a scan within a box (2, 3), LPS mm; further away it would find what looks alike."""
        first, last = scan.indices(near)
        inside = tuple(
            slice(max(0, int(np.ceil(a))), max(0, int(b) + 1))
            for a, b in zip(first[::-1], last[::-1], strict=True)
        )
        body = torch.zeros_like(scan.body)
        body[inside] = scan.body[inside]
        found = probabilities_by(self.network, replace(scan, body=body), self.device, progress)
        found *= body.numpy()
        if not self.network.overlapping:
            found /= np.maximum(found.sum(axis=0), 1)
        return LatticeProbabilities(scan.origin, scan.spacing, found)
