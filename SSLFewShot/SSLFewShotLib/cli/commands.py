"""What the sub-commands do. Heavy imports stand in the functions, so that `models list` needs no torch."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from SSLFewShotLib.cli import remote
from SSLFewShotLib.cli.crop import crop as crop
from SSLFewShotLib.cli.encoder_arguments import encoder_options
from SSLFewShotLib.cli.localise import localise as localise
from SSLFewShotLib.cli.prototype_arguments import alpnet_options
from SSLFewShotLib.cli.segmenter_arguments import segmenter_settings
from SSLFewShotLib.cli.slice_arguments import slice_options
from SSLFewShotLib.cli.study import study as study
from SSLFewShotLib.progress import Progress


def segment(arguments: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """`sslfewshot segment`."""
    from SSLFewShotLib.segmentation.batch_report import summary_text

    report = remote.segment(arguments, progress) if arguments.worker else _segmented(arguments, progress)
    lines = [
        f"{target['image']}: {target['error']}"
        if "error" in target
        else f"{arguments.output / target['segmentation']}  {target['seconds']:.1f} s"
        for target in report["targets"]
    ]
    table = summary_text(report)
    return report, "\n".join([*lines, *(["", table] if table else [])])


def _segmented(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Segment in this process."""
    from SSLFewShotLib.segmentation.job import SegmentationJob, run

    job = SegmentationJob(
        targets=arguments.targets,
        supports=[tuple(pair) for pair in arguments.support],
        output=arguments.output,
        method=arguments.method,
        model=arguments.model,
        format=arguments.format,
        device=arguments.device,
        overwrite=arguments.overwrite,
        segment_names=arguments.segments,
        settings=segmenter_settings(arguments),
        crop=arguments.crop,
        resume=arguments.resume,
    )
    if arguments.cluster:
        from SSLFewShotLib.worker.cluster import run_on_cluster

        return run_on_cluster(job, arguments.cluster, progress)
    return run(job, progress)


def pretrain(arguments: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any] | None, str]:
    """`sslfewshot pretrain`."""
    from SSLFewShotLib.pretext.pretrain import pretrain
    from SSLFewShotLib.pretext.trainer import TrainerSettings
    from SSLFewShotLib.pretext.training_scans import PretrainingSource
    from SSLFewShotLib.sampling.extent import Extent

    minutes = 30.0 if arguments.iterations is None and arguments.minutes is None else arguments.minutes
    settings = TrainerSettings(
        iterations=arguments.iterations,
        minutes=minutes,
        learning_rate=arguments.learning_rate,
        schedule=arguments.schedule,
        seed=arguments.seed,
    )
    source = None
    if not arguments.synthetic:
        modality = arguments.modality.upper() if arguments.modality else None
        name = arguments.folder.resolve().name
        source = PretrainingSource(name, arguments.data_source, arguments.data_licence, modality)
    extent = None if arguments.extent_mm is None else Extent("mm", arguments.extent_mm)
    if arguments.normalised:
        extent = Extent("normalised", 1.0)
    card = pretrain(
        arguments.folder,
        arguments.method,
        arguments.output,
        settings,
        source,
        extent,
        arguments.batch_size,
        arguments.device,
        arguments.resume,
        arguments.overwrite,
        progress,
        options=alpnet_options(arguments) | encoder_options(arguments) | slice_options(arguments),
        start=arguments.start,
        labelled=arguments.labelled,
    )
    if card is None:
        return None, ""
    shown = card.to_dict()
    metrics = [f"{key} {value}" for key, value in card.metrics.items()]
    return shown, ", ".join([f"{arguments.output}: {card.training['iterations']} iterations", *metrics])


def models(arguments: argparse.Namespace, progress: Progress) -> tuple[Any, str]:
    """`sslfewshot models …`."""
    from SSLFewShotLib.models import ModelStore

    store = ModelStore()
    if arguments.action == "list":
        entries = store.list()
        result = [{**entry.card.to_dict(), "bundled": entry.bundled} for entry in entries]
        width = max((len(entry.card.name) for entry in entries), default=0)
        lines = [
            f"{entry.card.name:<{width}}  {entry.card.preprocessing['modality']:<3}  "
            f"{'bundled' if entry.bundled else 'yours  '}  {entry.card.title}"
            for entry in entries
        ]
        return result, "\n".join(lines) or "no models; make one with `sslfewshot pretrain`"
    if arguments.action == "show":
        entry = store.find(arguments.name)
        return {**entry.card.to_dict(), "bundled": entry.bundled}, entry.card.to_bytes().decode().rstrip()
    if arguments.action == "import":
        take = store.add if arguments.archive.is_dir() else store.import_archive
        entry = take(arguments.archive, overwrite=arguments.overwrite, name=arguments.name)
        return entry.card.to_dict(), f"imported {entry.card.name}"
    if arguments.action == "export":
        store.export(arguments.name, arguments.archive, overwrite=arguments.overwrite)
        return {"archive": str(arguments.archive)}, f"wrote {arguments.archive}"
    store.remove(arguments.name)
    return {"removed": arguments.name}, f"removed {arguments.name}"


def evaluate(arguments: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """`sslfewshot evaluate`."""
    report = remote.evaluate(arguments, progress) if arguments.worker else _evaluated(arguments, progress)
    return {"report": str(report)}, report.read_text(encoding="utf-8")


def _evaluated(arguments: argparse.Namespace, progress: Progress) -> Path:
    """Evaluate in this process."""
    from SSLFewShotLib.evaluation.protocol import evaluate

    return evaluate(
        arguments.folder,
        arguments.supports,
        arguments.output,
        shots=tuple(arguments.shots),
        methods=tuple(arguments.methods),
        models=tuple(arguments.models),
        queries=arguments.queries,
        repeats=arguments.repeats,
        two_fold=arguments.two_fold,
        device=arguments.device,
        seed=arguments.seed,
        settings=segmenter_settings(arguments),
        save_segmentations=arguments.save_segmentations,
        overwrite=arguments.overwrite,
        image_suffix=arguments.image_suffix,
        label_suffix=arguments.label_suffix,
        progress=progress,
    )


def demo(arguments: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """`sslfewshot demo`."""
    from SSLFewShotLib.demo import run_demo

    result = run_demo(
        arguments.output,
        data=arguments.data,
        minutes=arguments.minutes,
        device=arguments.device,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
        progress=progress,
    )
    return result, f"mean Dice {result['mean_dice']:.2f}; open {result['report']}"


def worker(arguments: argparse.Namespace, progress: Progress) -> tuple[None, str]:
    """`sslfewshot worker`; the process ends with it."""
    from SSLFewShotLib.worker.server import main

    code = main([])
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: a thread that still waits for input could keep the process for long.
    os._exit(code)
