"""Few-shot segmentation by nearest neighbours, on phantoms."""

import numpy as np
import pytest
from command_line import dice
from knn_samples import WINDOW, fitted, on_itself, patient, segmenter
from scipy import ndimage
from SSLFewShotLib.descriptors.gvdiff import GreyValueDifferences
from SSLFewShotLib.imaging import LabelMap, Segment, SupportSet, Volume
from SSLFewShotLib.imaging.body import body_mask
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.segmentation.knn import KnnSegmenter

# Quality


def test_a_support_is_segmented_as_it_was_marked():
    volume, truth = patient(0)
    gvdiff = GreyValueDifferences(Extent("mm", 120.0), WINDOW)
    labels, _ = KnnSegmenter(gvdiff, spacing=9.0).fit(SupportSet([patient(0)])).predict(volume)
    for name in ("Liver", "Spleen", "Stomach", "LeftKidney", "RightKidney"):
        assert dice(labels.mask(name), truth.mask(name)) > 0.8, name


def test_another_patient_is_segmented_clearly_better_than_by_chance():
    volume, truth = patient(1)
    labels, _ = fitted().predict(volume)
    body = body_mask(volume)
    for name in ("Liver", "Stomach", "RightKidney"):
        by_chance = truth.mask(name).sum() / body.sum()
        assert dice(labels.mask(name), truth.mask(name)) > max(0.35, 4 * by_chance), name


@pytest.mark.parametrize("geometry", ["oblique", "sheared"])
def test_the_same_patient_stored_on_another_grid_gets_the_same_labels_at_the_same_places(geometry):
    volume, truth = patient(0, geometry)
    labels, confidence = fitted().predict(volume)
    assert labels.same_grid(volume) and confidence.same_grid(volume)
    for name in ("Liver", "Stomach", "LeftKidney", "RightKidney"):
        mask, reference = labels.mask(name), truth.mask(name)
        assert dice(mask, reference) > 0.7, name
        centres = [volume.points_from_indices(np.argwhere(m)[:, ::-1]).mean(axis=0) for m in (mask, reference)]
        assert np.linalg.norm(np.subtract(*centres)) < 8, name


def test_left_stays_left_when_the_array_is_stored_the_other_way_round():
    volume = patient(0)[0]
    matrix = volume.ijkToLps @ np.diag([-1.0, 1, 1, 1])
    matrix[:3, 3] = volume.points_from_indices([[volume.size[0] - 1, 0, 0]])[0]
    flipped = Volume(np.ascontiguousarray(volume.array[:, :, ::-1]), matrix, "flipped", "CT")
    labels, _ = fitted().predict(flipped)
    assert np.array_equal(labels.array[:, :, ::-1], on_itself()[0].array)


def test_a_support_on_a_sheared_grid_serves_a_scan_on_an_axial_one():
    volume, truth = patient(0)
    labels, _ = segmenter(spacing=10.0).fit(SupportSet([patient(0, "sheared")])).predict(volume)
    for name, least in (("Liver", 0.8), ("Stomach", 0.6), ("RightKidney", 0.4)):
        assert dice(labels.mask(name), truth.mask(name)) > least, name


def test_fine_nodes_within_a_structure_are_voted_on_and_not_interpolated():
    lattice = fitted().lattice(patient(0)[0])
    probabilities = fitted().lattice_probabilities(lattice)
    likely = np.flatnonzero((probabilities[0] > 0.8) & lattice.body)
    assert len(likely) > 100
    voted = fitted()._vote(lattice, likely, lambda *report: None)
    np.testing.assert_allclose(probabilities.reshape(len(probabilities), -1)[:, likely].T, voted, atol=1e-6)


# What comes out


def test_names_colours_and_terminology_are_those_of_the_support():
    labels, _ = on_itself()
    for ours, theirs in zip(labels.segments, patient(0)[1].segments, strict=True):
        assert (ours.name, ours.colour, ours.terminology) == (theirs.name, theirs.colour, theirs.terminology)
        assert ours.terminology


def test_confidence_is_a_probability_and_higher_where_the_label_is_right():
    labels, confidence = on_itself()
    truth, body = patient(0)[1], body_mask(patient(0)[0])
    assert confidence.array.dtype == np.float32
    assert confidence.array.min() >= 0 and confidence.array.max() <= 1
    right = labels.array == truth.array
    assert confidence.array[right & body].mean() > confidence.array[~right & body].mean() + 0.1


def test_nothing_is_labelled_far_outside_the_body():
    labels, _ = on_itself()
    far = ndimage.distance_transform_edt(~body_mask(patient(0)[0]), sampling=patient(0)[0].spacing[::-1]) > 15
    assert far.any() and not labels.array[far].any()


def test_each_segment_is_one_piece_unless_all_pieces_are_wanted():
    def pieces(labels: LabelMap) -> list[int]:
        return [
            ndimage.label(labels.mask(segment), np.ones((3, 3, 3)))[1]
            for segment in labels.segments
            if labels.mask(segment).any()
        ]

    volume = patient(1)[0]
    assert set(pieces(fitted().predict(volume)[0])) == {1}
    all_pieces = segmenter(largest_component=False).fit(SupportSet([patient(0)]))
    assert max(pieces(all_pieces.predict(volume)[0])) > 1


def test_label_values_need_not_be_contiguous():
    volume, labels = patient(0)
    values = np.array([0, 900, 4, 77, 12, 13, 3000, 5], np.int16)
    segments = [Segment(int(values[s.value]), s.name, s.colour) for s in labels.segments]
    renumbered = LabelMap(values[labels.array], labels.ijkToLps, segments=segments)
    found, _ = segmenter(spacing=10.0).fit(SupportSet([(volume, renumbered)])).predict(volume)
    for segment in labels.segments:
        assert np.array_equal(found.mask(segment.name), on_itself()[0].mask(segment.name))


def test_overlapping_segments_come_out_overlapping():
    volume, labels = patient(0)
    liver = labels.mask("Liver")
    upper = liver.copy()
    upper[: np.argwhere(liver)[:, 0].mean().astype(int)] = False
    both = LabelMap.from_masks(volume, {"Liver": liver, "Upper part": upper, "Stomach": labels.mask("Stomach")})
    found, confidence = segmenter().fit(SupportSet([(volume, both)])).predict(volume)
    assert found.overlapping
    assert dice(found.mask("Liver"), liver) > 0.8 and dice(found.mask("Upper part"), upper) > 0.75
    assert (found.mask("Upper part") & found.mask("Liver")).sum() > 0.8 * found.mask("Upper part").sum()
    assert confidence.array.min() >= 0 and confidence.array.max() <= 1
