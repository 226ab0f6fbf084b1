"""Descriptors by networks, and how any descriptor is loaded by its name."""

import numpy as np
import pytest
import torch
from descriptor_samples import EXTENT, WINDOW, some_points, torso
from SSLFewShotLib.descriptors.context import CubicDescriptor, PlanarDescriptor
from SSLFewShotLib.descriptors.loading import TRAINING_FREE, descriptor_from_model, load_descriptor
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.models import ModelCard, load_model, save_model
from SSLFewShotLib.models.card import installed_versions
from SSLFewShotLib.pretext.methods import make_task
from SSLFewShotLib.pretext.pretrain import descriptor_tensors
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity


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
            descriptor_from_model(read, wrong, torso())


@pytest.mark.parametrize("architecture, branches", [("U-Net", ["axial"]), ("D2D", ["upside-down"])])
def test_a_model_of_a_kind_that_describes_nothing_is_refused(tmp_path, architecture, branches):
    kind = {"name": architecture, "branches": branches, "parameters": 1, "settings": {}}
    read, tensors = saved(tmp_path, architecture=kind)
    tensors = {key.replace("axial/", f"{branches[0]}/"): tensor for key, tensor in tensors.items()}
    with pytest.raises(InputError, match="reg2d-test"):
        descriptor_from_model(read, tensors, torso())


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
