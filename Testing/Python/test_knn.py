"""Few-shot segmentation by nearest neighbours, on phantoms."""

import functools

import numpy as np
import pytest
from scipy import ndimage
from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.descriptors.gvdiff import GreyValueDifferences
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.imaging import LabelMap, Segment, SupportSet, Volume
from SSLFewShotLib.imaging.body import body_mask
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.segmentation import support_vectors
from SSLFewShotLib.segmentation.knn import KnnSegmenter
from SSLFewShotLib.segmentation.lattice import Lattice
from SSLFewShotLib.segmentation.neighbours import NeighbourIndex
from SSLFewShotLib.segmentation.support_vectors import SupportVectors, draw_support_points

SIZE = (40, 32, 36)  # about 10 mm voxels
WINDOW = Intensity("window", -500.0, 1000.0)


class Patches(GreyValueDifferences):
    """Grey-value differences, a few of them: quick."""

    dimension = 32


def quick(extent: float = 120.0) -> Descriptor:
    return Patches(Extent("mm", extent), WINDOW)


@functools.cache
def patient(seed: int, geometry: str = "axial", size=SIZE, spacing=None) -> tuple[Volume, LabelMap]:
    return phantom(seed, size=size, spacing=spacing, geometry=geometry, name=f"patient_{seed}_{geometry}")


def with_segments(pair: tuple[Volume, LabelMap], *names: str) -> tuple[Volume, LabelMap]:
    """The same scan with only these segments marked."""
    volume, labels = pair
    masks = {name: labels.mask(name) for name in names}
    return volume, LabelMap.from_masks(volume, masks, labels.segments, labels.name)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / max(1, one.sum() + other.sum())


def segmenter(**settings) -> KnnSegmenter:
    return KnnSegmenter(
        settings.pop("descriptor", None) or quick(), **{"spacing": 12.0, "background": 4000, **settings}
    )


@functools.cache
def fitted() -> KnnSegmenter:
    """On patient 0, all segments; not to be changed."""
    return segmenter(spacing=10.0).fit(SupportSet([patient(0)]))


@functools.cache
def on_itself() -> tuple[LabelMap, Volume]:
    return fitted().predict(patient(0)[0])


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
