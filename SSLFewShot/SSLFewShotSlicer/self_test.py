"""The module's self-test: a made torso is marked, another one segmented, measured, cropped."""

import logging
import time

import numpy as np
import slicer
import vtk

from SSLFewShotSlicer import sample_data
from SSLFewShotSlicer.bridge import list_segments

LEAST_DICE = 0.5
LEAST_INSIDE = 0.9


def run_self_test(logic, say=logging.info):
    """Raise an AssertionError when something does not work. logic: a `SSLFewShotLogic`."""
    say("Making two torsos")
    sample = sample_data.load_sample()
    volume, segmentation = sample.support
    names = [segment.name for segment in list_segments(segmentation)]
    assert names, "the sample has no segments"

    say("Segmenting the second from the first")
    (result,) = logic.segment([(volume, segmentation)], [sample.target], model="gvdiff", timeout=300)
    assert [segment.name for segment in list_segments(result)] == names, "other segments than marked"
    for made, marked in zip(list_segments(result), list_segments(segmentation)):
        assert made.colour == marked.colour, f"{made.name} has another colour"
        assert made.terminology == marked.terminology, f"{made.name} has another terminology"

    say("Measuring")
    rows = logic.evaluate(sample.truth, result, timeout=120)
    mean = sum(row["dice"] for row in rows) / len(rows)
    assert mean > LEAST_DICE, f"mean Dice {mean:.3f}, more than {LEAST_DICE} was expected"

    say("Finding the box of the structures, and cropping to it")
    _localise(logic, sample)

    say("Cancelling")
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    job = logic.segment([(volume, segmentation)], [sample.target], wait=False)
    job.cancel()
    began = time.monotonic()
    logic.session.wait(job, 30)
    assert job.state == "cancelled", f"the cancelled job is {job.state}"
    assert time.monotonic() - began < 10, "cancelling took longer than ten seconds"
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == before, (
        "a cancelled job left nodes"
    )

    say(f"Passed: mean Dice {mean:.3f} over {len(rows)} structures")
    return mean


def _localise(logic, sample):
    """The box holds nearly all that is marked, and the crop is the scan's own voxels."""
    (found,) = logic.localise([sample.target], support=[sample.support], timeout=300)
    assert found.box_id is not None, f"no box was found: {found.reason}"
    (cropped,) = logic.crop([sample.target], found.box_id, timeout=60)
    whole, part = (slicer.util.arrayFromVolume(node) for node in (sample.target, cropped))
    assert part.size < whole.size, "the crop is no smaller than the scan"
    inside = _voxels_of(sample.target, cropped)
    assert np.array_equal(whole[inside], part), "the crop has other voxels than the scan"
    for segment in list_segments(sample.truth):
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(sample.truth, segment.segment_id, sample.target) > 0
        share = mask[inside].sum() / mask.sum()
        assert share > LEAST_INSIDE, f"only {100 * share:.0f} % of {segment.name} lie within the box"


def _voxels_of(volume, cropped):
    """The slices (K, J, I) of a volume that a crop of it holds, by where its first voxel lies."""
    to_indices, place = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(to_indices)
    cropped.GetIJKToRASMatrix(place)
    first = to_indices.MultiplyPoint([place.GetElement(axis, 3) for axis in range(3)] + [1.0])[:3]
    size = cropped.GetImageData().GetDimensions()
    return tuple(slice(round(a), round(a) + n) for a, n in zip(first[::-1], size[::-1]))
