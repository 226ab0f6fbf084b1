"""A scan that shows much more than the support is cropped before it is segmented; others are left alone."""

import json

import numpy as np
import pytest
from command_line import patient, sslfewshot
from SSLFewShotLib.descriptors.context import load_weights
from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging import LabelMap, SupportSet, Volume
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.crop import crop
from SSLFewShotLib.models import ModelStore, load_model
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.segmentation import cropping
from SSLFewShotLib.segmentation.aligned import AlignedSegmenter
from SSLFewShotLib.segmentation.cropping import predict_cropped


@pytest.fixture(scope="module")
def descriptor() -> DenseDescriptor:
    """The bundled one for heads and necks, made to see phantoms of coarse voxels."""
    card, tensors = load_model(ModelStore().find("dense-head-neck-ct").folder)
    network = load_weights(UNet3d(**card.architecture["settings"]), tensors, "unet")
    return DenseDescriptor(network, Extent("mm", 300.0), Intensity("window", -500.0, 1000.0), "coarse")


def part_of(seed: int, share: float) -> tuple[Volume, LabelMap, Box]:
    """A patient's scan cut down around the liver, with its labels."""
    volume, labels = patient(seed)
    centre = volume.points_from_indices(np.argwhere(labels.mask("Liver"))[:, ::-1]).mean(axis=0)
    box = Box(centre, share * np.array(volume.size) * volume.spacing).clipped(volume)
    small, marked = crop(volume, box), crop(Volume(labels.array, labels.ijkToLps), box)
    liver = (marked.array == labels.segment("Liver").value).astype(np.uint8)
    return small, LabelMap(liver, small.ijkToLps, "marked", segments=[]), box


@pytest.fixture(scope="module")
def fitted(descriptor):
    small, marked, box = part_of(0, 0.55)
    support = SupportSet([(small, marked)])
    return AlignedSegmenter(descriptor, vote=0.0, steps=5).fit(support), support, box


def test_an_ordinary_scan_is_segmented_exactly_as_without_the_setting(fitted):
    segmenter, support, _ = fitted
    alike = part_of(1, 0.7)[0]
    labels, confidence, box = predict_cropped(segmenter, support, alike)
    plain, plain_confidence = segmenter.predict(alike)
    assert box is None
    assert np.array_equal(labels.array, plain.array) and np.array_equal(confidence.array, plain_confidence.array)


def test_a_scan_four_times_as_large_is_cropped_to_what_the_support_shows(fitted):
    segmenter, support, truth = fitted
    whole, all_labels = patient(0)
    labels, confidence, box = predict_cropped(segmenter, support, whole)
    assert box is not None and labels.same_grid(whole) and confidence.same_grid(whole)
    # The scan is the support's own: its box is known, and nothing that is marked is lost.
    assert np.abs(box.centre - truth.centre).max() < 30
    liver = whole.points_from_indices(np.argwhere(all_labels.mask("Liver"))[:, ::-1])
    assert box.holds(liver).mean() > 0.99 and box.volume < Box.of_grid(whole).volume
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in whole.size), indexing="ij"), axis=-1).reshape(-1, 3)
    outside = grid[~box.grown(1e-3).holds(whole.points_from_indices(grid))]
    assert not labels.array[outside[:, 2], outside[:, 1], outside[:, 0]].any()


def test_never_and_always_do_what_they_say(fitted):
    segmenter, support, _ = fitted
    whole, _ = patient(1)
    assert predict_cropped(segmenter, support, whole, "never")[2] is None
    alike = part_of(0, 0.6)[0]
    assert predict_cropped(segmenter, support, alike, "always")[2] is not None
    with pytest.raises(InputError, match="one of auto, never, always"):
        predict_cropped(segmenter, support, whole, "perhaps")


def test_a_region_that_is_not_found_with_certainty_is_not_cropped_to(fitted, monkeypatch, rng):
    segmenter, support, _ = fitted
    noise = patient(1)[0]
    noise = noise.with_array(rng.normal(0, 300, noise.array.shape).astype(np.float32), "noise")
    monkeypatch.setattr(cropping, "LEAST_CERTAINTY", 1.01)
    assert predict_cropped(segmenter, support, noise)[2] is None
    with pytest.raises(InputError, match="not found in it"):
        predict_cropped(segmenter, support, noise, "always")


def test_the_command_says_in_its_report_to_what_it_cropped(scans, support, tmp_path):
    target = scans / "pt_1_ct.nrrd"
    refused = sslfewshot("segment", target, *support, "--method", "box", "--output", tmp_path, "--crop", "maybe")
    assert refused.code == 2 and "invalid choice" in refused.err
    done = sslfewshot("segment", target, *support, "--method", "box", "--output", tmp_path / "o")
    assert done.code == 0, done.err
    (entry,) = json.loads((tmp_path / "o" / "report.json").read_text())["targets"]
    assert "cropped_to" not in entry
