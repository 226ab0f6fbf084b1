"""What a pretraining learns from: the scans of a folder, or synthetic ones; with what the card says of them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.cases import Case, find_scans
from SSLFewShotLib.imaging.files import read_volume
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.pretext.continuing import Beginning, labelled_cases
from SSLFewShotLib.pretext.pool import ScanPool
from SSLFewShotLib.pretext.synthetic_pool import SyntheticPool
from SSLFewShotLib.pretext.task import PretextTask
from SSLFewShotLib.pretext.trainer import TrainerSettings
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity, modality_of
from SSLFewShotLib.sampling.preparation import Preparation


@dataclass(frozen=True)
class PretrainingSource:
    """Where the scans come from, for the card. modality: "CT", "MR", … or None to find out."""

    name: str
    source: str = "the user's own folder"
    licence: str = "not stated"
    modality: str | None = None


SYNTHETIC = PretrainingSource(
    "synthetic scans", "random shapes with random contrasts, drawn anew", "no data", "any"
)


@dataclass(frozen=True)
class TrainingScans:
    """The scans of a training, and how they are prepared.

    paths, held_out: files to learn from and to measure the control metric on; both empty for synthetic scans.
    cases: with labels to learn from, or None. kind: "unlabelled", "labelled" or "synthetic", for the card.
    """

    source: PretrainingSource
    modality: str
    extent: Extent
    intensity: Intensity
    paths: Sequence[Path] = ()
    held_out: Sequence[Path] = ()
    cases: Sequence[Case] | None = None
    kind: str = "unlabelled"

    @classmethod
    def below(
        cls,
        folder: Path,
        source: PretrainingSource | None,
        extent: Extent | None,
        begun: Beginning | None,
        labelled: Sequence[str] | None,
        needs_labels: bool = False,
    ) -> TrainingScans:
        """The scans of a folder; of a model that is begun from, extent and intensity hold.

        needs_labels: all cases with labels, where `labelled` names none.

        Raises InputError when none is there or none can be read, or a case of `labelled` is not there.
        """
        cases = None if labelled is None and not needs_labels else labelled_cases(folder, labelled)
        paths = find_scans(folder) if cases is None else [case.image for case in cases]
        first = _first_readable(paths)
        modality = (source.modality if source else None) or modality_of(first)
        source = source or PretrainingSource(Path(folder).resolve().name)
        intensity = Intensity.for_modality(modality)
        if begun is not None:
            modality = modality if begun.modality == "any" else begun.modality
            extent, intensity = begun.extent.settled(first), begun.intensity
        extent = extent or Extent.suited_to(first)
        kind = "unlabelled" if cases is None else "labelled"
        return cls(source, modality, extent, intensity, *split_held_out(paths), cases, kind)

    @classmethod
    def synthetic(cls, method: str, begun: Beginning | None = None) -> TrainingScans:
        """Random shapes, for models of any modality and size.

        Raises InputError for a method but dense, and for a model to go on from that knows scans of one kind.
        """
        if method != "dense":
            raise InputError(f"{method}: there are synthetic scans for dense only; give a folder of scans")
        if begun is not None and (begun.modality, begun.extent.unit) != ("any", "suited"):
            raise InputError(
                f"model {begun.card.name}: made for {begun.modality} scans of one size, synthetic ones have any; "
                "go on from any-modality, or give a folder of scans"
            )
        return cls(SYNTHETIC, "any", Extent("suited", 1.0), Intensity.for_modality("any"), kind="synthetic")

    def taught(self, task: PretextTask) -> TrainingScans:
        """These scans as a task learns from them: it is given the labels, and leaves out what it cannot use.

        Raises InputError when it cannot learn from labels, or from these.
        """
        if self.cases is None:
            return self
        cases = task.use_labels(self.cases)
        paths, held_out = split_held_out([case.image for case in cases], task.held_out_every)
        return replace(self, cases=cases, paths=paths, held_out=held_out)

    def pool(self, preparation: Preparation) -> ScanPool | SyntheticPool:
        """What the trainer draws from."""
        return SyntheticPool() if self.kind == "synthetic" else ScanPool(self.paths, preparation)

    def held_out_pool(self, preparation: Preparation) -> ScanPool | SyntheticPool:
        """What the control metric is measured on; synthetic scans are new ones with every draw."""
        return SyntheticPool() if self.kind == "synthetic" else ScanPool(self.held_out, preparation)

    def fingerprint(self) -> str:
        """Of the files' names, so that a training is not resumed with other scans."""
        return hashlib.sha256("\n".join(path.name for path in self.paths).encode()).hexdigest()[:16]

    def on_card(
        self, pool: ScanPool | SyntheticPool, settings: TrainerSettings, iterations: int
    ) -> dict[str, Any]:
        """name, source, licence and number of the scans that were learned from."""
        if self.kind == "synthetic":
            count = settings.scans_at_once * -(-iterations // settings.refresh_every)
        else:
            count = len(self.paths) - len(pool.skipped)
        name = self.source.name
        if self.cases is not None:
            name += f", labels of {', '.join(case.id for case in self.cases)}"
        return {"name": name, "source": self.source.source, "licence": self.source.licence, "scans": count}


def split_held_out(paths: Sequence[Path], every: int = 20) -> tuple[list[Path], list[Path]]:
    """One scan in so many is held out for the control metric, when there are at least ten."""
    held_out = list(paths[every // 2 - 1 :: every]) if len(paths) >= 10 else []
    return [path for path in paths if path not in held_out], held_out


def _first_readable(paths: Sequence[Path]) -> Volume:
    reasons = []
    for path in paths:
        try:
            return read_volume(path)
        except InputError as error:
            reasons.append(str(error))
            warnings.warn(f"skipped: {error}", InputWarning, stacklevel=4)
    raise InputError(f"none of the {len(paths)} scans can be read: {'; '.join(reasons[:3])}")
