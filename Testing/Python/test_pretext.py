"""The self-supervised tasks: what they show, what they ask, and that they can be learned."""

import json

import numpy as np
import pytest
import torch
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.networks.analysis_unet import AnalysisEncoder
from SSLFewShotLib.networks.context import D2D, D3D
from SSLFewShotLib.networks.slices import SliceNetwork
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.pretext.doersch import CENTRE_DISTANCE, CUBE_SIDE, JITTER, Doersch
from SSLFewShotLib.pretext.heatmap import Heatmap, offset_heatmap
from SSLFewShotLib.pretext.methods import METHODS, make_task
from SSLFewShotLib.pretext.planar_offset import AXIS_NAMES, GAP, PATCH_SIDE, SLICE_DISTANCE
from SSLFewShotLib.pretext.pretrain import seeded_task
from SSLFewShotLib.pretext.reg2d import Reg2d
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.patches import PLANE_AXES
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.slices import SlicePreparation, SliceScan

# Small convolutions are slower on several threads that wait for one another.
pytestmark = pytest.mark.usefixtures("one_torch_thread")

EXTENT, INTENSITY = Extent("mm", 60.0), Intensity("zscore")


def scan_of(values: np.ndarray, task, margin: int = 0) -> PreparedScan:
    """A prepared scan on the task's grid, whose body keeps `margin` voxels from every side."""
    body = np.zeros(values.shape, bool)
    body[tuple(slice(margin, n - margin) for n in values.shape)] = True
    spacing = np.full(3, EXTENT.scale * task.preparation.step)
    kind = SliceScan if isinstance(task.preparation, SlicePreparation) else PreparedScan
    return kind(
        torch.from_numpy(values.astype(np.float32)),
        torch.from_numpy(body),
        np.zeros(3),
        spacing,
        np.full(3, EXTENT.scale),
    )


def ramps(task, side: int, margin: int) -> list[ScanBatch]:
    """Three scans whose values are the position along L, P and S, in units: what a patch shows tells where."""
    positions = np.meshgrid(*[np.arange(side) * task.preparation.step] * 3, indexing="ij")
    return [ScanBatch([scan_of(position, task, margin)]) for position in positions[::-1]]


def centres(task, patches_of: str, side: int, margin: int, seed: int = 0) -> tuple[np.ndarray, dict]:
    """(2N, 3) centres of the patches that `sample` cuts, in units along L, P, S, and the last batch."""
    batches = [task.sample(ramp, np.random.default_rng(seed)) for ramp in ramps(task, side, margin)]
    means = [batch[patches_of].double().flatten(1).mean(dim=1).numpy() for batch in batches]
    return np.stack(means, axis=1), batches[-1]


# Heatmaps


def test_the_target_heatmap_follows_the_papers_formula_at_places_worked_out_by_hand():
    heat = offset_heatmap(torch.tensor([[0.0, 0.0], [1 / 3, -2 / 3]], dtype=torch.float64))
    assert heat.shape == (2, 19, 19)
    assert heat[0, 9, 9] == 10
    assert float(heat[0, 0, 9]) == pytest.approx(10 * np.exp(-15))
    assert float(heat[0, 12, 5]) == pytest.approx(10 * np.exp(-15 * (1 / 9 + 16 / 81)))
    assert float(heat[1, 9 + 3, 9 - 6]) == pytest.approx(10)
    assert float(heat[1, 9, 9]) == pytest.approx(10 * np.exp(-15 * 5 / 9))
    # The first index goes with the first offset.
    assert float(heat[1, 9 + 3, 9]) == pytest.approx(10 * np.exp(-15 * 4 / 9))
    assert float(heat[1, 9, 9 - 6]) == pytest.approx(10 * np.exp(-15 / 9))


