"""The method that segments a whole folder: resumable, on this machine or on a Dask cluster."""

from __future__ import annotations

import dataclasses
from typing import Any

from SSLFewShotLib.worker.handler import FLAG, TEXT, Context, Handler, optional
from SSLFewShotLib.worker.segment_methods import SEGMENT_PARAMS, job_and_preparation


def _segment_batch(params: dict[str, Any], context: Context) -> dict[str, Any]:
    job, preparation = job_and_preparation(params, context)
    job = dataclasses.replace(job, resume=params["resume"])
    if params["cluster"] is not None:
        from SSLFewShotLib.worker.cluster import run_on_cluster

        report = run_on_cluster(job, params["cluster"], context.progress)
    else:
        from SSLFewShotLib.segmentation.job import run

        report = run(job, context.progress, preparation)
    return {**report, "warm": {"support": preparation.support, "model": preparation.model}}


HANDLERS = {
    "segment/batch": Handler(
        _segment_batch, {**SEGMENT_PARAMS, "resume": optional(FLAG, False), "cluster": optional(TEXT)}
    ),
}
