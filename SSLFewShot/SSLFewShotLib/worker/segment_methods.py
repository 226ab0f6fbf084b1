"""Methods that segment: set a support, segment scans with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SSLFewShotLib.worker.handler import (
    FLAG,
    NUMBER,
    OBJECT,
    PATH,
    TEXT,
    WHOLE,
    Context,
    Handler,
    Param,
    checked,
    list_of,
    object_with,
    one_of,
    optional,
    required,
)
from SSLFewShotLib.worker.protocol import INVALID_PARAMS, ProtocolError
from SSLFewShotLib.worker.warm import Pair, WarmPreparation

if TYPE_CHECKING:
    from SSLFewShotLib.segmentation.job import SegmentationJob

PAIRS = list_of(object_with(image=PATH, labels=PATH), least=1)

KNN_SETTINGS: Mapping[str, Param] = {
    "k": optional(WHOLE),
    "spacing": optional(NUMBER),
    "normalise": optional(FLAG),
    "spatial_weight": optional(NUMBER),
    "index": optional(one_of("exact", "approximate")),
    "per_segment": optional(WHOLE),
    "background": optional(WHOLE),
    "background_weight": optional(NUMBER),
    "largest_component": optional(FLAG),
    "window": optional(list_of(WHOLE, least=3)),
    "background_window": optional(list_of(WHOLE, least=3)),
    "threshold": optional(NUMBER),
    "beta": optional(NUMBER),
    "seed": optional(WHOLE),
    "minutes": optional(NUMBER),
    "iterations": optional(WHOLE),
    "loss": optional(one_of("bce-dice", "dice-ce")),
    "learning_rate": optional(NUMBER),
    "frozen": optional(NUMBER),
    "held_out": optional(NUMBER),
    "scratch": optional(FLAG),
    "network": optional(one_of("unet", "dense", "analysis")),
    "keep": optional(TEXT),
    "speed": optional(one_of("fast", "balanced", "best")),
    "trained": optional(NUMBER),
    "training_steps": optional(WHOLE),
    "unlabelled": optional(list_of(TEXT, least=1)),
}

SEGMENT_PARAMS: Mapping[str, Param] = {
    "support": optional(TEXT),
    "supports": optional(PAIRS),
    "targets": required(list_of(PATH, least=1)),
    "output": required(PATH),
    "method": optional(one_of("auto", "aligned", "prototype", "knn", "finetune", "tuned", "box"), "auto"),
    "model": optional(TEXT),
    "format": optional(one_of("nii.gz", "nrrd", "seg.nrrd"), "nii.gz"),
    "device": optional(TEXT, "auto"),
    "overwrite": optional(FLAG, False),
    "segments": optional(list_of(TEXT, least=1)),
    "settings": optional(OBJECT, {}),
    "crop": optional(one_of("auto", "never", "always"), "auto"),
}


def job_and_preparation(params: dict[str, Any], context: Context) -> tuple[SegmentationJob, WarmPreparation]:
    """The job that checked `SEGMENT_PARAMS` describe, and what prepares it from what is warm.

    Raises ProtocolError (INVALID_PARAMS) for both or none of support and supports, InputError for a support that
    was never set.
    """
    from SSLFewShotLib.segmentation.job import SegmentationJob

    support = params["support"]
    if (support is None) == (params["supports"] is None) and not (support is None and params["model"]):
        raise ProtocolError(INVALID_PARAMS, "either 'support' or 'supports' was expected, or a fine-tuned 'model'")
    names = params["segments"]
    if support is None:
        pairs = pairs_in(params)
    elif names is not None:
        raise ProtocolError(INVALID_PARAMS, "'segments' goes with 'supports'; a set support has its own")
    else:
        pairs, names = context.warm.source(support)
    job = SegmentationJob(
        targets=[Path(target) for target in params["targets"]],
        supports=pairs,
        output=Path(params["output"]),
        method=params["method"],
        model=params["model"],
        format=params["format"],
        device=params["device"],
        overwrite=params["overwrite"],
        segment_names=names,
        settings=settings_in(params),
        crop=params["crop"],
    )
    return job, WarmPreparation(context.warm, context.warnings, support)


def pairs_in(params: dict[str, Any]) -> list[Pair]:
    """The (image, labels) files of `supports`."""
    return [(Path(pair["image"]), Path(pair["labels"])) for pair in params["supports"] or ()]


def settings_in(params: dict[str, Any]) -> dict[str, Any]:
    """The segmenter's settings in `settings`; raises ProtocolError (INVALID_PARAMS) for a wrong one."""
    try:
        known = checked(params["settings"], KNN_SETTINGS)
    except ProtocolError as problem:
        raise ProtocolError(problem.code, f"'settings': {problem.message}") from None
    return {name: value for name, value in known.items() if params["settings"].get(name) is not None}


def _set_support(params: dict[str, Any], context: Context) -> dict[str, Any]:
    context.progress(0.0, "reading the support")
    kept, _ = context.warm.read_support(pairs_in(params), params["segments"], context.warnings, context.progress)
    segments = [{"value": s.value, "name": s.name, "colour": list(s.colour)} for s in kept.support.segments]
    return {"support": kept.content, "segments": segments, "cases": len(kept.support)}


def _segment(params: dict[str, Any], context: Context) -> dict[str, Any]:
    from SSLFewShotLib.segmentation.job import run

    job, preparation = job_and_preparation(params, context)
    report = run(job, context.progress, preparation)
    return {**report, "warm": {"support": preparation.support, "model": preparation.model}}


HANDLERS = {
    "support/set": Handler(
        _set_support, {"supports": required(PAIRS), "segments": optional(list_of(TEXT, least=1))}
    ),
    "segment": Handler(_segment, SEGMENT_PARAMS),
}
