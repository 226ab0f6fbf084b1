"""Speed levels: settings that go together under one name."""

import pytest
from command_line import QUICK, SIZE, sslfewshot, write_patient
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.evaluation.contenders import make_contenders
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.segmentation.aligned import AlignedSegmenter
from SSLFewShotLib.segmentation.choice import at_speed, make_segmenter
from SSLFewShotLib.segmentation.knn import KnnSegmenter
from SSLFewShotLib.segmentation.segmenter import SPEEDS


def test_alignment_has_every_level_and_balanced_is_what_it_does_by_itself():
    assert tuple(AlignedSegmenter.speeds) == SPEEDS
    assert at_speed(AlignedSegmenter, "balanced", {}) == {}


def test_a_single_setting_counts_more_than_a_level():
    assert at_speed(AlignedSegmenter, "fast", {"steps": 40}) == {"steps": 40, "vote": 0.0, "local": 0.0}


def test_no_level_leaves_settings_as_they_are():
    assert at_speed(KnnSegmenter, None, {"k": 3}) == {"k": 3}


def test_a_method_of_one_speed_says_so_and_goes_on():
    with pytest.warns(InputWarning, match="method knn has one speed only"):
        assert at_speed(KnnSegmenter, "fast", {"k": 3}) == {"k": 3}


def test_an_unknown_level_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match="speed 'quick' is not known; choose one of fast, balanced, best"):
        at_speed(AlignedSegmenter, "quick", {})


def test_segmenting_and_evaluating_take_the_same_settings_at_a_level():
    scan, _ = phantom(0, "CT", SIZE)
    segmenter = make_segmenter("aligned", "dense-head-neck-ct", scan, speed="fast")
    contender = make_contenders(["aligned"], ["dense-head-neck-ct"], scan, "cpu", {"speed": "fast"})[0]
    assert segmenter.provenance()["settings"] == contender.facts()["settings"]
    assert segmenter.alignment.steps == 20 and segmenter.vote == 0


def test_the_command_takes_a_level(tmp_path):
    image, labels = write_patient(tmp_path, 0)
    outcome = sslfewshot(
        "segment", image, "--support", image, labels, "--output", tmp_path / "out", *QUICK, "--speed", "fast"
    )
    assert outcome.code == 0 and "one speed only" in outcome.err
