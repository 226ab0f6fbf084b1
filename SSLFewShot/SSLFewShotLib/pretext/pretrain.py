"""Pretraining on a folder of unlabelled scans, from the files to a model with its card."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.models import ModelCard, save_model
from SSLFewShotLib.models.card import installed_versions
from SSLFewShotLib.networks.device import choose_device
from SSLFewShotLib.outputs import check_output_folder, write_text
from SSLFewShotLib.pretext.continuing import Beginning, begun_options
from SSLFewShotLib.pretext.distributed import joined
from SSLFewShotLib.pretext.loss_curve import draw_loss_curve
from SSLFewShotLib.pretext.methods import METHODS, make_task
from SSLFewShotLib.pretext.pool import ScanPool
from SSLFewShotLib.pretext.synthetic_pool import SyntheticPool
from SSLFewShotLib.pretext.task import PretextTask
from SSLFewShotLib.pretext.trainer import Trainer, TrainerSettings, Training
from SSLFewShotLib.pretext.training_scans import PretrainingSource, TrainingScans
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity

HELD_OUT_BATCHES = 40


def pretrain(
    folder: Path | None,
    method: str,
    output: Path,
    settings: TrainerSettings,
    source: PretrainingSource | None = None,
    extent: Extent | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = ignore_progress,
    on_row: Callable[[Training], None] = lambda training: None,
    options: Mapping[str, Any] | None = None,
    start: str | Path | None = None,
    labelled: Sequence[str] | None = None,
) -> ModelCard | None:
    """Pretrain `method` on the scans below `folder`, None for synthetic ones, and write a model to `output`.

    While it runs, `<output>.training` holds checkpoint, loss.csv and loss.png (alpnet: supervoxels.png too); it
    is removed when the model is complete. One scan in twenty is held out (sides: one in four; when there are at
    least ten), and the task's control metric on it is written to the card beside its chance level. `on_row` is
    called after each new row of the loss curve.

    source: of the scans in `folder`. options: the method's own settings, by name. start: a model with the same
    networks to go on from; its extent and intensity hold. labelled: ids of the cases in `folder` whose labels are
    learned from, instead of learning from all scans without labels; None is all, for a method that needs labels.

    Returns the card; None on the processes of a torchrun that do not write. Raises InputError for unusable input,
    an existing output, an unfinished run without `resume`, or a loss that is no longer finite; Cancelled when the
    user cancels, leaving a checkpoint to resume from.
    """
    output = Path(output)
    work = output.with_name(output.name + ".training")
    _check_output(output, work, resume, overwrite)
    begun = None if start is None else Beginning.read(start)
    if folder is not None:
        needs_labels = method in METHODS and METHODS[method].needs_labels
        scans = TrainingScans.below(folder, source, extent, begun, labelled, needs_labels)
    elif any(given is not None for given in (source, extent, labelled)):
        raise InputError("synthetic scans have neither source, size nor labels; leave such options out")
    else:
        scans = TrainingScans.synthetic(method, begun)
    with joined(choose_device(device)) as (processes, device):
        all_options = begun_options(method, options, begun)
        task = seeded_task(method, scans.extent, scans.intensity, batch_size, settings.seed, all_options)
        extent = task.preparation.extent
        if begun is not None:
            begun.load_into(task)
        scans = scans.taught(task)
        pool = scans.pool(task.preparation)
        identity = {
            "batch_size": task.batch_size,
            "extent": [extent.unit, extent.scale],
            "scans": scans.fingerprint(),
            **({"options": dict(options)} if options else {}),
            **({"start": begun.card.name, "start_sha256": begun.card.weights["sha256"]} if begun else {}),
            **({"labelled": [case.id for case in scans.cases]} if scans.cases is not None else {}),
        }
        trainer = Trainer(task, pool, settings, work, device, processes, identity)
        if processes.leads and work.exists() and not resume:
            shutil.rmtree(work)
        training = trainer.run(
            resume, portion(progress, 0.0, 0.98), lambda state: _report(work, state, task, pool), on_row
        )
        if not processes.leads:
            return None
        progress(0.98, "measuring the control metric on held-out scans")
        metrics = control_metric(task, scans.held_out_pool(task.preparation), device)
        data = scans.on_card(pool, trainer.settings, training.iteration)
        every = [*(part for part in (begun.card.training["data"] if begun else []) if part != data), data]
        card = _card(output.name, task, training, trainer, scans, every, metrics)
        tensors = descriptor_tensors(task)
    card = save_model(
        output, card, tensors, {"loss.csv": work / "loss.csv", "loss.png": work / "loss.png"}, overwrite=overwrite
    )
    shutil.rmtree(work)
    progress(1.0, f"wrote {output}")
    return card


def seeded_task(
    method: str,
    extent: Extent,
    intensity: Intensity,
    batch_size: int | None,
    seed: int,
    options: Mapping[str, Any] | None = None,
) -> PretextTask:
    """A task whose networks start from `seed`, without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_task(method, extent, intensity, batch_size, options)


