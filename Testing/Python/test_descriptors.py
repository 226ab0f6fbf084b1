"""Descriptors: one interface, the same vectors at the same place in the world, however the scan is stored."""

import gc
import weakref

import numpy as np
import pytest
from descriptor_samples import MAKERS, make, some_points, torso
from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.descriptors.mind import MindSsc
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from stored_waves import stored

# The interface


@pytest.mark.parametrize("kind, dimension", [("gvdiff", 192), ("mind", 12), ("xavier", 192), ("doersch", 192)])
def test_every_point_gets_a_vector_of_float32(kind, dimension):
    descriptor = make(kind)
    vectors = descriptor.describe(torso(), some_points(torso()))
    assert descriptor.dimension == dimension
    assert vectors.shape == (5, dimension) and vectors.dtype == np.float32
    assert np.isfinite(vectors).all() and vectors.std(axis=0).max() > 0
    assert descriptor.describe(torso(), np.empty((0, 3))).shape == (0, dimension)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_batch_size_changes_nothing_but_the_memory(kind):
    descriptor, points = make(kind), some_points(torso())
    at_once = descriptor.describe(torso(), points)
    sizes = []
    plain = getattr(descriptor, "patches_to_vectors", None)
    if plain is not None:
        descriptor.patches_to_vectors = lambda b, p: sizes.append(len(p)) or plain(b, p)
    descriptor.batch_size = 2
    np.testing.assert_allclose(descriptor.describe(torso(), points), at_once, atol=1e-4)
    assert plain is None or sizes == [2, 2, 1]


@pytest.mark.parametrize("kind", MAKERS)
def test_points_are_described_one_by_one_whatever_their_order(kind):
    descriptor, points = make(kind), some_points(torso(), 5)
    vectors = descriptor.describe(torso(), points)
    np.testing.assert_allclose(descriptor.describe(torso(), points[::-1]), vectors[::-1], atol=1e-4)
    np.testing.assert_allclose(descriptor.describe(torso(), points[2:3])[0], vectors[2], atol=1e-4)


def test_a_dense_field_has_the_scans_axes_and_the_vectors_of_its_points():
    volume = phantom(3, size=(20, 18, 16), spacing=(12.0, 11.0, 14.0), geometry="sheared")[0]
    descriptor = make("gvdiff")
    field = descriptor.dense(volume, (60.0, 50.0, 70.0))
    assert field.array.shape[3] == 192 and field.array.dtype == np.float32
    np.testing.assert_allclose(field.spacing, (60.0, 50.0, 70.0))
    np.testing.assert_allclose(field.direction, volume.direction)
    # The same extent: the outer corner of the first voxel stays, the last one moves by half a voxel at most.
    np.testing.assert_allclose(field.corners()[0], volume.corners()[0])
    assert np.abs(field.indices_from_points(volume.corners()[-1:]) - field.size).max() <= 1.0
    index = np.array([[1, 2, 1], [3, 0, 2]])
    expected = descriptor.describe(volume, field.points_from_indices(index))
    np.testing.assert_allclose(field.array[index[:, 2], index[:, 1], index[:, 0]], expected, atol=1e-5)


@pytest.mark.parametrize(
    "points", [np.zeros(3), np.zeros((2, 2)), np.array([[0.0, np.nan, 0.0]]), np.array([[np.inf, 0.0, 0.0]])]
)
def test_points_that_are_none_are_refused(points):
    with pytest.raises(InputError, match=r"finite points of shape \(N, 3\)"):
        make("gvdiff").describe(torso(), points)


@pytest.mark.parametrize("kind", MAKERS)
def test_far_outside_the_scan_its_border_goes_on(kind):
    low = torso().corners().min(axis=0)
    vectors = make(kind).describe(torso(), np.array([low - 3e3, low - 3e4]))
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-4)


@pytest.mark.parametrize("kind", MAKERS)
def test_progress_is_reported_and_can_cancel(kind):
    reports = []
    make(kind).describe(torso(), some_points(torso()), lambda *report: reports.append(report))
    assert reports and all(0 <= fraction <= 1 and torso().name in message for fraction, message in reports)

    def cancel(fraction: float, message: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        make(kind).describe(torso(), some_points(torso()), cancel)


@pytest.mark.parametrize("kind", MAKERS)
def test_what_a_report_says_of_a_descriptor_is_plain_data(kind):
    provenance = make(kind).provenance()
    assert provenance["name"] == make(kind).name
    assert all(isinstance(value, str | int | float | list) for value in provenance.values())


def test_a_scan_is_prepared_once_and_anew_when_voxels_or_geometry_change():
    descriptor, volume = make("gvdiff"), torso()
    first = descriptor.prepare(volume)
    assert descriptor.prepare(volume.with_array(volume.array)) is first
    moved = Volume(volume.array, volume.ijkToLps @ np.diag([1, 1, 2, 1]), modality="CT")
    assert descriptor.prepare(moved) is not first
    assert descriptor.prepare(volume.with_array(volume.array.copy())) is not first


@pytest.mark.parametrize("name", ["gvdiff", "xavier", "mind", "mind+gvdiff"])
def test_what_was_made_of_a_scan_is_let_go_with_its_voxels(name):
    volume = phantom(0, size=(20, 16, 18))[0]
    descriptor = load_descriptor(name, volume)
    descriptor.describe(volume, volume.points_from_indices(np.array([[10, 8, 9]])))
    parts = getattr(descriptor, "parts", [descriptor])
    made = [weakref.ref(part.prepare(volume)) for part in parts]
    made += [weakref.ref(part.field(part.prepare(volume))) for part in parts if isinstance(part, MindSsc)]
    gc.collect()
    assert all(each() is not None for each in made), "kept while the scan is there"
    del volume
    gc.collect()
    assert not any(each() is not None for each in made)


# The same place in the world


# Each with a unit that keeps its view within the object, and how far vectors may differ, as a share of the
# mean distance of two places' vectors. MIND looks at differences between neighbouring voxels.
@pytest.mark.parametrize(
    "kind, unit, share",
    [("gvdiff", 25.0, 0.1), ("mind", 120.0, 0.35), ("xavier", 60.0, 0.15), ("doersch", 70.0, 0.15)],
)
def test_the_same_object_is_described_alike_however_it_is_stored(kind, unit, share):
    points = np.array([13.0, -40.0, 71.0]) + np.random.default_rng(0).uniform(-12, 12, (6, 3))
    descriptor = make(kind, Extent("mm", unit), Intensity("window", -1.0, 1.0))
    reference = descriptor.describe(stored("axial"), points)
    typical = np.sqrt(((reference[:, None] - reference[None]) ** 2).sum(axis=-1)).mean()
    for storage in ("flipped", "permuted", "anisotropic", "oblique", "sheared"):
        vectors = descriptor.describe(stored(storage), points)
        difference = np.sqrt(((vectors - reference) ** 2).sum(axis=-1))
        assert difference.mean() < share * typical, storage


@pytest.mark.parametrize("kind", MAKERS)
def test_a_scan_moved_in_space_is_described_the_same_at_the_moved_points(kind):
    volume, points = torso(), some_points(torso(), 3)
    shift = np.array([300.0, -150.0, 77.0])
    matrix = volume.ijkToLps.copy()
    matrix[:3, 3] += shift
    moved = Volume(volume.array, matrix, modality="CT")
    np.testing.assert_allclose(
        make(kind).describe(moved, points + shift), make(kind).describe(volume, points), atol=1e-3
    )
