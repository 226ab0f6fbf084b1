"""Segmentation by a network that was fine-tuned and kept; no scan needs to be marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.labelmap import LabelMap, Segment
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.models import ModelCard, ModelStore
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.segmentation.decision import labels_from_probabilities
from SSLFewShotLib.segmentation.segmenter import Segmenter
from SSLFewShotLib.segmentation.sliding_window import segment_probabilities
from SSLFewShotLib.tuning.tuned import TunedNetwork, check_tuned, segments_of


class TunedSegmenter(Segmenter):
    """Segments with a model that was fine-tuned and kept; no scan needs to be marked.

    card, tensors: of the model. `fit` takes a support all the same: of it only the names of the wanted segments
    count, which the result has with the support's colours; without `fit`, all that the model knows are segmented.

    Raises InputError for a model that was not fine-tuned.
    """

    name = "tuned"

    def __init__(
        self,
        card: ModelCard,
        tensors: dict[str, np.ndarray],
        device: torch.device | str = "cpu",
        largest_component: bool = True,
        seed: int = 0,
    ):
        check_tuned(card)
        self.card = card
        self.tensors = tensors
        self.device = torch.device(device)
        self.largest_component = largest_component
        self.seed = seed  # nothing is drawn; a worker gives every segmenter its seed
        self.segments_ = segments_of(card)

    def fit(self, support: SupportSet, progress: Progress = ignore_progress) -> TunedSegmenter:
        """Segment what the support has marked, as far as the model knows it.

        Raises InputError when it knows none of it by name.
        """
        known = [segment.name for segment in segments_of(self.card)]
        wanted = [segment for segment in support.segments if segment.name in known]
        if not wanted:
            raise InputError(
                f"model {self.card.name}: knows {', '.join(known)}, and none of what is marked "
                f"({', '.join(segment.name for segment in support.segments)}); choose another model, or fine-tune"
            )
        self.segments_ = wanted
        progress(1.0, f"model {self.card.name}")
        return self

    def only(self, names: Sequence[str]) -> TunedSegmenter:
        """Segment these alone. Raises InputError for a name that the model does not know."""
        known = {segment.name: segment for segment in segments_of(self.card)}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(f"model {self.card.name}: knows {', '.join(known)}, not {', '.join(unknown)}")
        self.segments_ = [known[name] for name in dict.fromkeys(names)]
        return self

    def misfit(self, modality: str) -> str | None:
        """A sentence of warning when the model was made for another modality."""
        return ModelStore.suits(self.card, modality)

    @property
    def overlapping(self) -> bool:
        """Whether its segments may overlap."""
        return bool(self.card.training["settings"].get("overlapping"))

    def predict(self, volume: Volume, progress: Progress = ignore_progress) -> tuple[LabelMap, Volume]:
        """Take the scan through the network in tiles, and decide on its own grid."""
        tuned = TunedNetwork.of_model(self.card, self.tensors, volume)
        tuned.network.eval()
        return labelled_by(tuned, volume, self.segments_, self.device, self.largest_component, progress)

    def provenance(self) -> dict[str, Any]:
        settings = {"largest_component": self.largest_component, "seed": self.seed}
        return {"method": self.name, "descriptor": model_facts(self.card), "settings": settings}


def labelled_by(
    tuned: TunedNetwork,
    volume: Volume,
    segments: Sequence[Segment],
    device: torch.device,
    largest_component: bool,
    progress: Progress,
) -> tuple[LabelMap, Volume]:
    """Label a scan with a fine-tuned network; segments: those of it that are wanted, by name."""
    scan = tuned.preparation(volume, portion(progress, 0.0, 0.1))
    found = probabilities_by(tuned, scan, device, portion(progress, 0.1, 0.8))
    labels, confidence = labels_from_probabilities(
        volume,
        found,
        scan.origin,
        scan.spacing,
        tuned.segments,
        tuned.overlapping,
        float(largest_component),
        portion(progress, 0.8, 1.0),
    )
    # All were decided, so that what is not wanted is background and does not become something that is.
    masks = {segment.name: labels.mask(segment.name) for segment in segments}
    return LabelMap.from_masks(volume, masks, list(segments), labels.name), confidence


def probabilities_by(
    tuned: TunedNetwork, scan: PreparedScan, device: torch.device, progress: Progress
) -> np.ndarray:
    """(S, K, J, I) of a scan that was prepared for a fine-tuned network, on its grid."""
    return segment_probabilities(
        scan, tuned.network, tuned.patch, tuned.loss, len(tuned.segments), device, progress
    )


def model_facts(card: ModelCard) -> dict[str, Any]:
    """What a segmenter's provenance says of its model."""
    return {
        "name": card.name,
        "method": card.method,
        "sha256": card.weights["sha256"],
        "made_by": card.versions["sslfewshot"],
    }
