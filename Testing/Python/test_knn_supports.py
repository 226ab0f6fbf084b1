"""What a support may be: several of them, small and odd ones, and the points that stand for it."""

import numpy as np
import pytest
from command_line import dice
from knn_samples import Patches, on_itself, patient, quick, segmenter, with_segments
from scipy import ndimage
from SSLFewShotLib.imaging import LabelMap, SupportSet, Volume
from SSLFewShotLib.imaging.body import body_mask
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.segmentation import support_vectors
from SSLFewShotLib.segmentation.knn import KnnSegmenter
from SSLFewShotLib.segmentation.support_vectors import SupportVectors, draw_support_points

# Several supports


def test_supports_that_mark_different_segments_are_pooled():
    one = with_segments(patient(0), "Liver", "Stomach")
    other = with_segments(patient(1), "RightKidney", "Stomach")
    model = segmenter().fit(SupportSet([one, other]))
    assert [segment.name for segment in model.segments_] == ["Liver", "Stomach", "RightKidney"]
    # Patient 1's liver is not marked, but it is not background either.
    for pair, name in ((patient(1), "Liver"), (patient(0), "RightKidney")):
        labels, _ = model.predict(pair[0])
        alone = segmenter().fit(SupportSet([one if name == "Liver" else other])).predict(pair[0])[0]
        truth = pair[1].mask(name)
        assert dice(labels.mask(name), truth) > 0.35
        assert dice(labels.mask(name), truth) > 0.7 * dice(alone.mask(name), truth)


def test_a_support_has_no_say_on_a_segment_that_it_has_not_marked():
    # Twice the same scan, once without the liver: the unmarked one must not outvote the marked one.
    model = segmenter().fit(
        SupportSet([with_segments(patient(0), "Liver", "Stomach"), with_segments(patient(0), "Stomach")])
    )
    labels, _ = model.predict(patient(0)[0])
    assert dice(labels.mask("Liver"), patient(0)[1].mask("Liver")) > 0.8


@pytest.mark.slow
def test_two_supports_serve_a_third_patient_at_least_about_as_well_as_the_worse_of_them():
    volume, truth = patient(2)
    names = ("Liver", "Stomach", "LeftKidney", "RightKidney")

    def score(*seeds: int) -> float:
        labels, _ = segmenter().fit(SupportSet([patient(seed) for seed in seeds])).predict(volume)
        return float(np.mean([dice(labels.mask(name), truth.mask(name)) for name in names]))

    assert score(0, 1) > min(score(0), score(1)) - 0.03


def test_the_points_of_a_support_are_described_once_for_all_sets_it_is_in():
    descriptor = quick()
    vectors = SupportVectors(descriptor)
    asked = []
    plain = descriptor._describe
    descriptor._describe = lambda scan, points, p: asked.append(len(points)) or plain(scan, points, p)
    first = segmenter(descriptor=descriptor).fit(SupportSet([patient(0)]), described_before=vectors)
    count = sum(asked)
    again = segmenter(descriptor=descriptor).fit(SupportSet([patient(0)]), described_before=vectors)
    assert count > 1000 and sum(asked) == count
    lattice = first.lattice(patient(1)[0])
    probabilities = [model.lattice_probabilities(lattice) for model in (first, again)]
    assert np.array_equal(*probabilities) and probabilities[0].max() > 0.5


# Small and odd supports


def small_scan(rng, shape=(8, 9, 10)) -> tuple[Volume, LabelMap]:
    """Far smaller than a patch, with one segment of a single voxel."""
    image = ndimage.gaussian_filter(rng.normal(100, 80, shape), 1)
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 3:6, 3:7] = 1
    labels[6, 7, 8] = 2
    volume = Volume.from_spacing(image.astype(np.float32), (3.0, 3.0, 3.0), name="small", modality="MR")
    return volume, LabelMap(labels, volume.ijkToLps, "small labels")


