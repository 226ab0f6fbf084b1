"""The settings of the nearest neighbours, and the progress that they report."""

import numpy as np
import pytest
from command_line import dice
from knn_samples import WINDOW, Patches, fitted, patient, quick, segmenter
from SSLFewShotLib.descriptors.gvdiff import GreyValueDifferences
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.imaging import SupportSet
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.segmentation.lattice import Lattice
from SSLFewShotLib.segmentation.neighbours import NeighbourIndex

# Settings


def test_the_same_seed_gives_the_same_result_to_the_last_bit():
    results = []
    for settings in ({"seed": 4}, {"seed": 4}, {"seed": 5}):
        model = segmenter(index="approximate", per_segment=100, background=600, **settings)
        results.append(model.fit(SupportSet([patient(0)])).predict(patient(1)[0]))
    one, same, other = results
    assert np.array_equal(one[0].array, same[0].array) and np.array_equal(one[1].array, same[1].array)
    assert not np.array_equal(one[1].array, other[1].array)


def test_a_kept_lattice_gives_the_same_result_without_describing_anything_again():
    volume = patient(1)[0]
    lattice = fitted().lattice(volume)
    first = fitted().predict(volume, lattice=lattice)
    lattice.descriptor = None
    second = fitted().predict(volume, lattice=lattice)
    assert np.array_equal(first[0].array, second[0].array) and np.array_equal(first[1].array, second[1].array)


class Loud(Patches):
    """One number of each vector is a thousand times as large as the others, and one never varies."""

    def _describe(self, scan, points, progress):
        vectors = super()._describe(scan, points, progress)
        vectors[:, 0] *= 1000
        vectors[:, 1] = 5
        return vectors


class Quiet(Loud):
    """The same without the loud number's factor."""

    def _describe(self, scan, points, progress):
        vectors = super()._describe(scan, points, progress)
        vectors[:, 0] /= 1000
        return vectors


def test_how_large_a_number_of_the_vectors_is_counts_nothing_unless_they_are_taken_as_they_are():
    def found(kind, normalise: bool) -> np.ndarray:
        descriptor = kind(Extent("mm", 120.0), WINDOW)
        settings = {"per_segment": 200, "background": 1000, "spatial_weight": 0.0, "normalise": normalise}
        model = segmenter(descriptor=descriptor, **settings).fit(SupportSet([patient(0)]))
        return model.lattice_probabilities(model.lattice(patient(0)[0]))

    np.testing.assert_allclose(found(Loud, True).mean(), found(Quiet, True).mean(), rtol=1e-3)
    assert abs(found(Loud, True) - found(Quiet, True)).mean() < 1e-3
    assert abs(found(Loud, False) - found(Quiet, False)).mean() > 1e-2


class Blind(GreyValueDifferences):
    """Sees nothing: all vectors are alike."""

    def _describe(self, scan, points, progress):
        return np.zeros((len(points), self.dimension), np.float32)


def test_the_place_in_the_body_counts_as_much_as_it_is_told_to():
    volume, truth = patient(0)
    blind = Blind(Extent("mm", 120.0), WINDOW)
    scores = []
    for weight in (0.0, 1.0):
        model = segmenter(descriptor=blind, spatial_weight=weight, per_segment=200, background=2000)
        labels, _ = model.fit(SupportSet([patient(0)])).predict(volume)
        scores.append(dice(labels.mask("Liver"), truth.mask("Liver")))
    assert scores[0] < 0.3 and scores[1] > 0.7


def test_places_are_relative_to_the_body_whatever_the_field_of_view():
    descriptor = quick()
    small = patient(0)
    wide = patient(0, size=(50, 44, 36), spacing=(10.0, 9.375, 10.0))
    boxes = [Lattice(volume, descriptor, 10.0).box for volume in (small[0], wide[0])]
    np.testing.assert_allclose(*boxes, atol=12)


def test_neighbours_that_an_index_did_not_find_leave_the_others_their_weights():
    model = segmenter(k=6).fit(SupportSet([patient(0)]))
    lattice = model.lattice(patient(0)[0])
    nodes = lattice.coarse_nodes()[:50]
    model.k = 4
    expected = model._vote(lattice, nodes, lambda *report: None)
    plain = model.index_.search

    def two_missing(queries, k):
        distances, rows = plain(queries, 4)
        gone = np.full((len(queries), 2), np.finfo(np.float32).max, np.float32)
        return np.hstack([distances, gone]), np.hstack([rows, np.full(gone.shape, -1)])

    model.k, model.index_.search = 6, two_missing
    np.testing.assert_allclose(model._vote(lattice, nodes, lambda *report: None), expected, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"k": 0},
        {"spacing": 0.0},
        {"spacing": -3.0},
        {"spatial_weight": -1.0},
        {"background_weight": float("nan")},
        {"per_segment": 0},
        {"background": -1},
        {"index": "fast"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_anything_is_computed(settings):
    with pytest.raises(InputError):
        segmenter(**settings)


def test_a_spacing_too_fine_for_memory_is_refused():
    with pytest.raises(InputError, match="too many; give a larger spacing"):
        segmenter(spacing=0.1).lattice(patient(0)[0])


def test_what_a_report_says_of_it_is_complete():
    provenance = segmenter(k=5, seed=3).provenance()
    assert provenance["method"] == "knn" and provenance["descriptor"]["name"] == "gvdiff"
    assert provenance["settings"]["k"] == 5 and provenance["settings"]["seed"] == 3
    assert provenance["settings"]["spacing_mm"] == 12.0


# Progress


def test_progress_runs_from_nothing_to_all_and_can_cancel_at_any_report():
    reports = []
    model = segmenter(per_segment=100, background=600)
    model.fit(SupportSet([patient(0), patient(1)]), lambda *report: reports.append(report))
    fitting = [fraction for fraction, _ in reports]
    assert fitting == sorted(fitting) and fitting[0] >= 0 and fitting[-1] <= 1
    del reports[:]
    model.predict(patient(1)[0], lambda *report: reports.append(report))
    fractions = [fraction for fraction, _ in reports]
    assert all(0 <= fraction <= 1 for fraction in fractions) and fractions[-1] > 0.9
    assert fractions == sorted(fractions)
    count = iter(range(10**6))

    def cancel(fraction: float, message: str) -> None:
        if next(count) == len(reports) // 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        model.predict(patient(1)[0], cancel)


def test_descriptors_that_are_not_finite_are_refused():
    volume, labels = patient(0)
    broken = volume.array.astype(np.float32)
    broken[5:9, 5:9, 5:9] = np.nan
    with pytest.raises(InputError, match="NaN"):
        segmenter().fit(SupportSet([(volume.with_array(broken), labels)]))


def test_the_index_that_was_asked_for_is_used_and_its_recall_told():
    exact, approximate = (segmenter(index=kind).fit(SupportSet([patient(0)])) for kind in ("exact", "approximate"))
    assert exact.recall_ == 1.0 and 0.5 < approximate.recall_ <= 1.0
    assert isinstance(approximate.index_, NeighbourIndex) and approximate.index_.kind == "approximate"
