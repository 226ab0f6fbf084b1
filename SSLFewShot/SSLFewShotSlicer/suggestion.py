"""What the user most likely means, where the scene leaves no doubt: choices made before the first click."""

import slicer

from SSLFewShotSlicer.parameters import supports_of


def suggest(parameters):
    """Choose the marked scan and the scan to segment, where nothing is chosen and there is just one candidate."""
    if parameters.support_volume is None and parameters.support_segmentation is None:
        marked = _marked_scans()
        if len(marked) == 1:
            parameters.support_volume, parameters.support_segmentation = marked[0]
    if parameters.target_volume is None and parameters.support_volume is not None and not parameters.more_targets:
        marked = [volume.GetID() for volume, _segmentation in supports_of(parameters)]
        others = [scan for scan in _scans() if scan.GetID() not in [*marked, parameters.support_volume.GetID()]]
        if len(others) == 1:
            parameters.target_volume = others[0]


def _marked_scans():
    """(scan, segmentation) of every segmentation that has segments and says which scan it was made on."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    found = []
    for segmentation in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        scan = segmentation.GetNodeReference(role)
        if scan is not None and scan in _scans() and segmentation.GetSegmentation().GetNumberOfSegments():
            found.append((scan, segmentation))
    return found


def _scans():
    return [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and node.GetImageData() is not None
    ]
