"""Going on from a model that exists, and with scans that are labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.cases import Case, find_cases, select_cases
from SSLFewShotLib.models import ModelCard, ModelStore, load_model
from SSLFewShotLib.pretext.methods import options_of
from SSLFewShotLib.pretext.task import PretextTask
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity

_KEPT_OPTIONS = ("network", "features", "levels", "crop", "window")
"""Options of the model that hold on where they are not given anew."""


@dataclass(frozen=True)
class Beginning:
    """The model that a training starts from: its card and weights, by "branch/parameter"."""

    card: ModelCard
    tensors: dict[str, np.ndarray]

    @classmethod
    def read(cls, start: str | Path) -> Beginning:
        """Find a model by its name or folder, of whichever method. Raises InputError when there is none."""
        return cls(*load_model(ModelStore().find(start).folder))

    @property
    def modality(self) -> str:
        """As on the card."""
        return self.card.preprocessing["modality"]

    @property
    def extent(self) -> Extent:
        """The one that the model was trained with."""
        return Extent(self.card.extent["unit"], float(self.card.extent.get("scale", 1.0)))

    @property
    def intensity(self) -> Intensity:
        """Likewise."""
        return Intensity.from_dict(self.card.preprocessing["intensity"])

    def load_into(self, task: PretextTask) -> None:
        """Give the task's networks these weights. Raises InputError when they do not fit."""
        try:
            for branch, module in task.descriptor_modules().items():
                state = {name: torch.from_numpy(self.tensors[f"{branch}/{name}"]) for name in module.state_dict()}
                module.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            raise InputError(
                f"model {self.card.name}: its networks are not those of this training; choose another model to "
                "start from, or leave out the options that change the networks"
            ) from error


def begun_options(method: str, options: Mapping[str, Any] | None, begun: Beginning | None) -> dict[str, Any]:
    """The options of a training, with those of the model that it starts from where they are left open."""
    kept = {} if begun is None else begun.card.training["settings"]
    names = [name for name in _KEPT_OPTIONS if name in kept and name in options_of(method)]
    return {**{name: kept[name] for name in names}, **(options or {})}


def labelled_cases(folder: Path, ids: Sequence[str] | None) -> list[Case]:
    """The cases with these ids, None for all that have labels.

    Raises InputError for an unknown id, a case without labels, or when none has any.
    """
    if ids is None:
        found = [case for case in find_cases(folder) if case.labels is not None]
        if not found:
            raise InputError(
                f"{folder}: no labelled scan lies in this folder; mark some, or choose another method"
            )
        return found
    if not ids:
        raise InputError("no labelled case was named; give the ids of at least one")
    chosen = select_cases(find_cases(folder), ids)
    bare = [case.id for case in chosen if case.labels is None]
    if bare:
        raise InputError(f"{bare[0]}: has no labels in {folder}; mark it, or leave it out")
    return chosen
