"""Which fine-tunings a study makes: from which weights, with how many scans and which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.pretext.continuing import Beginning

SCRATCH = "scratch"


@dataclass(frozen=True)
class Start:
    """What a fine-tuning begins with: a model, or random weights for the networks of that model."""

    label: str
    model: Beginning
    scratch: bool


def starts_of(models: Sequence[Beginning]) -> list[Start]:
    """Each model, and random weights once for each kind of network and preparation among them.

    Random weights are called "scratch", of a second kind "scratch (first model of that kind)", so that models can
    be added later. Raises InputError when two are of one name.
    """
    starts: list[Start] = []
    kinds: list[tuple] = []
    for model in models:
        card = model.card
        starts.append(Start(card.name, model, False))
        kind = (card.architecture["name"], card.architecture["settings"], card.preprocessing, model.extent)
        kind += (card.training["settings"].get("crop"),)
        if kind not in kinds:
            starts.append(Start(f"{SCRATCH} ({card.name})" if kinds else SCRATCH, model, True))
            kinds.append(kind)
    labels = [start.label for start in starts]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise InputError(f"{twice[0]}: two models have this name, which their results are known by; rename one")
    return starts


@dataclass(frozen=True)
class Run:
    """One fine-tuning: from which weights, with how many scans, with which seed, and which scans those are."""

    start: Start
    shots: int
    seed: int
    supports: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its folder while it is at work."""
        return f"{self.start.label}-{self.shots}-seed{self.seed}"

    def unit(self, query: str) -> tuple:
        """What identifies a query's rows in the table; a repetition is told by its seed."""
        return "finetune", self.start.label, self.shots, f"seed {self.seed}: {'+'.join(self.supports)}", query


def planned_runs(supports: Sequence[str], shots: Sequence[int], seeds: int, starts: Sequence[Start]) -> list[Run]:
    """All runs, one seed after the other, so that one that is stopped has whole repetitions.

    With each seed the supports are put in another order, of which k scans are the first k: more scans always
    contain the fewer, and all starts get the same ones.

    Raises InputError for numbers of scans that there are not, or no seed.
    """
    if not supports:
        raise InputError("no support was named; give the ids of the scans whose labels may be learned from")
    if seeds < 1 or not shots or min(shots) < 1:
        raise InputError(f"seeds {seeds}, scans {list(shots)}: whole numbers from 1 up were expected")
    if max(shots) > len(supports):
        raise InputError(f"{max(shots)} labelled scans: only {len(supports)} supports were named; name more")
    runs = []
    for seed in range(seeds):
        order = [supports[n] for n in np.random.default_rng([seed, 11]).permutation(len(supports))]
        for count in sorted(set(shots)):
            runs += [Run(start, count, seed, tuple(order[:count])) for start in starts]
    return runs
