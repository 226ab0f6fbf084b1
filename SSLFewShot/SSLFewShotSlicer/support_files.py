"""`SupportFiles`: the marked scans as the worker has them; handed over again only when they have changed."""

import slicer

from SSLFewShotSlicer.bridge import JobFolder, SegmentsError, list_segments, take_segments, take_volume
from SSLFewShotSlicer.jobs import event_loop, in_thread
from SSLFewShotSlicer.translation import _

KEPT = 3


class SupportFiles:
    """Keeps the files of the last support sets: a worker that was lost is given them again by the client."""

    def __init__(self, session):
        self._session = session
        self._given = {}

    def give(self, job, pairs, structures=None):
        """Steps of a job that hand the marked scans to the worker; they return the support's name there.

        pairs: (volume, segmentation) nodes; structures: names of segments, None for all.
        """
        signature = (self._session.worker_number, _signature(pairs, structures))
        if signature in self._given:
            return self._given[signature][0]
        folder = JobFolder(slicer.app.temporaryPath)
        try:
            identity = yield from self._hand_over(job, folder, pairs, structures)
        except BaseException:
            folder.close()
            raise
        self._given[signature] = identity, folder
        while len(self._given) > KEPT:
            self._given.pop(next(iter(self._given)))[1].close()
        return identity

    def explain(self, identity, message):
        """A message of the worker's with the names of nodes in the place of the files of a support."""
        for known, folder in self._given.values():
            if known == identity:
                message = folder.explain(message)
        return message

    def forget(self):
        """Remove the files."""
        for _identity, folder in self._given.values():
            folder.close()
        self._given = {}

    def _hand_over(self, job, folder, pairs, structures):
        job.explain = folder.explain
        files = []
        for number, (volume, segmentation) in enumerate(pairs):
            job.report(
                0.6 * number / len(pairs), _("{scan}: reading the marked structures").format(scan=volume.GetName())
            )
            yield event_loop()
            source = take_volume(volume)
            labels = take_segments(segmentation, source, _wanted(segmentation, structures))
            image = folder.file("support", source.name)
            marks = folder.file("labels", labels.name, ".seg.nrrd")
            yield in_thread(source.write, image)
            yield in_thread(labels.write, marks)
            job.warnings += [*source.notes, *labels.notes]
            if labels.empty:
                job.warnings.append(
                    _("{segmentation}: nothing is marked in {structures}, which is left out").format(
                        segmentation=labels.name, structures=", ".join(labels.empty)
                    )
                )
            files.append({"image": str(image), "labels": str(marks)})
        job.report(0.7, _("the worker reads the marked scans"))
        answer = yield self._session.request(
            "support/set",
            {"supports": files},
            lambda fraction, message, remaining: job.report(
                0.7 + 0.3 * fraction, folder.explain(message), remaining
            ),
        )
        job.warn(answer.get("warnings", []))
        return answer["support"]


def _wanted(segmentation, structures):
    """IDs of the segments to take, None for all."""
    if structures is None:
        return None
    segments = list_segments(segmentation)
    wanted = [segment.segment_id for segment in segments if segment.name in structures]
    if segments and not wanted:
        raise SegmentsError(
            _("{segmentation}: none of the ticked structures is in it; tick one, or take this scan out").format(
                segmentation=segmentation.GetName()
            )
        )
    return wanted


def _signature(pairs, structures):
    """What tells whether anything about the marked scans has changed."""
    found = [None if structures is None else tuple(sorted(structures))]
    for volume, segmentation in pairs:
        image = volume.GetImageData()
        found.append((volume.GetID(), volume.GetMTime(), image.GetMTime() if image is not None else 0))
        found.append((segmentation.GetID(), segmentation.GetMTime()))
        for node in (volume, segmentation):
            parent = node.GetParentTransformNode()
            found.append(parent.GetMTime() if parent is not None else 0)
        contents = segmentation.GetSegmentation()
        source = contents.GetSourceRepresentationName()
        for number in range(contents.GetNumberOfSegments()):
            segment = contents.GetNthSegment(number)
            voxels = segment.GetRepresentation(source)
            found.append((segment.GetName(), segment.GetMTime(), voxels.GetMTime() if voxels is not None else 0))
    return tuple(found)