def control_metric(task: PretextTask, pool: ScanPool | SyntheticPool, device: torch.device) -> dict[str, Any]:
    """The task's metric on scans that it was not trained on, at full difficulty, and its chance level.

    Nothing when not one of them can be read, of which the pool has warned: the training was not in vain.
    """
    try:
        volumes = pool.draw(8, np.random.default_rng(0), device)
    except InputError:
        return {}
    task.fraction = 1.0
    modules = task.modules().eval()
    values = []
    with torch.inference_mode():
        for number in range(HELD_OUT_BATCHES):
            _, metrics = task.loss(task.sample(volumes, np.random.default_rng([7, number])))
            values.append(float(metrics[task.control_metric]))
    modules.train()
    return {
        "control_metric": task.control_metric,
        "held_out": round(float(np.mean(values)), 4),
        "chance": round(task.chance, 4),
        "held_out_scans": len(volumes),
    }


def descriptor_tensors(task: PretextTask) -> dict[str, np.ndarray]:
    """The weights that describe voxels, as "branch/parameter"."""
    return {
        f"{branch}/{name}": np.ascontiguousarray(tensor.detach().cpu().numpy())
        for branch, module in task.descriptor_modules().items()
        for name, tensor in module.state_dict().items()
    }


def _check_output(output: Path, work: Path, resume: bool, overwrite: bool) -> None:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,78}[a-z0-9_-])?", output.name):
        raise InputError(
            f"{output}: a model's folder is named with a-z, 0-9, '-', '_' and '.'; choose another name"
        )
    check_output_folder(output)
    if (output / "card.json").exists() and not overwrite:
        raise InputError(f"{output}: there is a model already; overwrite it, or choose another output")
    if work.exists() and not resume and not overwrite:
        raise InputError(f"{work}: an unfinished pretraining is there; resume it, or overwrite it")


def _report(work: Path, training: Training, task: PretextTask, pool: ScanPool | SyntheticPool) -> None:
    """The curve so far, as loss.csv and loss.png, and what the task has to show of its first scan."""
    if not training.rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, training.rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(training.rows)
    write_text(work / "loss.csv", text.getvalue())
    draw_loss_curve(training.rows, work / "loss.png", task.name)
    if pool.paths and (first := pool.get(pool.paths[0])) is not None:
        task.draw_example(first, work)


def _card(
    name: str,
    task: PretextTask,
    training: Training,
    trainer: Trainer,
    scans: TrainingScans,
    every: list[dict[str, Any]],
    metrics: dict[str, Any],
) -> ModelCard:
    """every: the data of all trainings that led here, this one's last."""
    data, modality, extent = every[-1], scans.modality, task.preparation.extent
    modules = task.descriptor_modules()
    settings = {key: value for key, value in trainer.identity.items() if value is not None and key != "scans"}
    place = trainer.device.type + (f" × {trainer.processes.count}" if trainer.processes.count > 1 else "")
    return ModelCard(
        name=name,
        title=f"{task.name.upper()} {'encoder' if 'encoder' in modules else 'descriptor'}, {data['name']}",
        description=f"Self-supervised {task.name} pretraining on {data['scans']} {scans.kind} scans ({modality}).",
        method=task.name,
        architecture={
            "name": task.architecture,
            "branches": list(modules),
            "parameters": sum(p.numel() for module in modules.values() for p in module.parameters()),
            "settings": task.architecture_settings(),
        },
        preprocessing={
            "modality": modality if re.fullmatch("[A-Z]{2,8}", modality) else "any",
            "intensity": task.preparation.intensity.to_dict(),
            "spacing_mm": extent.scale * task.preparation.step if extent.unit == "mm" else None,
        },
        extent={"unit": extent.unit, "scale": extent.scale, "patch": task.settings().get("patch_side", 0.4)},
        training={
            "data": every,
            "iterations": training.iteration,
            "minutes": round(training.seconds / 60, 1),
            "device": f"{place}, {torch.get_num_threads()} threads",
            "seed": trainer.settings.seed,
            "settings": {**task.settings(), **settings},
        },
        metrics=metrics,
        versions=installed_versions(),
        licence=data["licence"],
    )