def test_a_scan_smaller_than_a_patch_and_a_structure_of_one_voxel_go_through(rng):
    volume, labels = small_scan(rng)
    descriptor = Patches(Extent("mm", 120.0), Intensity("zscore"))
    found, confidence = KnnSegmenter(descriptor, spacing=3.0).fit(SupportSet([(volume, labels)])).predict(volume)
    assert found.array.shape == volume.array.shape and np.isfinite(confidence.array).all()
    assert [segment.name for segment in found.segments] == ["Segment_1", "Segment_2"]
    assert dice(found.mask("Segment_1"), labels.mask("Segment_1")) > 0.5


def test_a_support_with_fewer_voxels_than_neighbours_goes_through():
    array = np.zeros((2, 3, 2), np.uint8)
    array[0, 0, 0] = 1
    volume = Volume.from_spacing(np.arange(12, dtype=np.float32).reshape(2, 3, 2), modality="MR")
    support = SupportSet([(volume, LabelMap(array, volume.ijkToLps))])
    labels, confidence = (
        KnnSegmenter(Patches(Extent("mm", 3.0), Intensity("zscore")), k=21).fit(support).predict(volume)
    )
    assert labels.array.shape == array.shape and np.isfinite(confidence.array).all()


def test_a_segment_that_fills_its_scan_leaves_no_background_and_goes_through():
    volume = patient(0)[0]
    labels = LabelMap(np.ones(volume.array.shape, np.uint8), volume.ijkToLps)
    found, _ = segmenter().fit(SupportSet([(volume, labels)])).predict(volume)
    assert found.array[body_mask(volume)].mean() > 0.9


def test_a_support_far_from_the_scan_in_space_makes_no_difference():
    volume, labels = patient(0)
    matrix = volume.ijkToLps.copy()
    matrix[:3, 3] += [900.0, -700.0, 1200.0]
    moved = Volume(volume.array, matrix, "moved", "CT"), LabelMap(labels.array, matrix, segments=labels.segments)
    found, _ = segmenter(spacing=10.0).fit(SupportSet([moved])).predict(volume)
    assert dice(found.array > 0, on_itself()[0].array > 0) > 0.97


# Points of a support


def test_points_of_a_segment_lie_in_it_and_stand_for_all_of_it():
    volume, labels = patient(0)
    support = SupportSet([patient(0)])
    points = draw_support_points(
        volume, body_mask(volume), support.masks(0), 7, np.random.default_rng(0), per_segment=50, background=600
    )
    kji = np.round(volume.indices_from_points(points.points)).astype(int)[:, ::-1]
    for segment in support.segments:
        inside = labels.mask(segment.name)[tuple(kji.T)]
        assert np.array_equal(inside, points.member[:, segment.value - 1])
        assert inside.sum() == min(50, labels.mask(segment.name).sum())
        stands_for = points.weight[inside].sum()
        assert stands_for == pytest.approx(labels.mask(segment.name).sum() * volume.voxel_volume)
    background = ~points.member.any(axis=1)
    assert background.sum() == 600
    body = body_mask(volume) & (labels.array == 0)
    assert points.weight[background].sum() == pytest.approx(body.sum() * volume.voxel_volume, rel=1e-6)
    distance = ndimage.distance_transform_edt(labels.array == 0, sampling=volume.spacing[::-1])
    assert (distance[tuple(kji[background].T)] <= 15).sum() == 300


def test_points_are_drawn_the_same_when_distances_are_measured_on_blocks(monkeypatch):
    mask = np.zeros((40, 50, 60), bool)
    mask[15:20, 20:30, 20:40] = True
    spacing = np.array([2.0, 1.0, 1.5])
    exact = support_vectors._dilated(mask, 9.0, spacing)
    assert np.array_equal(exact, ndimage.distance_transform_edt(~mask, sampling=spacing) <= 9.0)
    monkeypatch.setattr(support_vectors, "_DISTANCE_VOXELS", 8000)
    coarse = support_vectors._dilated(mask, 9.0, spacing)
    assert dice(coarse, exact) > 0.85 and coarse[mask].all() and not coarse[0, 0, 0]
