"""Descriptors: one interface, the same vectors at the same place in the world, however the scan is stored."""

import functools
import gc
import weakref

import numpy as np
import pytest
import torch
from scipy import ndimage
from SSLFewShotLib.descriptors.context import CubicDescriptor, PlanarDescriptor
from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.descriptors.gvdiff import SPREAD, GreyValueDifferences
from SSLFewShotLib.descriptors.loading import TRAINING_FREE, descriptor_from_model, load_descriptor
from SSLFewShotLib.descriptors.mind import MindSsc, mind_ssc
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.models import ModelCard, load_model, save_model
from SSLFewShotLib.models.card import installed_versions
from SSLFewShotLib.networks.context import D3D
from SSLFewShotLib.pretext.methods import make_task
from SSLFewShotLib.pretext.pretrain import descriptor_tensors
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from test_sampling import stored

EXTENT = Extent("mm", 120.0)
WINDOW = Intensity("window", -500.0, 1000.0)


@functools.cache
def torso() -> Volume:
    return phantom(0, size=(32, 26, 28), spacing=(4.0, 4.0, 4.0))[0]


def doersch(extent: Extent = EXTENT, intensity: Intensity = WINDOW) -> CubicDescriptor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CubicDescriptor(D3D(), extent, intensity, "doersch-test")


MAKERS = {
    "gvdiff": GreyValueDifferences,
    "mind": MindSsc,
    "xavier": PlanarDescriptor.untrained,
    "doersch": doersch,
}


def make(kind: str, extent: Extent = EXTENT, intensity: Intensity = WINDOW) -> Descriptor:
    return MAKERS[kind](extent, intensity)


def some_points(volume: Volume, count: int = 5, seed: int = 0) -> np.ndarray:
    ijk = np.random.default_rng(seed).uniform(0.25, 0.75, (count, 3)) * volume.size
    return volume.points_from_indices(ijk)


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


# Grey-value differences


def test_grey_value_differences_are_those_at_the_offsets_of_the_pattern():
    descriptor, volume = make("gvdiff"), torso()
    points = some_points(volume, 3)
    scan = descriptor.prepare(volume)
    ends = [points[:, None] + pattern * EXTENT.scale for pattern in descriptor.pattern]
    values = [
        ndimage.map_coordinates(
            scan.values.numpy(),
            scan.indices(end.reshape(-1, 3)).T[::-1],
            order=1,
            mode="nearest",
        ).reshape(3, 192)
        for end in ends
    ]
    np.testing.assert_allclose(descriptor.describe(volume, points), values[0] - values[1], atol=1e-5)


def test_the_pattern_is_a_gaussian_drawn_from_the_seed():
    one, same, other = (GreyValueDifferences(EXTENT, WINDOW, seed) for seed in (0, 0, 1))
    assert np.array_equal(one.pattern, same.pattern) and not np.array_equal(one.pattern, other.pattern)
    assert one.pattern.shape == (2, 192, 3)
    assert one.pattern.std() == pytest.approx(SPREAD, rel=0.06) and abs(one.pattern.mean()) < 0.05


@pytest.mark.parametrize("intensity", [WINDOW, Intensity("zscore")])
def test_a_constant_image_has_no_grey_value_differences(intensity):
    volume = Volume.from_spacing(np.full((20, 20, 20), 123.4, np.float32), (9.0, 9.0, 9.0))
    vectors = GreyValueDifferences(EXTENT, intensity).describe(volume, some_points(volume))
    np.testing.assert_allclose(vectors, 0, atol=0.02)


# MIND


def test_mind_does_not_see_contrast_inversion_or_a_change_of_units(rng):
    image = torch.from_numpy(ndimage.gaussian_filter(rng.normal(size=(14, 15, 16)), 1.5).astype(np.float32))
    reference = mind_ssc(image)
    assert reference.shape == (12, 14, 15, 16)
    assert float(reference.min()) >= 0 and float(reference.max()) <= 1
    for changed in (-image, 250 * image + 90, -3 * image - 5):
        torch.testing.assert_close(mind_ssc(changed), reference, atol=2e-3, rtol=0)


def test_the_descriptor_mind_is_the_same_on_an_inverted_crop(rng):
    crop = ndimage.gaussian_filter(rng.normal(size=(24, 24, 24)), 2) * 100 + 500
    volume = Volume.from_spacing(crop.astype(np.float32), (2.0, 2.0, 2.0))
    inverted = volume.with_array((4000 - 2 * crop).astype(np.float32))
    points = some_points(volume, 20)
    vectors = [MindSsc(Extent("mm", 48.0), Intensity("zscore")).describe(v, points) for v in (volume, inverted)]
    np.testing.assert_allclose(*vectors, atol=0.01)


def test_mind_of_a_constant_image_is_one_everywhere():
    assert torch.equal(mind_ssc(torch.full((6, 6, 6), 3.0)), torch.ones(12, 6, 6, 6))


# Learned descriptors


def test_untrained_networks_are_drawn_from_the_seed_alone():
    points = some_points(torso(), 3)
    torch.manual_seed(5)
    one = PlanarDescriptor.untrained(EXTENT, WINDOW, seed=0).describe(torso(), points)
    torch.manual_seed(6)
    same = PlanarDescriptor.untrained(EXTENT, WINDOW, seed=0).describe(torso(), points)
    other = PlanarDescriptor.untrained(EXTENT, WINDOW, seed=1).describe(torso(), points)
    assert np.array_equal(one, same) and not np.allclose(one, other)
    assert not np.allclose(one[:, :64], one[:, 64:128])


