"""The job behind "Find the box": scans to the worker, each box that it finds into the scene."""

import time
from collections import namedtuple

import slicer

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer.bridge import JobFolder, list_segments, place_box, take_volume
from SSLFewShotSlicer.jobs import in_thread
from SSLFewShotSlicer.translation import _

METHODS = {
    "support": "Where the marked structures are",
    "certainty": "Where the model is certain",
    "clustering": "Where the model tells object from background",
}
"""Methods of the worker that the panel offers."""

KINDS = {"certainty": ("slice-rotation",), "clustering": ("slice-order", "slice-rotation")}
"""The kinds of models that a method needs; it is offered where there is one."""

Located = namedtuple("Located", "target_id target_name box_id boxes certainty reason segments plot seconds report")
"""One scan that was looked through.

target_id, target_name: its volume node.
box_id: the Markups ROI around all that was found, None when nothing was, or when each structure has its own.
boxes: {structure: the Markups ROI's ID} of those that were found, where each was to have its own.
certainty: 0..1; reason: why nothing was found or what to mind, a sentence or "".
segments: [(name, certainty, reason)] of the marked structures.
plot: bytes of a picture (PNG) of the method's profiles, None when it has none.
seconds: of all scans together; report: the worker's of this scan.
"""


class LocaliseRequest:
    """What "Find the box" was clicked with. supports, targets: nodes; structures: names, None for all.

    method: of `METHODS`; model: None for automatic; margin: mm on every side, None for the method's own.
    each: whether each structure gets a box of its own, instead of one around all of them.
    Raises InputError for what can be seen without looking at voxels.
    """

    def __init__(
        self,
        targets,
        supports=(),
        structures=None,
        method="support",
        model=None,
        margin=None,
        device=None,
        each=False,
    ):
        self.targets = list(targets)
        self.supports = list(supports) if method == "support" else []
        self.structures = structures
        self.method = method
        self.model = model or None
        self.margin = margin
        self.device = device or "auto"
        self.each = each
        if method not in METHODS:
            raise InputError(
                _("{method}: no method that finds boxes; choose one of {known}").format(
                    method=method, known=", ".join(METHODS)
                )
            )
        if not self.targets:
            raise InputError(_("no scan to look through was chosen: choose one"))
        if method == "support" and not self.supports:
            raise InputError(_("no marked scan was chosen: choose a scan and its segmentation"))
        if each and method != "support":
            raise InputError(_("a box for each structure: only where marked structures are looked for"))


def localising(session, supports, request):
    """The steps of a job that finds boxes in scans of the scene; its result is a list of `Located`, a scan each.

    supports: the `SupportFiles` that the worker was or will be given.
    """

    def steps(job):
        started = time.monotonic()
        sources = [take_volume(target) for target in request.targets]
        colours = _colours(request.supports) if request.each else None
        support = None
        if request.method == "support":
            job.part(0.0, 0.2)
            support = yield from supports.give(job, request.supports, request.structures)
        job.part(0.2, 1.0)
        with JobFolder(slicer.app.temporaryPath) as folder:
            job.explain = lambda message: folder.explain(supports.explain(support, message))
            given = []
            for source in sources:
                job.warnings += source.notes
                job.report(0.0, _("{scan}: handing it over").format(scan=source.name))
                given.append(folder.file("target", source.name))
                yield in_thread(source.write, given[-1])
            # All at once: without a marked scan, what is in them is learned from them together.
            answer = yield session.request(
                "localise",
                {
                    "targets": [str(path) for path in given],
                    "output": str(folder.results),
                    "method": request.method,
                    "model": request.model,
                    "margin": request.margin,
                    "device": request.device,
                    **({} if support is None else {"support": support}),
                },
                lambda fraction, message, remaining: job.report(fraction, job.explain(message), remaining),
            )
            job.warn(answer.get("warnings", []))
            entries = {entry["image"]: entry for entry in answer["targets"]}
            seconds = time.monotonic() - started
            found = []
            for path, source in zip(given, sources):
                entry = entries[path.name]
                plot = None
                if entry.get("profile_plot"):
                    plot = yield in_thread((folder.results / entry["profile_plot"]).read_bytes)
                found.append(_located(job, entry, source, plot, seconds, colours))
            return found

    return steps


def _colours(supports):
    """{structure: (r, g, b)} as it is marked."""
    return {
        info.name: info.colour
        for _volume, segmentation in reversed(supports)
        for info in list_segments(segmentation)
    }


def _located(job, entry, source, plot, seconds, colours):
    """What came of one scan, with its box in the scene; colours: of the structures that each get their own."""
    whole, parts = entry.get("box"), entry.get("segments", [])
    boxes = {}
    if colours is not None:
        for part in parts:
            if part["box"] is not None:
                name = _("{scan} {structure} box").format(scan=source.name, structure=part["name"])
                boxes[part["name"]] = place_box(part["box"], source, name, colours.get(part["name"])).GetID()
        whole = None
    elif whole is not None:
        whole = place_box(whole, source, _("{scan} box").format(scan=source.name)).GetID()
    return Located(
        source.node_id,
        source.name,
        whole,
        boxes,
        float(entry.get("certainty") or 0.0),
        job.explain(entry.get("error") or entry["reason"]),
        [(part["name"], float(part["certainty"] or 0.0), part["reason"]) for part in parts],
        plot,
        seconds,
        entry,
    )
