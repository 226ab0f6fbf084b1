"""Methods that find and cut out: the box of an object in scans, and scans cropped to a box."""

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
    Context,
    Handler,
    Param,
    list_of,
    one_of,
    optional,
    required,
)
from SSLFewShotLib.worker.protocol import INVALID_PARAMS, ProtocolError
from SSLFewShotLib.worker.segment_methods import PAIRS, pairs_in

if TYPE_CHECKING:
    import torch

    from SSLFewShotLib.localisation.job import LocalisationJob
    from SSLFewShotLib.localisation.localiser import Localiser
    from SSLFewShotLib.progress import Progress

LOCALISE_PARAMS: Mapping[str, Param] = {
    "targets": required(list_of(PATH, least=1)),
    "output": required(PATH),
    "method": optional(one_of("support", "certainty", "clustering"), "support"),
    "model": optional(TEXT),
    "support": optional(TEXT),
    "supports": optional(PAIRS),
    "segments": optional(list_of(TEXT, least=1)),
    "margin": optional(NUMBER),
    "segment_boxes": optional(FLAG, False),
    "device": optional(TEXT, "auto"),
    "overwrite": optional(FLAG, False),
}

CROP_PARAMS: Mapping[str, Param] = {
    "targets": required(list_of(PATH, least=1)),
    "output": required(PATH),
    "boxes": optional(list_of(OBJECT, least=1)),
    "box_file": optional(PATH),
    "margin": optional(NUMBER, 0.0),
    "format": optional(one_of("nrrd", "nii.gz", "mha"), "nrrd"),
    "compress": optional(FLAG, True),
    "overwrite": optional(FLAG, False),
}


def _localise(params: dict[str, Any], context: Context) -> dict[str, Any]:
    from SSLFewShotLib.localisation.job import LocalisationJob, fit_from_files, run

    support, names = params["support"], params["segments"]
    given = [key for key in ("support", "supports", "segments") if params[key] is not None]
    if params["method"] != "support" and given:
        raise ProtocolError(INVALID_PARAMS, f"'{given[0]}' goes with method 'support'")
    if params["method"] == "support" and (support is None) == (params["supports"] is None):
        raise ProtocolError(INVALID_PARAMS, "either 'support' or 'supports' was expected")
    if support is not None and names is not None:
        raise ProtocolError(INVALID_PARAMS, "'segments' goes with 'supports'; a set support has its own")
    pairs = [] if params["supports"] is None else pairs_in(params)
    if support is not None:
        pairs, names = context.warm.source(support)
    job = LocalisationJob(
        targets=[Path(target) for target in params["targets"]],
        output=Path(params["output"]),
        method=params["method"],
        model=params["model"],
        supports=pairs,
        segment_names=names,
        margin=params["margin"],
        segment_boxes=params["segment_boxes"],
        device=params["device"],
        overwrite=params["overwrite"],
    )
    if support is None:
        return run(job, context.progress, fit_from_files)
    preparation = _WarmSupport(support, context)
    report = run(job, context.progress, preparation)
    return {**report, "warm": {"support": preparation.warm}}


class _WarmSupport:
    """Fits a localiser to a support that was set, read already when it is still in memory."""

    def __init__(self, content: str, context: Context):
        self.content = content
        self.context = context
        self.warm = False

    def __call__(
        self, job: LocalisationJob, targets: dict[str, Path], device: torch.device, progress: Progress
    ) -> Localiser:
        from SSLFewShotLib.localisation.choice import make_localiser
        from SSLFewShotLib.progress import portion

        progress(0.0, "reading the support")
        kept, self.warm = self.context.warm.support(
            self.content, self.context.warnings, portion(progress, 0.0, 0.2)
        )
        localiser = make_localiser(job.method, job.model, kept.support.pairs[0][0], device)
        return localiser.fit(kept.support, portion(progress, 0.2, 1.0))


def _crop(params: dict[str, Any], context: Context) -> dict[str, Any]:
    from SSLFewShotLib.imaging.box import Box
    from SSLFewShotLib.localisation.crop_job import CropJob, run

    boxes, box_file = params["boxes"], params["box_file"]
    if (boxes is None) == (box_file is None):
        raise ProtocolError(INVALID_PARAMS, "either 'boxes' or 'box_file' was expected")
    job = CropJob(
        targets=[Path(target) for target in params["targets"]],
        output=Path(params["output"]),
        boxes=None if boxes is None else [Box.from_dict(values) for values in boxes],
        box_file=None if box_file is None else Path(box_file),
        margin=params["margin"],
        format=params["format"],
        compress=params["compress"],
        overwrite=params["overwrite"],
    )
    return run(job, context.progress)


HANDLERS = {"localise": Handler(_localise, LOCALISE_PARAMS), "crop": Handler(_crop, CROP_PARAMS)}
