"""Methods that measure: a whole evaluation, one segmentation against its reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from SSLFewShotLib.progress import portion
from SSLFewShotLib.worker.handler import (
    FLAG,
    OBJECT,
    PATH,
    TEXT,
    WHOLE,
    Context,
    Handler,
    Kind,
    is_whole,
    list_of,
    one_of,
    optional,
    required,
)
from SSLFewShotLib.worker.segment_methods import settings_in

_COUNTS = list_of(WHOLE, least=1)
_COUNT_OR_COUNTS = Kind(
    "a whole number or a list of them", lambda value: is_whole(value) or _COUNTS.accepts(value)
)


def _evaluate(params: dict[str, Any], context: Context) -> dict[str, Any]:
    from SSLFewShotLib.evaluation.protocol import evaluate

    report = evaluate(
        params["folder"],
        params["supports"],
        params["output"],
        shots=params["shots"],
        methods=params["methods"],
        models=params["models"],
        queries=params["queries"],
        repeats=params["repeats"],
        two_fold=params["two_fold"],
        device=params["device"],
        seed=params["seed"],
        settings=settings_in(params),
        save_segmentations=params["save_segmentations"],
        overwrite=params["overwrite"],
        image_suffix=params["image_suffix"],
        label_suffix=params["label_suffix"],
        progress=context.progress,
    )
    return {"report": str(report)}


def _compare(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Both label maps are brought to the image's grid, where one is given, else to the reference's."""
    from SSLFewShotLib.evaluation.metrics import score_case
    from SSLFewShotLib.imaging.files import read_labels, read_volume
    from SSLFewShotLib.imaging.resampling import labels_on_grid

    parts = [portion(context.progress, begin, begin + 0.1) for begin in (0.0, 0.1, 0.2, 0.3, 0.4)]
    reference = read_labels(Path(params["reference"]), parts[0])
    if params["image"] is not None:
        reference = labels_on_grid(reference, read_volume(Path(params["image"]), parts[1]), parts[2])
    segmentation = labels_on_grid(read_labels(Path(params["segmentation"]), parts[3]), reference, parts[4])
    rows = score_case(reference, segmentation, progress=portion(context.progress, 0.5, 1.0))
    scores = [{"name": r["segment"], "dice": r["dice"], "nsd": r["nsd"], "hd95": r["hd95_mm"]} for r in rows]
    return {"segments": scores}


HANDLERS = {
    "evaluate": Handler(
        _evaluate,
        {
            "folder": required(PATH),
            "supports": optional(list_of(TEXT), []),
            "output": required(PATH),
            "shots": optional(_COUNTS, [1]),
            "methods": optional(
                list_of(one_of("knn", "aligned", "prototype", "finetune", "box"), least=1), ["knn"]
            ),
            "models": optional(list_of(TEXT), []),
            "queries": optional(list_of(TEXT, least=1)),
            "repeats": optional(_COUNT_OR_COUNTS, 5),
            "two_fold": optional(FLAG, False),
            "device": optional(TEXT, "auto"),
            "seed": optional(WHOLE, 0),
            "settings": optional(OBJECT, {}),
            "save_segmentations": optional(FLAG, False),
            "overwrite": optional(FLAG, False),
            "image_suffix": optional(TEXT),
            "label_suffix": optional(TEXT),
        },
    ),
    "compare": Handler(
        _compare, {"reference": required(PATH), "segmentation": required(PATH), "image": optional(PATH)}
    ),
}
