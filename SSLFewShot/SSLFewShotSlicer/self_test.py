"""The module's self-test: a made torso is marked, another one segmented, measured and cancelled, by the worker."""

import logging
import time

import slicer

from SSLFewShotSlicer import sample_data
from SSLFewShotSlicer.bridge import list_segments

LEAST_DICE = 0.5


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
