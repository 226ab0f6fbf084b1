"""What the model sees: descriptors as colours over a scan, and the place that is most like a chosen one."""

from collections import namedtuple

import numpy as np
import slicer
import vtk

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer.bridge import JobFolder, add_volume, find_node, take_volume
from SSLFewShotSlicer.bridge.nrrd import read_nrrd
from SSLFewShotSlicer.jobs import in_thread
from SSLFewShotSlicer.translation import _

Similar = namedtuple("Similar", "volume_id position similarity")
"""The volume node of similarities; the place that is most alike, (3,) RAS in the world; how alike it is, −1..1."""

TO_LPS = np.array([-1.0, -1.0, 1.0])


def colours(session, volume, model, kind, device):
    """The steps of a job that shows descriptors as colours; its result is the ID of a vector volume node.

    kind: "pca" or "tsne".
    """

    def steps(job):
        source = take_volume(volume)
        with JobFolder(slicer.app.temporaryPath) as folder:
            job.explain = folder.explain
            given, made = folder.file("scan", source.name), folder.path / "colours.nrrd"
            yield in_thread(source.write, given)
            yield session.request(
                "descriptor/map",
                {"image": str(given), "model": model or None, "kind": kind, "output": str(made), "device": device},
                lambda fraction, message, remaining: job.report(fraction, folder.explain(message), remaining),
            )
            image = yield in_thread(read_nrrd, made)
        return _add_map(
            "vtkMRMLVectorVolumeNode", _("{scan} as the model sees it").format(scan=source.name), image, source
        ).GetID()

    return steps


def similar(session, marked, position, volume, model, device):
    """The steps of a job that looks for a place of the marked scan in another one; its result is a `Similar`.

    position: (3,) RAS in the world.
    """

    def steps(job):
        source, target = take_volume(marked), take_volume(volume)
        point = _as_seen(source, position)
        with JobFolder(slicer.app.temporaryPath) as folder:
            job.explain = folder.explain
            image, given = folder.file("support", source.name), folder.file("target", target.name)
            made = folder.path / "similarity.nrrd"
            yield in_thread(source.write, image)
            yield in_thread(target.write, given)
            answer = yield session.request(
                "descriptor/similarity",
                {
                    "support_image": str(image),
                    "point": [float(number) for number in point * TO_LPS],
                    "target": str(given),
                    "model": model or None,
                    "output": str(made),
                    "device": device,
                },
                lambda fraction, message, remaining: job.report(fraction, folder.explain(message), remaining),
            )
            found = yield in_thread(read_nrrd, made)
        node = _add_map("vtkMRMLScalarVolumeNode", _("{scan} similarity").format(scan=target.name), found, target)
        _show_only_high(node, float(answer["similarity"]))
        place = _in_world(target, np.array(answer["point"]) * TO_LPS)
        return Similar(node.GetID(), [float(number) for number in place], float(answer["similarity"]))

    return steps


class PickedPlace:
    """Lets the user click one place in the slices; `picked` is called with (3,) RAS in the world."""

    def __init__(self, picked):
        self._picked = picked
        self._node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", _("Place"))
        self._node.CreateDefaultDisplayNodes()
        self._node.SetMaximumNumberOfControlPoints(1)
        self._tag = self._node.AddObserver(slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, self._on_defined)
        application = slicer.app.applicationLogic()
        selection = application.GetSelectionNode()
        selection.SetReferenceActivePlaceNodeClassName("vtkMRMLMarkupsFiducialNode")
        selection.SetActivePlaceNodeID(self._node.GetID())
        interaction = application.GetInteractionNode()
        if interaction is None:
            self.close()
            raise InputError(_("places cannot be clicked without slice views"))
        interaction.SetCurrentInteractionMode(interaction.Place)

    def close(self):
        """Let go of the place that is being clicked."""
        node, self._node = self._node, None
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        if interaction is not None and node is not None:
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        if node is not None:
            node.RemoveObserver(self._tag)
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)

    def _on_defined(self, node, _event):
        position = [0.0, 0.0, 0.0]
        node.GetNthControlPointPositionWorld(0, position)
        self._picked(position)


def _as_seen(source, position):
    """(3,) RAS in the world to the coordinates in which the worker sees a scan."""
    node = find_node(source.node_id, "vtkMRMLVolumeNode", source.name)
    parent = node.GetParentTransformNode()
    if parent is None or parent.IsTransformToWorldLinear():
        return np.array(position, float)  # the worker sees it in the world
    transform = vtk.vtkGeneralTransform()
    parent.GetTransformFromWorld(transform)
    return np.array(transform.TransformPoint(position))


def _in_world(source, position):
    """(3,) from the coordinates in which the worker sees a scan to RAS in the world."""
    node = find_node(source.node_id, "vtkMRMLVolumeNode", source.name)
    parent = node.GetParentTransformNode()
    if parent is None or parent.IsTransformToWorldLinear():
        return np.array(position, float)
    transform = vtk.vtkGeneralTransform()
    parent.GetTransformToWorld(transform)
    return np.array(transform.TransformPoint([float(number) for number in position]))


def _add_map(class_name, name, image, source):
    """A volume node of what the worker has written, where the scan lies and under its transform."""
    volume = find_node(source.node_id, "vtkMRMLVolumeNode", source.name)
    node = add_volume(class_name, name, image.array, source.own_from_seen() @ image.ijk_to_ras, volume)
    node.CreateDefaultDisplayNodes()
    return node


def _show_only_high(node, best):
    """Colour what is most alike, and leave the rest clear."""
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(best - 0.5, best)
    display.SetAutoThreshold(False)
    display.SetThreshold(best - 0.25, 1.0)
    display.SetApplyThreshold(True)
    for colour in ("vtkMRMLColorTableNodeFileInferno.txt", "vtkMRMLColorTableNodeRainbow"):
        if slicer.mrmlScene.GetNodeByID(colour) is not None:
            display.SetAndObserveColorNodeID(colour)
            break
