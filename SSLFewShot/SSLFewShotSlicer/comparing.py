"""Comparing two segmentations through the worker, and the table that shows the scores."""

import math
from collections import namedtuple

import slicer
import vtk

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer.bridge import JobFolder, find_node, take_segments, take_volume
from SSLFewShotSlicer.jobs import in_thread
from SSLFewShotSlicer.translation import _

Comparison = namedtuple("Comparison", "reference compared rows")
"""Names of both segmentations; rows: [{"name", "dice", "nsd", "hd95"}], None where there is nothing to measure."""


def comparing(session, reference, compared, volume=None):
    """The steps of a job that scores a segmentation against a reference; its result is a `Comparison`.

    reference, compared: segmentation nodes; volume: the scan whose grid is used, None for the one that the
    reference, or else the compared one, was made on.
    """

    def steps(job):
        if reference is None or compared is None:
            raise InputError(_("choose the reference and the segmentation to compare"))
        if reference is compared:
            raise InputError(_("the reference and the result are the same segmentation; choose two"))
        scan = volume or _scan_of(reference) or _scan_of(compared)
        if scan is None:
            raise InputError(
                _(
                    "{segmentation}: does not say which scan it belongs to; set it in the module Segmentations"
                ).format(segmentation=reference.GetName())
            )
        with JobFolder(slicer.app.temporaryPath) as folder:
            job.explain = folder.explain
            source = take_volume(scan)
            files = []
            for kind, node in (("reference", reference), ("segmentation", compared)):
                labels = take_segments(node, source)
                path = folder.file(kind, labels.name, ".seg.nrrd")
                yield in_thread(labels.write, path)
                files.append(str(path))
            job.part(0.2, 1.0)
            answer = yield session.request(
                "compare",
                {"reference": files[0], "segmentation": files[1]},
                lambda fraction, message, remaining: job.report(fraction, folder.explain(message), remaining),
            )
            job.warn(answer.get("warnings", []))
        rows = [
            {"name": row["name"], **{key: _measured(row[key]) for key in ("dice", "nsd", "hd95")}}
            for row in answer["segments"]
        ]
        return Comparison(reference.GetName(), compared.GetName(), rows)

    return steps


def table_of(comparison):
    """A table node of the scores."""
    called = _("{compared} against {reference}").format(
        compared=comparison.compared, reference=comparison.reference
    )
    scene = slicer.mrmlScene
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(called))
    node.SetUseColumnTitleAsColumnHeader(True)
    modifying = node.StartModify()
    names = vtk.vtkStringArray()
    names.SetName("Structure")
    for row in comparison.rows:
        names.InsertNextValue(row["name"])
    node.AddColumn(names)
    for key, title in (("dice", "Dice"), ("nsd", "NSD (2 mm)"), ("hd95", "HD95 (mm)")):
        column = vtk.vtkDoubleArray()
        column.SetName(title)
        for row in comparison.rows:
            column.InsertNextValue(math.nan if row[key] is None else row[key])
        node.AddColumn(column)
    node.EndModify(modifying)
    return node


def _scan_of(segmentation):
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return find_node(segmentation, "vtkMRMLSegmentationNode").GetNodeReference(role)


def _measured(value):
    """A number, or None where there was nothing to measure (JSON has no NaN, so both come)."""
    return None if value is None or not math.isfinite(value) else float(value)
