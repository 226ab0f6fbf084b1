"""The job behind Apply: marked scans to the worker, each target through it, its result into the scene."""

import time
from collections import namedtuple

import slicer

from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotSlicer.bridge import (
    JobFolder,
    find_node,
    place_in_steps,
    provenance_of,
    read_result,
    surfaces_made,
    take_volume,
)
from SSLFewShotSlicer.jobs import event_loop, in_thread, in_turns
from SSLFewShotSlicer.region import Region, region_of
from SSLFewShotSlicer.translation import _

AUTOMATIC = "auto"
"""The worker chooses the method by the scan and the models that there are."""

Segmented = namedtuple("Segmented", "target_id target_name placed seconds report")
"""One target that is done: its volume node, the bridge's `PlacedResult`, seconds, and the worker's report."""


class SegmentRequest:
    """What Apply was clicked with, taken at that moment; nodes are held by their IDs.

    supports, targets: nodes. structures: names, None for all. roi, into: nodes or None. existing: "rename",
    "replace" or "refuse", see `place_in_steps`. method, model: None for automatic. settings: of the method.
    """

    def __init__(
        self,
        supports,
        targets,
        structures=None,
        roi=None,
        into=None,
        existing="rename",
        method=None,
        model=None,
        device="auto",
        settings=None,
    ):
        self.supports = list(supports)
        self.targets = list(targets)
        self.structures = None if structures is None else list(structures)
        self.roi = roi
        self.into = into
        self.existing = existing
        self.method = method or AUTOMATIC
        self.model = model or None
        self.device = device or "auto"
        self.settings = dict(settings or {})
        self.check()

    def check(self):
        """Raise InputError for what can be seen without looking at voxels."""
        if not self.supports:
            raise InputError(_("no marked scan was chosen: choose a scan and its segmentation"))
        if self.structures is not None and not self.structures:
            raise InputError(_("no structure is ticked: tick at least one segment of the marked scan"))
        if not self.targets:
            raise InputError(_("no scan to segment was chosen: choose one"))
        marked = {volume.GetID() for volume, _segmentation in self.supports}
        for target in self.targets:
            if target.GetID() in marked:
                raise InputError(
                    _("{scan}: is the marked scan itself; choose another scan to segment").format(
                        scan=target.GetName()
                    )
                )


def segmenting(session, supports, request):
    """The steps of a job that segments scans of the scene; its result is a list of `Segmented`.

    When it is cancelled, the scans that are done by then are its result; without any, it ends as cancelled.

    supports: the `SupportFiles` that the worker was or will be given.
    """

    def steps(job):
        # Taken in the first step, so that a mistake is found before anything is written.
        regions = [Region(take_volume(target)) for target in request.targets]
        if request.roi is not None:
            regions = [region_of(region.source, request.roi) for region in regions]
        into_id = request.into.GetID() if request.into is not None else None
        job.part(0.0, 0.15)
        support = yield from supports.give(job, request.supports, request.structures)
        done = []
        for number, region in enumerate(regions):
            start, end = (0.15 + 0.85 * n / len(regions) for n in (number, number + 1))
            steps_of_one = _one(session, job, request, region, supports, support, into_id, start, end)
            try:
                done.append((yield from steps_of_one))
            except Cancelled:
                if not done:
                    raise
                job.warnings.append(_("{scan} and what follows: cancelled").format(scan=region.source.name))
                break
        return done

    return steps


def _one(session, job, request, region, supports, support, into_id, start, end):
    """Segment one scan and put the result into the scene."""
    source = region.source
    started = time.monotonic()
    with JobFolder(slicer.app.temporaryPath) as folder:
        job.explain = lambda message: folder.explain(supports.explain(support, message))
        job.warnings += source.notes
        given = folder.file("target", source.name)
        job.part(start, start + 0.05 * (end - start))
        job.report(0.0, _("{scan}: handing it over").format(scan=source.name))
        yield in_thread(region.write, given)
        job.part(start + 0.05 * (end - start), start + 0.95 * (end - start))
        answer = yield session.request(
            "segment",
            {
                "support": support,
                "targets": [str(given)],
                "output": str(folder.results),
                "method": request.method,
                "model": request.model,
                "format": "seg.nrrd",
                "device": request.device,
                "settings": request.settings,
            },
            lambda fraction, message, remaining: job.report(fraction, job.explain(message), remaining),
        )
        job.warn(answer.get("warnings", []))
        job.part(start + 0.95 * (end - start), end)
        job.report(0.0, _("{scan}: showing the result").format(scan=source.name))
        result = yield in_thread(_read, folder, given, region)
        placed = yield from _place(result, source, into_id, request.existing, provenance_of(answer))
        if placed.empty:
            job.warnings.append(
                _("{scan}: nothing of {structures} was found").format(
                    scan=source.name, structures=", ".join(placed.empty)
                )
            )
        return Segmented(source.node_id, source.name, placed, time.monotonic() - started, answer)


def _place(result, source, into_id, existing, provenance):
    """Put the result into the scene. Views are drawn once, when all is there, and in a turn of its own."""
    placed = None
    try:
        with slicer.util.RenderBlocker():
            placed = yield from in_turns(
                place_in_steps(result, source, into=into_id, existing=existing, provenance=provenance)
            )
            yield event_loop()
        yield event_loop()
        if placed.lacks_surfaces:
            yield from in_turns(surfaces_made(find_node(placed.segmentation_id)))
    except BaseException:
        if placed is not None:
            placed.undo()
        raise
    return placed


def _read(folder, given, region):
    """Read the result and remove its files, which takes its time as well. Any thread."""
    result = read_result(folder.result(given, "seg", ".seg.nrrd"), folder.result(given, "confidence"))
    folder.close()
    return region.in_whole(result)


def folder_batch(
    session, supports, request_supports, structures, folder, output, method, model, device, settings=None
):
    """The steps of a job that segments all scans of a folder on disk; its result is the worker's report."""

    def steps(job):
        job.part(0.0, 0.05)
        support = yield from supports.give(job, request_supports, structures)
        job.explain = lambda message: supports.explain(support, message)
        job.part(0.05, 1.0)
        answer = yield session.request(
            "segment/batch",
            {
                "support": support,
                "targets": [str(folder)],
                "output": str(output),
                "method": method or AUTOMATIC,
                "model": model or None,
                "format": "seg.nrrd",
                "device": device or "auto",
                "settings": dict(settings or {}),
                "resume": True,
            },
            lambda fraction, message, remaining: job.report(fraction, job.explain(message), remaining),
        )
        job.warn(answer.get("warnings", []))
        return answer

    return steps
