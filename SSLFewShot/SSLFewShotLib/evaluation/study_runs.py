"""Which fine-tunings a study makes: from which weights, with how many scans and which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from SSLFewShotLib.errors import InputError

PRETRAINED, SCRATCH = "pretrained", "scratch"
STARTS = (PRETRAINED, SCRATCH)


@dataclass(frozen=True)
class Run:
    """One fine-tuning: from which weights, with how many scans, with which seed, and which scans those are."""

    start: str
    shots: int
    seed: int
    supports: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its folder while it is at work."""
        return f"{self.start}-{self.shots}-seed{self.seed}"

    def unit(self, query: str) -> tuple:
        """What identifies a query's rows in the table; a repetition is told by its seed."""
        return "finetune", self.start, self.shots, f"seed {self.seed}: {'+'.join(self.supports)}", query


def planned_runs(supports: Sequence[str], shots: Sequence[int], seeds: int) -> list[Run]:
    """All runs, one seed after the other, so that one that is stopped has whole repetitions.

    With each seed the supports are put in another order, of which k scans are the first k: more scans always
    contain the fewer, and both starts get the same ones.

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
            runs += [Run(start, count, seed, tuple(order[:count])) for start in STARTS]
    return runs
