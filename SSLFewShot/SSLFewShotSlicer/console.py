"""What scripts call: the module's work without its panel, waiting for it or with a callback."""

import pathlib

import slicer

from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotSlicer import worker_session
from SSLFewShotSlicer.bridge import find_node
from SSLFewShotSlicer.comparing import comparing
from SSLFewShotSlicer.cropping import cropping
from SSLFewShotSlicer.jobs import CANCELLED, FAILED
from SSLFewShotSlicer.localising import LocaliseRequest, localising
from SSLFewShotSlicer.segmenting import SegmentRequest, folder_batch, segmenting
from SSLFewShotSlicer.translation import _

AUTOMATIC = "automatic"


class ConsoleApi:
    """The methods of `SSLFewShotLogic` for scripts.

    Every method takes `wait`, `callback` and `timeout`. With wait=True it returns the result, or raises
    InputError, OutputError, WorkerError or Cancelled; the application stays alive meanwhile. With wait=False it
    returns a `Job` at once: `job.observe(f)` tells of its progress, `job.cancel()` ends it. callback(job) is
    called once it is over, either way. Nodes may be given as nodes or as their IDs.
    """

    @property
    def session(self):
        """The background process and its jobs, shared by the panel and all scripts."""
        return worker_session.shared_session()

    def segment(
        self,
        support,
        targets,
        method=AUTOMATIC,
        model=None,
        segments=None,
        roi=None,
        into=None,
        existing="rename",
        device=None,
        settings=None,
        wait=True,
        callback=None,
        timeout=None,
    ):
        """Segment scans from marked ones.

        support: [(volume, segmentation)]; targets: [volume].
        method: "automatic", "aligned" (alignment), "knn" (nearest neighbours), "prototype" (by an ALPNET model),
            "finetune" (a network trained on the marked scans; settings={"minutes": 10, "keep": "my-model"}), or
            "tuned" (such a model that was kept).
        model: a name, None for automatic; segments: names of the structures, None for all; roi: a Markups ROI.
        into: a segmentation that takes the segments (one target only), None for new ones.
        existing: what happens to segments that are there already: "rename", "replace" or "refuse".
        settings: of the method.

        Returns the segmentation nodes, one a target; of those that were done when it was cancelled, if any were.
        """
        chosen = [find_node(volume, "vtkMRMLScalarVolumeNode") for volume in targets]
        into = None if into is None else find_node(into, "vtkMRMLSegmentationNode")
        if into is not None and len(chosen) > 1:
            raise InputError(_("into: one segmentation can take one scan's segments; give one target, or none"))
        request = SegmentRequest(
            _pairs(support),
            chosen,
            segments,
            roi=None if roi is None else find_node(roi, "vtkMRMLMarkupsROINode"),
            into=into,
            existing=existing,
            method=_method(method),
            model=model,
            device=device or worker_session.device(),
            settings=settings,
        )
        job = self.session.run(_("segmenting"), segmenting(self.session, self.session.support_files, request))
        done = self._finish(job, wait, callback, timeout)
        return [slicer.mrmlScene.GetNodeByID(one.placed.segmentation_id) for one in done] if wait else done

    def segmentFolder(  # noqa: N802 - the application's habit for methods of a logic
        self,
        support,
        folder,
        output,
        method=AUTOMATIC,
        model=None,
        segments=None,
        device=None,
        wait=True,
        callback=None,
        timeout=None,
    ):
        """Segment all scans of a folder on disk into files; scans that are done already are left out.

        Returns the worker's report: {"targets": [{"image", "segmentation", …} or {"image", "error"}], …}.
        """
        source = pathlib.Path(folder)
        if not source.is_dir():
            raise InputError(_("{folder}: is not a folder; give the one with the scans").format(folder=source))
        steps = folder_batch(
            self.session,
            self.session.support_files,
            _pairs(support),
            segments,
            source.resolve(),
            pathlib.Path(output).resolve(),
            _method(method),
            model,
            device or worker_session.device(),
        )
        return self._finish(self.session.run(_("segmenting a folder"), steps), wait, callback, timeout)

    def localise(
        self,
        targets,
        support=(),
        method="support",
        model=None,
        segments=None,
        margin=None,
        each=False,
        device=None,
        wait=True,
        callback=None,
        timeout=None,
    ):
        """Find the box in which the marked structures lie, or the one object of a scan.

        targets: [volume]; support: [(volume, segmentation)], for the method "support"; method: "support",
        "certainty" or "clustering", the last two without marks; model: a name, None for the one that fits;
        segments: names of the structures, None for all; margin: mm on every side, None for the method's own.
        each: a box for each structure, instead of one around all of them.

        Returns [Located], a scan each: .box_id of a Markups ROI (None when nothing was found), or with `each`
        .boxes {structure: ID}; .certainty 0..1, .reason and .segments; `crop` takes the boxes.
        """
        request = LocaliseRequest(
            [find_node(volume, "vtkMRMLScalarVolumeNode") for volume in targets],
            _pairs(support),
            segments,
            method,
            model,
            margin,
            device or worker_session.device(),
            each,
        )
        job = self.session.run(_("finding the box"), localising(self.session, self.session.support_files, request))
        return self._finish(job, wait, callback, timeout)

    def crop(self, targets, box, wait=True, callback=None, timeout=None):
        """Cut scans down to a box, into new volume nodes with the original voxels in their exact place.

        targets: [volume]; box: a Markups ROI for all of them, or a list with one for each. Returns the new nodes.
        """
        volumes = [find_node(volume, "vtkMRMLScalarVolumeNode") for volume in targets]
        boxes = list(box) if isinstance(box, (list, tuple)) else [box] * len(volumes)
        if len(boxes) != len(volumes):
            raise InputError(_("box: give one for all targets, or one for each"))
        pairs = [(volume, find_node(roi, "vtkMRMLMarkupsROINode")) for volume, roi in zip(volumes, boxes)]
        done = self._finish(self.session.run(_("cropping"), cropping(pairs)), wait, callback, timeout)
        return [slicer.mrmlScene.GetNodeByID(node_id) for node_id in done] if wait else done

    def evaluate(self, reference, segmentation, volume=None, wait=True, callback=None, timeout=None):
        """Compare a segmentation with a reference.

        volume: the scan whose grid is used; None for the one that the reference was made on. Returns
        [{"name", "dice", "nsd", "hd95"}], a structure each, None where there is nothing to measure; NSD within
        2 mm, HD95 in mm.
        """
        steps = comparing(
            self.session,
            find_node(reference, "vtkMRMLSegmentationNode"),
            find_node(segmentation, "vtkMRMLSegmentationNode"),
            None if volume is None else find_node(volume, "vtkMRMLScalarVolumeNode"),
        )
        done = self._finish(self.session.run(_("comparing"), steps), wait, callback, timeout)
        return done.rows if wait else done

    def pretrain(
        self,
        folder,
        output=None,
        method="dense",
        name=None,
        minutes=None,
        iterations=None,
        device=None,
        keep_running=True,
        wait=False,
        callback=None,
        timeout=None,
    ):
        """Start a training on a folder of unmarked scans; it runs by itself, wait=True only waits for its start.

        output: the folder that the model comes into; without one it is made in the worker's own store, by `name`.
        Give minutes or iterations. Returns {"job", "folder"}; see `trainings` for how it is.
        """
        if (minutes is None) == (iterations is None):
            raise InputError(_("either minutes or iterations: give one of them"))

        def path(given):
            # On another machine a path means what it means there.
            return str(given if worker_session.custom_command() else pathlib.Path(given).resolve())

        params = {
            "folder": path(folder),
            "method": method,
            "device": device or worker_session.device(),
            "keep_running": keep_running,
        }
        given = {
            "output": None if output is None else path(output),
            "name": name,
            "minutes": minutes,
            "iterations": iterations,
        }
        params.update({key: value for key, value in given.items() if value is not None})
        return self.ask("pretrain/start", params, wait, callback, timeout)

    def trainings(self):
        """All trainings that this computer knows of, with their states."""
        return self.ask("pretrain/list")

    def models(self):
        """The cards of all models."""
        return self.ask("models/list")

    def ask(self, method, params=None, wait=True, callback=None, timeout=None):
        """Send the worker any request of its protocol, and return its answer."""

        def steps(job):
            answer = yield self.session.request(
                method, params, lambda fraction, message, remaining: job.report(fraction, message, remaining)
            )
            return answer

        return self._finish(self.session.run(method, steps), wait, callback, timeout)

    def _finish(self, job, wait, callback, timeout):
        if callback is not None:
            job.observe(lambda told: callback(told) if told.over else None)
        if not wait:
            return job
        self.session.wait(job, timeout)
        if job.state == FAILED:
            raise _plain(job)
        if job.state == CANCELLED:
            raise Cancelled(job.title)
        return job.result


def _pairs(support):
    return [
        (find_node(volume, "vtkMRMLScalarVolumeNode"), find_node(segmentation, "vtkMRMLSegmentationNode"))
        for volume, segmentation in support
    ]


def _method(method):
    return None if method in (None, "", AUTOMATIC) else method


def _plain(job):
    """The job's error, with the names of nodes in the place of files."""
    if isinstance(job.error, InputError) and str(job.error) != job.sentence:
        return type(job.error)(job.sentence) if type(job.error) is InputError else InputError(job.sentence)
    return job.error
