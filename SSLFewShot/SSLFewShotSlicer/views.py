"""What the slice views show, and that marks are seen on their own scan only."""

import slicer


def show_scan(volume):
    """Show a scan in the slice views, nothing over it; the field of view is kept where it was shown already."""
    shown = {node.GetBackgroundVolumeID() for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
    slicer.util.setSliceViewerLayers(background=volume, foreground=None, fit=shown != {volume.GetID()})


def show_marks(segmentation, shown):
    """Show a segmentation, or hide it: over another scan than its own it would only mislead."""
    if segmentation is not None and segmentation.GetDisplayNode() is not None:
        segmentation.GetDisplayNode().SetVisibility(shown)