def card(method: str, task, extent: Extent, **changes) -> ModelCard:
    modules = task.descriptor_modules()
    values = {
        "name": f"{method}-test",
        "title": "Test",
        "description": "Untrained.",
        "method": method,
        "architecture": {
            "name": "D3D" if "cube" in modules else "D2D",
            "branches": list(modules),
            "parameters": sum(p.numel() for m in modules.values() for p in m.parameters()),
            "settings": {},
        },
        "preprocessing": {"modality": "CT", "intensity": WINDOW.to_dict(), "spacing_mm": None},
        "extent": {"unit": extent.unit, "scale": extent.scale, "patch": 0.8},
        "training": {
            "data": [{"name": "none", "source": "none", "licence": "CC0-1.0", "scans": 1}],
            "iterations": 0,
            "minutes": 0,
            "device": "cpu",
            "seed": 0,
            "settings": {},
        },
        "versions": installed_versions(),
        "licence": "CC0-1.0",
    }
    return ModelCard(**{**values, **changes})


@pytest.mark.parametrize(
    "method, extent",
    [("heatmap", EXTENT), ("reg2d", EXTENT), ("doersch", EXTENT), ("reg2d", Extent("normalised", 1.0))],
)
def test_a_model_that_was_saved_and_loaded_describes_to_the_last_bit_the_same(tmp_path, method, extent):
    task = make_task(method, extent, WINDOW, 2)
    points = some_points(torso(), 3)
    if method == "doersch":
        before = CubicDescriptor(task.encoder, extent, WINDOW, "before")
    else:
        before = PlanarDescriptor(task.encoders, extent, WINDOW, "before")
    expected = before.describe(torso(), points)
    save_model(tmp_path / "model", card(method, task, extent), descriptor_tensors(task))
    loaded = load_descriptor(tmp_path / "model", torso())
    assert np.array_equal(loaded.describe(torso(), points), expected)
    assert loaded.name == f"{method}-test" and loaded.modality == "CT"
    assert loaded.preparation.extent.unit == extent.unit
    assert len(loaded.provenance()["sha256"]) == 64


def saved(tmp_path, **changes) -> tuple[ModelCard, dict[str, np.ndarray]]:
    task = make_task("reg2d", EXTENT, WINDOW, 2)
    save_model(tmp_path / "model", card("reg2d", task, EXTENT, **changes), descriptor_tensors(task))
    return load_model(tmp_path / "model")


def test_weights_that_do_not_fit_their_card_are_refused(tmp_path):
    read, tensors = saved(tmp_path)
    name = next(iter(tensors))
    for wrong in (
        {key: tensor for key, tensor in tensors.items() if key != name},
        {**tensors, name: tensors[name][:-1]},
        {**tensors, "axial/more": tensors[name]},
    ):
        with pytest.raises(InputError, match="weights and card do not fit"):
            descriptor_from_model(read, wrong)


@pytest.mark.parametrize("architecture, branches", [("U-Net", ["axial"]), ("D2D", ["upside-down"])])
def test_a_model_of_a_kind_that_describes_nothing_is_refused(tmp_path, architecture, branches):
    kind = {"name": architecture, "branches": branches, "parameters": 1, "settings": {}}
    read, tensors = saved(tmp_path, architecture=kind)
    tensors = {key.replace("axial/", f"{branches[0]}/"): tensor for key, tensor in tensors.items()}
    with pytest.raises(InputError, match="reg2d-test"):
        descriptor_from_model(read, tensors)


@pytest.mark.parametrize("name", TRAINING_FREE)
def test_descriptors_without_training_suit_themselves_to_the_scan(name):
    mr = phantom(0, "MR", size=(20, 16, 18))[0]
    assert load_descriptor(name, torso()).preparation.intensity == WINDOW
    assert load_descriptor(name, mr).preparation.intensity == Intensity("zscore")
    assert load_descriptor(name, mr).preparation.extent == Extent("mm", 120.0)
    chosen = Extent("mm", 33.0)
    assert load_descriptor(name, mr, extent=chosen).preparation.extent == chosen
    assert load_descriptor(name, mr).name == name


def test_an_unknown_name_is_refused(tmp_path):
    from SSLFewShotLib.models import ModelStore

    with pytest.raises(InputError, match="no-such-model"):
        load_descriptor("no-such-model", torso(), store=ModelStore(tmp_path, tmp_path))


def test_names_joined_with_a_plus_describe_by_the_numbers_of_all():
    volume = phantom(0, size=(40, 36, 32))[0]
    points = volume.points_from_indices(np.array([[20, 18, 16], [12, 14, 10]]))
    joint = load_descriptor("gvdiff+mind", volume)
    apart = [load_descriptor(name, volume).describe(volume, points) for name in ("gvdiff", "mind")]
    assert np.array_equal(joint.describe(volume, points), np.concatenate(apart, axis=1))
    assert joint.dimension == 192 + 12 and joint.name == "gvdiff+mind"
    assert [part["name"] for part in joint.provenance()["parts"]] == ["gvdiff", "mind"]


def test_an_unknown_name_among_joined_ones_is_an_error_that_names_it():
    with pytest.raises(InputError, match="nothing-like-it"):
        load_descriptor("gvdiff+nothing-like-it", phantom(0, size=(40, 36, 32))[0])