def test_the_offset_is_recovered_from_an_ideal_heatmap_to_half_a_pixel():
    offsets = torch.empty(200, 2).uniform_(-0.99, 0.99, generator=torch.Generator().manual_seed(0))
    found = Heatmap(EXTENT, INTENSITY).offsets(offset_heatmap(offsets))
    assert float((found - offsets).abs().max()) <= 0.5 / 9 + 1e-6
    on_pixels = torch.tensor([[-1.0, 1.0], [0.0, 0.0], [4 / 9, -7 / 9]])
    torch.testing.assert_close(Heatmap(EXTENT, INTENSITY).offsets(offset_heatmap(on_pixels)), on_pixels)


def test_a_perfect_heatmap_has_no_loss_and_reg2d_takes_the_mean_absolute_error():
    target = torch.tensor([[0.3, -0.5]])
    assert float(Heatmap(EXTENT, INTENSITY).offset_loss(offset_heatmap(target), target)) == 0
    prediction = torch.tensor([[0.1, 0.5]])
    assert float(Reg2d(EXTENT, INTENSITY).offset_loss(prediction, target)) == pytest.approx((0.2 + 1.0) / 2)


# Offsets of planar patches


@pytest.mark.parametrize(
    "fraction, least, greatest", [(0.0, 0.25, 0.3), (0.5, 0.125, 0.5), (0.75, 0.0625, 0.6), (1.0, 0.0, 0.7)]
)
def test_offsets_grow_linearly_from_the_first_to_the_last_range(fraction, least, greatest):
    task = Reg2d(EXTENT, INTENSITY, batch_size=600, axes=(2,))
    task.fraction = fraction
    assert task.offset_range() == pytest.approx((least, greatest))
    flat = ScanBatch([scan_of(np.zeros((3, 3, 3)), task)])
    offsets = task.sample(flat, np.random.default_rng(1))["offsets.axial"].numpy()
    sizes = np.abs(offsets)
    assert least - 1e-6 <= sizes.min() < least + 0.02 and greatest - 0.02 < sizes.max() <= greatest + 1e-6
    assert np.abs((offsets > 0).mean(axis=0) - 0.5).max() < 0.07
    assert sizes.mean() == pytest.approx((least + greatest) / 2, abs=0.02)


