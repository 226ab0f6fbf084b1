"""The baseline that knows nothing but where a structure lies in the body."""

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from SSLFewShotLib.evaluation.metrics import dice
from SSLFewShotLib.imaging import LabelMap, SupportSet, Volume
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.segmentation import decision
from SSLFewShotLib.segmentation.box_alignment import BodyBoxSegmenter


def block(size=(60, 60, 60), matrix=None, body=(10, 50), organ=(20, 30)):
    """A cubic body of soft tissue in air with one cubic organ; places count 2 mm each, 30 is the middle."""
    matrix = np.diag([2.0, 2.0, 2.0]) if matrix is None else matrix
    geometry = np.eye(4)
    geometry[:3, :3] = matrix
    geometry[:3, 3] = -matrix @ ((np.array(size) - 1) / 2)
    grid = Volume(np.zeros(size[::-1], np.int16), geometry, modality="CT")
    k, j, i = np.indices(size[::-1])
    places = (grid.points_from_indices(np.stack([i, j, k], axis=-1).reshape(-1, 3)) + 60) / 2
    inside = np.all((places >= body[0]) & (places < body[1]), axis=1).reshape(size[::-1])
    grid.array[...] = np.where(inside, 40, -1000)
    mask = np.all((places >= organ[0]) & (places < organ[1]), axis=1).reshape(size[::-1])
    return grid, LabelMap.from_masks(grid, {"Organ": mask})


def test_a_scan_is_labelled_as_itself():
    volume, labels = phantom(3, size=(48, 40, 36))
    found, confidence = BodyBoxSegmenter().fit(SupportSet([(volume, labels)])).predict(volume)
    assert np.array_equal(found.array, labels.array)
    assert confidence.array.min() > 0.99 and confidence.same_grid(volume)


@pytest.mark.parametrize("shear", [0.0, 0.3])
def test_any_grid_of_the_same_patient_is_labelled_alike(shear):
    oblique = Rotation.from_euler("zyx", [20, -15, 10], degrees=True).as_matrix() @ np.diag([-1.8, 2.2, 2.0])
    oblique[:, 2] += shear * oblique[:, 1]
    target, wanted = block((90, 80, 85), oblique)
    found, _ = BodyBoxSegmenter().fit(SupportSet([block()])).predict(target)
    assert found.same_grid(target)
    assert dice(wanted.mask("Organ"), found.mask("Organ")) > 0.9


def test_a_structure_moves_and_grows_with_the_box_of_the_body():
    small, large = block(), block(body=(10, 30), organ=(15, 20))
    for support, target in itertools.permutations((small, large)):
        found, _ = BodyBoxSegmenter().fit(SupportSet([support])).predict(target[0])
        columns = np.flatnonzero(found.array.any(axis=(0, 1)))
        wanted = np.flatnonzero(target[1].array.any(axis=(0, 1)))
        assert abs(columns[0] - wanted[0]) <= 1 and abs(columns[-1] - wanted[-1]) <= 1


def test_several_supports_vote_with_equal_weight():
    one, two, three = block(organ=(20, 30)), block(organ=(20, 30)), block(organ=(35, 40))
    found, confidence = BodyBoxSegmenter().fit(SupportSet([one, two, three])).predict(one[0])
    assert np.array_equal(found.mask("Organ"), one[1].mask("Organ"))
    inside = confidence.array[found.mask("Organ")]
    assert np.median(inside) == pytest.approx(2 / 3, abs=0.01)


def test_a_support_that_has_not_marked_a_structure_has_no_say_on_it():
    one, other = block(), block()
    elsewhere = LabelMap.from_masks(other[0], {"Other": (other[0].array == 40) & (one[1].array == 0)})
    found, _ = BodyBoxSegmenter().fit(SupportSet([one, (other[0], elsewhere)])).predict(one[0])
    assert dice(one[1].mask("Organ"), found.mask("Organ")) == 1


def test_overlapping_segments_stay_overlapping():
    volume, _ = block()
    masks = {name: np.zeros(volume.array.shape, bool) for name in ("Whole", "Part")}
    masks["Whole"][10:30, 15:40, 15:40] = masks["Part"][15:20, 20:30, 20:30] = True
    labels = LabelMap.from_masks(volume, masks)
    found, _ = BodyBoxSegmenter().fit(SupportSet([(volume, labels)])).predict(volume)
    assert all(np.array_equal(found.mask(name), masks[name]) for name in masks)


def test_a_target_is_worked_through_in_slabs_with_the_same_result(monkeypatch):
    support, target = SupportSet([phantom(3, size=(48, 40, 36))]), phantom(4, size=(40, 44, 50))[0]
    whole, sure = BodyBoxSegmenter().fit(support).predict(target)
    monkeypatch.setattr(decision, "_SLAB_VOXELS", 3000)
    messages = []
    sliced, sliced_sure = BodyBoxSegmenter().fit(support).predict(target, lambda f, m: messages.append(m))
    assert np.array_equal(whole.array, sliced.array) and np.allclose(sure.array, sliced_sure.array, atol=1e-5)
    assert len(messages) > 10


def test_names_and_colours_are_the_supports():
    volume, labels = phantom(3, size=(32, 28, 24))
    found, _ = BodyBoxSegmenter().fit(SupportSet([(volume, labels)])).predict(phantom(4, size=(32, 28, 24))[0])
    assert [(s.name, s.colour) for s in found.segments] == [(s.name, s.colour) for s in labels.segments]
