"""Cutting scans down to a box: their original voxels, in their exact place, as new volume nodes."""

import numpy as np

from SSLFewShotSlicer.bridge import add_volume, find_node, take_volume
from SSLFewShotSlicer.jobs import in_thread
from SSLFewShotSlicer.region import crop_of
from SSLFewShotSlicer.translation import _


def savings(volume, box):
    """What cropping a scan to a box would save: (voxels before, voxels after, bytes before, bytes after).

    Voxels as (i, j, k). Raises UnusableNodeError for a box outside of the scan.
    """
    region = crop_of(take_volume(volume), box)
    whole = region.source.array
    before = tuple(int(n) for n in whole.shape[::-1])
    after = tuple(int(n) for n in region.size)
    return before, after, whole.nbytes, int(np.prod(region.size)) * whole.itemsize


def savings_in_words(volume, box):
    """The same as a sentence."""
    before, after, bytes_before, bytes_after = savings(volume, box)
    return _(
        "Cropped to it, {scan} has {after} of {before} voxels and {left} of {all} MB: {saved:.0f} % saved"
    ).format(
        scan=volume.GetName(),
        after=" × ".join(map(str, after)),
        before=" × ".join(map(str, before)),
        left=_megabytes(bytes_after),
        all=_megabytes(bytes_before),
        saved=100 * (1 - bytes_after / bytes_before),
    )


def cropping(pairs):
    """The steps of a job that crops scans; its result is the IDs of the new volume nodes.

    pairs: [(volume, Markups ROI)] nodes.
    """

    def steps(job):
        regions = [crop_of(take_volume(volume), box) for volume, box in pairs]
        made = []
        for number, region in enumerate(regions):
            job.report(number / len(regions), _("{scan}: cropping").format(scan=region.source.name))
            voxels = yield in_thread(np.array, region.source.array[region.slices()])
            made.append(_add(region, voxels).GetID())
        return made

    return steps


def _add(region, voxels):
    source = region.source
    volume = find_node(source.node_id, "vtkMRMLScalarVolumeNode", source.name)
    node = add_volume(
        "vtkMRMLScalarVolumeNode",
        _("{scan} cropped").format(scan=source.name),
        voxels,
        source.own_geometry @ region.shift(),
        volume,
    )
    node.SetVoxelValueQuantity(volume.GetVoxelValueQuantity())
    node.SetVoxelValueUnits(volume.GetVoxelValueUnits())
    node.CreateDefaultDisplayNodes()
    shown, theirs = node.GetDisplayNode(), volume.GetDisplayNode()
    if shown is not None and theirs is not None:
        shown.CopyContent(theirs)
    return node


def _megabytes(size):
    digits = 3 if size < 1e5 else 1 if size < 1e8 else 0
    return f"{size / 1e6:.{digits}f}"
