"""Segmentation by a network that is fine-tuned on the supports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from SSLFewShotLib.imaging.labelmap import LabelMap, Segment
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.pretext.continuing import Beginning
from SSLFewShotLib.pretext.trainer import TrainerSettings
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.fingerprint import support_content
from SSLFewShotLib.segmentation.segmenter import Segmenter
from SSLFewShotLib.segmentation.tuned import labelled_by, model_facts
from SSLFewShotLib.tuning.labelled import Labelled
from SSLFewShotLib.tuning.start import Start, make_start
from SSLFewShotLib.tuning.task import TuningSettings
from SSLFewShotLib.tuning.training import LEARNING_RATE, fine_tuned, outputs_for, prepared
from SSLFewShotLib.tuning.tuned import check_free, is_kept, keep

MINUTES = 10.0
"""The budget where none is given."""


class FineTuneSegmenter(Segmenter):
    """Fine-tunes a network on the supports (Dhere and Sivaswamy 2021; Taleb et al. 2020), then segments with it.

    begun: the pretrained model, None for random weights of `network` (see `tuning.start.NETWORKS`).
    minutes, iterations: the budget, one of the two; 10 minutes when both are None. With iterations, the same seed
        on the same device gives the same weights, interrupted or not.
    loss, frozen, held_out: see `TuningSettings`. learning_rate: higher than the 0.001 of the first paper,
        which measured worse in so few minutes (README).
    scratch: random weights for the networks and at the spacing of `begun`.
    keep: the tuned model is put into the store under this name.
    largest_component: keep the largest piece of each segment only.

    After `fit`: segments_, tuned_ (`TunedNetwork`), training_, scores_ ((iteration, Dice on held-out blocks of the
    supports)). Raises InputError for settings out of range, a model without a 3D encoder, or a name that is taken.
    """

    name = "finetune"
    trains = True

    def __init__(
        self,
        begun: Beginning | None,
        device: torch.device | str = "cpu",
        minutes: float | None = None,
        iterations: int | None = None,
        loss: str = "bce-dice",
        learning_rate: float = LEARNING_RATE,
        frozen: float = 0.2,
        held_out: float = 0.1,
        scratch: bool = False,
        network: str = "unet",
        keep: str | None = None,
        largest_component: bool = True,
        seed: int = 0,
    ):
        self.begun = begun
        self.device = torch.device(device)
        if minutes is None and iterations is None:
            minutes = MINUTES
        self.budget = TrainerSettings(
            iterations=iterations, minutes=minutes, learning_rate=learning_rate, seed=seed, checkpoint_minutes=1.0
        )
        self.tuning = TuningSettings(loss, frozen, held_out)
        self.scratch = scratch
        self.network = network
        self.keep = keep
        self.largest_component = largest_component
        self.seed = seed

    def fit(self, support: SupportSet, progress: Progress = ignore_progress) -> FineTuneSegmenter:
        """Fine-tune on the supports until the budget is spent, or what is held out of them gets no better."""
        self.overlapping_ = any(labels.overlapping for _, labels in support)
        labelled: list[Labelled] = [(volume, labels, None) for volume, labels in support]
        return self._fit(labelled, support.segments, support_content(support), progress)

    def _fit(
        self,
        labelled: Sequence[Labelled],
        segments: Sequence[Segment],
        content: str,
        progress: Progress = ignore_progress,
    ) -> FineTuneSegmenter:
        """Fine-tune on scans whose labels count as much as their weights say; see `tuning.labelled.Labelled`.

        segments: numbered 1 to S; content: what tells these scans from others, for checkpoint and card.
        """
        self.segments_ = list(segments)
        self.overlapping_ = any(labels.overlapping for _, labels, _ in labelled)
        channels = outputs_for(self.tuning.loss, len(self.segments_), self.overlapping_)
        names = [segment.name for segment in self.segments_]
        to_keep = self.keep is not None and not (self.resume and is_kept(self.keep, content))
        if to_keep:
            check_free(self.keep)  # not after minutes of training
        first = labelled[0][0]
        start = make_start(self.begun, channels, first, self.scratch, self.network, self.seed, names)
        identity = {**self._identity(), "content": content, "segments": names}
        scans = prepared(labelled, self.segments_, start.preparation, portion(progress, 0.0, 0.02))
        tuned = fine_tuned(
            start,
            scans,
            self.segments_,
            self.overlapping_,
            self.tuning,
            self.budget,
            self.device,
            identity,
            self.folder,
            self.resume,
            portion(progress, 0.02, 1.0),
        )
        self.tuned_, self.training_ = tuned.network, tuned.training
        self.scores_, self.taken_from_ = tuned.scores, tuned.taken_from
        if to_keep:
            self._keep(start, [volume.name for volume, _, _ in labelled], content, channels, tuned.settings)
        return self

    def predict(self, volume: Volume, progress: Progress = ignore_progress) -> tuple[LabelMap, Volume]:
        """Take the scan through the network in tiles, and decide on its own grid."""
        return labelled_by(self.tuned_, volume, self.segments_, self.device, self.largest_component, progress)

    def provenance(self) -> dict[str, Any]:
        begun = {} if self.begun is None else {"descriptor": model_facts(self.begun.card)}
        return {"method": self.name, **begun, "settings": self._identity()}

    def _identity(self) -> dict[str, Any]:
        """The settings that decide what comes out."""
        return {
            **(
                {"iterations": self.budget.iterations}
                if self.budget.iterations
                else {"minutes": self.budget.minutes}
            ),
            **asdict(self.tuning),
            "learning_rate": self.budget.learning_rate,
            "scratch": self.scratch,
            **(
                {"network": self.network}
                if self.begun is None
                else {"start_sha256": self.begun.card.weights["sha256"]}
            ),
            "largest_component": self.largest_component,
            "seed": self.seed,
        }

    def _keep(self, start: Start, names: list[str], content: str, channels: int, settings: dict[str, Any]) -> None:
        trained = {
            "iterations": self.training_.iteration,
            "minutes": round(self.training_.seconds / 60, 1),
            "device": f"{self.device.type}, {torch.get_num_threads()} threads",
            "seed": self.seed,
            "channels": channels,
        }
        score = None if not self.scores_ else round(max(score for _, score in self.scores_), 4)
        metrics = {} if score is None else {"control_metric": "dice", "held_out_blocks_of_the_support": score}
        keep(self.keep, self.tuned_, start, names, content, trained, settings, metrics)