@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
def test_chance_is_the_mean_error_of_always_answering_no_offset(fraction):
    task = Heatmap(EXTENT, INTENSITY, axes=(0,))
    task.fraction = fraction
    low, high = task.offset_range()
    draws = np.random.default_rng(0).uniform(low, high, (200_000, 2))
    assert task.chance == pytest.approx(np.hypot(*draws.T).mean(), rel=5e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_second_patch_lies_where_the_target_says_and_a_gap_away(axis):
    task = Heatmap(EXTENT, INTENSITY, batch_size=64, axes=(axis,))
    name = AXIS_NAMES[axis]
    found, batch = centres(task, f"patches.{name}", side=140, margin=68)
    anchors, others = np.split(found, 2)
    rows, columns = PLANE_AXES[axis]
    difference = others - anchors
    offsets = batch[f"offsets.{name}"].numpy()
    np.testing.assert_allclose(difference[:, rows], offsets[:, 0], atol=1e-4)
    np.testing.assert_allclose(difference[:, columns], offsets[:, 1], atol=1e-4)
    gap = difference[:, axis]
    assert GAP[0] - 1e-4 <= np.abs(gap).min() and np.abs(gap).max() <= GAP[1] + 1e-4
    assert 0.25 < (gap > 0).mean() < 0.75
    # The thickness of both patches leaves a space between them.
    assert np.abs(gap).min() > 2 * SLICE_DISTANCE


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_patch_is_0_8_units_wide_and_its_slices_lie_0_05_units_apart(axis):
    task = Reg2d(EXTENT, INTENSITY, batch_size=4, axes=(axis,))
    shown = [
        task.sample(ramp, np.random.default_rng(0))[f"patches.{AXIS_NAMES[axis]}"][0]
        for ramp in ramps(task, 140, 68)
    ]
    rows, columns = PLANE_AXES[axis]
    along_rows, along_columns, along_normal = shown[rows][1], shown[columns][1], shown[axis]
    assert float(along_rows[-1, 0] - along_rows[0, 0]) == pytest.approx(PATCH_SIDE, abs=1e-4)
    assert float(along_columns[0, -1] - along_columns[0, 0]) == pytest.approx(PATCH_SIDE, abs=1e-4)
    assert along_normal.shape == (3, 42, 42)
    steps = along_normal[1:] - along_normal[:-1]
    torch.testing.assert_close(steps, torch.full_like(steps, SLICE_DISTANCE), atol=1e-4, rtol=0)


def test_anchors_lie_in_the_body_or_in_normalised_coordinates_in_the_central_box():
    task = Reg2d(EXTENT, INTENSITY, batch_size=300, axes=(1,))
    found, _ = centres(task, "patches.coronal", side=130, margin=62)
    in_voxels = found[:300] / task.preparation.step
    assert in_voxels.min() >= 61.4 and in_voxels.max() <= 67.6
    normalised = Reg2d(Extent("normalised"), INTENSITY, batch_size=300, axes=(1,))
    side = 120  # wide enough for a patch of 42 samples not to reach the border
    found, _ = centres(normalised, "patches.coronal", side=side, margin=59)
    relative = (found[:300] / normalised.preparation.step - (side - 1) / 2) / (side / 2)
    assert np.abs(relative).max() <= 0.5 + 1e-4 and np.abs(relative).max(axis=0).min() > 0.45


# Neighbouring cubes


def test_the_second_cube_lies_on_the_side_that_the_class_says_and_never_overlaps():
    task = Doersch(EXTENT, INTENSITY, batch_size=120)
    found, batch = centres(task, "cubes", side=100, margin=48)
    anchors, others = np.split(found, 2)
    difference = others - anchors
    sides = batch["sides"].numpy()
    assert set(sides) == set(range(6))
    # 0, 1: right and left; 2, 3: front and back; 4, 5: below and above (LPS).
    along = difference[np.arange(len(sides)), sides // 2]
    assert (np.sign(along) == np.where(sides % 2, 1, -1)).all()
    assert (np.abs(along) >= CENTRE_DISTANCE - JITTER - 1e-4).all()
    assert (np.abs(along) <= CENTRE_DISTANCE + JITTER + 1e-4).all()
    assert np.abs(along).min() > CUBE_SIDE
    across = difference.copy()
    across[np.arange(len(sides)), sides // 2] = 0
    assert np.abs(across).max() <= JITTER + 1e-4


def test_a_cube_is_0_4_units_wide():
    task = Doersch(EXTENT, INTENSITY, batch_size=1)
    cube = task.sample(ramps(task, 100, 48)[2], np.random.default_rng(0))["cubes"][0, 0]
    assert cube.shape == (25, 25, 25)
    assert float(cube[-1, 0, 0] - cube[0, 0, 0]) == pytest.approx(CUBE_SIDE, abs=1e-4)


def test_the_six_sides_come_equally_often():
    task = Doersch(EXTENT, INTENSITY, batch_size=20)
    scan = ScanBatch([scan_of(np.zeros((3, 3, 3)), task)])
    sides = [task.sample(scan, np.random.default_rng(n))["sides"].numpy() for n in range(60)]
    counts = np.bincount(np.concatenate(sides), minlength=6)
    assert counts.min() > 150 and counts.max() < 250


# All tasks


def test_a_method_that_is_not_known_is_refused_and_the_known_ones_are_named():
    known = ", ".join(sorted(METHODS))
    assert {"alpnet", "cpc", "dense", "doersch", "exemplar", "heatmap", "jigsaw", "reg2d", "rotation"} < set(
        METHODS
    )
    with pytest.raises(InputError, match=f"choose one of {known}"):
        make_task("rotate", EXTENT, INTENSITY, 8)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_encoders_are_kept_as_descriptors_and_everything_is_trained(method):
    task = make_task(method, EXTENT, INTENSITY, 2)
    kept = task.descriptor_modules()
    branches, network = {
        "doersch": ({"cube"}, D3D),
        "dense": ({"unet"}, UNet3d),
        "alpnet": ({"unet"}, UNet3d),
        **dict.fromkeys(("cpc", "rpl", "jigsaw", "rotation", "exemplar", "sides"), ({"encoder"}, AnalysisEncoder)),
        "slice-order": ({"slices"}, SliceNetwork),
        "slice-rotation": ({"slices"}, SliceNetwork),
    }.get(method, (set(AXIS_NAMES), D2D))
    assert set(kept) == branches and all(isinstance(module, network) for module in kept.values())
    trained = {id(p) for p in task.modules().parameters()}
    assert {id(p) for module in kept.values() for p in module.parameters()} <= trained


@pytest.mark.parametrize("method", [name for name, task in METHODS.items() if not task.needs_labels])
def test_the_same_generator_draws_the_same_batch_and_another_one_another(method, rng):
    task = make_task(method, EXTENT, INTENSITY, 3)
    scans = ScanBatch([scan_of(rng.normal(size=(20, 22, 24)), task) for _ in range(3)])
    one, same, other = (task.sample(scans, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("method", METHODS)
def test_networks_start_from_the_seed_and_leave_the_global_generator_alone(method):
    def start(seed: int) -> list[torch.Tensor]:
        return list(seeded_task(method, EXTENT, INTENSITY, 2, seed).modules().parameters())

    before = torch.random.get_rng_state()
    one, same, other = start(0), start(0), start(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_settings_of_a_task_come_back_from_a_card_as_they_are(method):
    settings = make_task(method, EXTENT, INTENSITY, 5).settings()
    assert settings["batch_size"] == 5
    assert json.loads(json.dumps(settings, allow_nan=False)) == settings


def spheres(size: int) -> np.ndarray:
    """Two blobs, off centre from one another: every patch shows where it lies."""
    run = np.arange(size) - (size - 1) / 2
    k, j, i = np.meshgrid(run, run, run, indexing="ij")
    large = np.exp(-(i**2 + j**2 + k**2) / (2 * 12**2))
    return 3 * large + np.exp(-((i - 12) ** 2 + (j + 8) ** 2 + (k + 5) ** 2) / (2 * 6**2))


def descend(task, scans: ScanBatch, iterations: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Losses and control metrics of a plain descent."""
    optimiser = torch.optim.Adam(task.modules().parameters(), lr=rate)
    losses, metrics = [], []
    for number in range(iterations):
        loss, metric = task.loss(task.sample(scans, np.random.default_rng(number)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        metrics.append(float(metric[task.control_metric]))
    return np.array(losses), np.array(metrics)


@pytest.mark.parametrize("kind", [Heatmap, Reg2d])
def test_offsets_in_one_small_scan_are_learned_to_better_than_chance(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = kind(EXTENT, INTENSITY, batch_size=8, axes=(2,))
    task.fraction = 0.0
    scans = ScanBatch([scan_of(spheres(60), task, margin=24)])
    losses, errors = descend(task, scans, 60, 3e-3)
    assert losses[-10:].mean() < 0.5 * losses[:10].mean()
    assert errors[-10:].mean() < 0.6 * task.chance
    assert not task.higher_is_better


@pytest.mark.slow
def test_sides_in_one_small_scan_are_learned_to_better_than_chance():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = Doersch(EXTENT, INTENSITY, batch_size=6)
    losses, accuracies = descend(task, ScanBatch([scan_of(spheres(60), task, margin=29)]), 40, 5e-4)
    assert losses[-10:].mean() < 0.75 * losses[:10].mean()
    assert accuracies[-10:].mean() > 3 * task.chance
    assert task.higher_is_better


def test_the_sides_of_one_pair_of_cubes_are_learned_by_heart():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = Doersch(EXTENT, INTENSITY, batch_size=2)
    batch = task.sample(ScanBatch([scan_of(spheres(60), task, margin=29)]), np.random.default_rng(0))
    task.sample = lambda volumes, rng: batch
    losses, _ = descend(task, None, 8, 1e-3)
    assert losses[-1] < 0.7 * losses[0]
