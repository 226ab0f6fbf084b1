"""The user's choices: typed, shown by the widgets that name them, saved with the scene."""

import pathlib
from typing import Annotated

from slicer import (
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
)
from slicer.parameterNodeWrapper import Default, WithinRange, parameterNodeWrapper

AUTOMATIC = ""


@parameterNodeWrapper
class SSLFewShotParameters:
    """What the panel shows. What starts programs or names devices is a setting of the application, not of a scene.

    support_volume, support_segmentation: the marked scan; unticked_segments: names of segments to leave out.
    more_support_volumes, more_support_segmentations: further marked scans, in pairs.
    target_volume, more_targets: scans to segment; targets_in_folder: those of input_folder instead.
    roi: the part of the target to search; result_segmentation: where segments go, None for a new one.
    method, model: "" for automatic; speed: "fast" or "best", "" for what is balanced, where a method has speeds.
    tuning_minutes: of fine-tuning; tuning_keep: the name under which the network is kept, "" for not at all.
    Folders are texts: an empty `Path` is the working directory.
    localise_each: a box for each structure; localise_margin: mm, −1 for the method's own.
    box: that was found or drawn, to crop to.
    pretrain_pair: the two segments that sides learns from, with a comma between; "" to find them.
    pretrain_unit: "minutes" or "iterations".
    """

    support_volume: vtkMRMLScalarVolumeNode
    support_segmentation: vtkMRMLSegmentationNode
    unticked_segments: list[str]
    more_support_volumes: list[vtkMRMLScalarVolumeNode]
    more_support_segmentations: list[vtkMRMLSegmentationNode]
    targets_in_folder: bool
    target_volume: vtkMRMLScalarVolumeNode
    more_targets: list[vtkMRMLScalarVolumeNode]
    input_folder: str
    output_folder: str
    roi: vtkMRMLMarkupsROINode
    result_segmentation: vtkMRMLSegmentationNode
    method: str
    model: str
    speed: str
    tuning_minutes: Annotated[int, WithinRange(1, 1440), Default(10)]
    tuning_keep: str
    localise_method: Annotated[str, Default("support")]
    localise_each: bool
    localise_margin: Annotated[float, WithinRange(-1, 200), Default(-1.0)]
    box: vtkMRMLMarkupsROINode
    reference_segmentation: vtkMRMLSegmentationNode
    compared_segmentation: vtkMRMLSegmentationNode
    inspected_volume: vtkMRMLScalarVolumeNode
    pretrain_folder: str
    pretrain_method: Annotated[str, Default("dense")]
    pretrain_pair: str
    pretrain_name: str
    pretrain_amount: Annotated[int, WithinRange(1, 10_000_000), Default(60)]
    pretrain_unit: Annotated[str, Default("minutes")]
    keep_running: Annotated[bool, Default(True)]


def supports_of(parameters):
    """The (volume, segmentation) pairs that count: the marked scan, then the further ones; no pair twice.

    Pairs that lack a node (it was deleted, or not chosen yet) are left out.
    """
    pairs = [(parameters.support_volume, parameters.support_segmentation)]
    pairs += more_supports(parameters)
    found = []
    for volume, segmentation in pairs:
        known = [(v.GetID(), s.GetID()) for v, s in found]
        if volume and segmentation and (volume.GetID(), segmentation.GetID()) not in known:
            found.append((volume, segmentation))
    return found


def more_supports(parameters):
    """The (volume, segmentation) pairs of the table of further marked scans."""
    pairs = zip(list(parameters.more_support_volumes), list(parameters.more_support_segmentations))
    return [(volume, segmentation) for volume, segmentation in pairs if volume and segmentation]


def set_more_supports(parameters, pairs):
    """Replace the table of further marked scans."""
    modifying = parameters.StartModify()
    try:
        parameters.more_support_volumes = [volume for volume, _ in pairs]
        parameters.more_support_segmentations = [segmentation for _, segmentation in pairs]
    finally:
        parameters.EndModify(modifying)


def targets_of(parameters):
    """The scans of the scene to segment, each once."""
    found = []
    for volume in [parameters.target_volume, *parameters.more_targets]:
        if volume and volume.GetID() not in [known.GetID() for known in found]:
            found.append(volume)
    return found


def folder_of(text):
    """A folder that was chosen as a `Path`, None when none was."""
    return pathlib.Path(text.strip()).expanduser() if text.strip() else None


def connect(parameters, ui):
    """Tie the widgets that name a parameter to it; returns the function that unties them again."""
    tied = {}
    for widget in vars(ui).values():
        name = widget.property("SlicerParameterName") if hasattr(widget, "property") else None
        if name:
            tied[str(name)] = widget
    node, observers = parameters.parameterNode, []

    def add_observer(event, callback, priority=0.0):
        observers.append(node.AddObserver(event, callback, priority))
        return observers[-1]

    # Slicer observes the node for the widgets, and leaves that observer behind when they are disconnected: once
    # Python has collected what it calls, VTK crashes calling it. So its tag is kept, and it is taken out.
    parameters.AddObserver = add_observer
    try:
        # connectGui does the same, but returns no tag in Slicer 5.6.
        tag = parameters.connectParametersToGui(tied)
    finally:
        del parameters.AddObserver

    def untie():
        parameters.disconnectGui(tag)
        for observer in observers:
            node.RemoveObserver(observer)

    return untie
