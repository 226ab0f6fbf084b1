"""Fine-tuning as what an evaluation compares: a network tuned for each support set."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.evaluation.contender import Contender
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.models import ModelStore
from SSLFewShotLib.pretext.continuing import Beginning
from SSLFewShotLib.sampling.intensity import modality_of
from SSLFewShotLib.segmentation.finetune import FineTuneSegmenter


class FineTuneContender(Contender):
    """`FineTuneSegmenter` from one model; a network is tuned for each support set, which takes the budget each."""

    method = FineTuneSegmenter.name
    share_of_fitting = 0.9

    def __init__(
        self,
        begun: Beginning | None,
        given: str,
        settings: Mapping[str, Any],
        device: torch.device | str = "cpu",
    ):
        """begun: the model, None for random weights; given: what was asked for; settings: of the segmenter."""
        self.begun = begun
        self.given = given
        random = "scratch" if begun is None else f"{begun.card.name} from scratch"
        self.model = random if begun is None or settings.get("scratch") else begun.card.name
        self.device = device
        self.settings = dict(settings)
        self._segmenter()

    def _segmenter(self) -> FineTuneSegmenter:
        try:
            return FineTuneSegmenter(self.begun, self.device, **self.settings)
        except TypeError as error:
            raise InputError(
                f"settings {', '.join(self.settings)}: not all are settings of {self.method} ({error})"
            ) from None

    def facts(self) -> dict[str, Any]:
        said = self._segmenter().provenance()
        card = None if self.begun is None else self.begun.card
        return {
            "given": self.given,
            "descriptor": "random weights" if card is None or self.settings.get("scratch") else card.method,
            **({} if card is None else {"sha256": card.weights["sha256"]}),
            "settings": said["settings"],
            "pretraining": [] if card is None or self.settings.get("scratch") else card.training["data"],
        }


def tuned_contender(
    name: str, like: Volume, device: torch.device, settings: Mapping[str, Any]
) -> FineTuneContender:
    """Fine-tuning from a model, by its name or folder; "" for random weights.

    Warns (InputWarning) of a model made for another modality. Raises InputError for an unknown one.
    """
    if not name:
        return FineTuneContender(None, "", settings, device)
    begun = Beginning.read(name)
    if warning := ModelStore.suits(begun.card, modality_of(like)):
        warnings.warn(warning, InputWarning, stacklevel=4)
    given = str(Path(name).resolve()) if Path(name).is_dir() else name
    return FineTuneContender(begun, given, settings, device)
