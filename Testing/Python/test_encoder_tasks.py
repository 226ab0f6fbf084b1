"""CPC, RPL, JIGSAW, ROTATION and EXEMPLAR: losses worked out by hand, what is drawn, and that they are learned."""

import itertools
import math

import numpy as np
import pytest
import torch
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.pretext.cpc import Cpc, info_nce, pyramid
from SSLFewShotLib.pretext.exemplar import Exemplar, triplet_distances, triplet_loss
from SSLFewShotLib.pretext.jigsaw import Jigsaw, distant_permutations
from SSLFewShotLib.pretext.methods import make_task
from SSLFewShotLib.pretext.patch_location import NEIGHBOURS, PatchLocation
from SSLFewShotLib.pretext.rotation import TURNS, Rotation, quarter_turned
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.grids import drawn_centres, drawn_grids, grid_offsets, read_patches
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import PreparedScan

CT = Intensity("window", -500.0, 1000.0)
MM = Extent("mm", 120.0)
METHODS = ("cpc", "rpl", "jigsaw", "rotation", "exemplar")


def scan_of(values: np.ndarray, name: str = "scan") -> PreparedScan:
    values = torch.as_tensor(values, dtype=torch.float32)
    return PreparedScan(
        values, torch.ones(values.shape, dtype=torch.bool), np.zeros(3), np.full(3, 4.0), np.full(3, 120.0), name
    )


def small(method: str, **options):
    torch.manual_seed(0)
    options = {"features": 2, **options}
    return make_task(method, MM, CT, options.pop("batch_size", 2), options)


@pytest.fixture
def scans(rng) -> ScanBatch:
    return ScanBatch([scan_of(rng.normal(size=(50, 56, 62))) for _ in range(2)])


# Formulas


def test_info_nce_is_the_logarithm_of_the_right_codes_share():
    # ẑ = (1, 0), candidates (ln 3, 5), (0, −2), (ln 2, 0): products ln 3, 0, ln 2, shares 3/6, 1/6, 2/6.
    codes = torch.tensor([[math.log(3), 5.0], [0.0, -2.0], [math.log(2), 0.0]])
    predictions = torch.tensor([[1.0, 0.0]])
    for right, share in enumerate((3 / 6, 1 / 6, 2 / 6)):
        assert float(info_nce(predictions, codes, torch.tensor([right]))) == pytest.approx(-math.log(share))
    both = info_nce(predictions.repeat(2, 1), codes, torch.tensor([0, 1]))
    assert float(both) == pytest.approx(-(math.log(1 / 2) + math.log(1 / 6)) / 2)


def test_the_triplet_loss_is_the_margin_plus_the_difference_of_squared_distances():
    anchors = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    positives = torch.tensor([[0.3, 0.4], [1.0, 1.0]])
    negatives = torch.tensor([[0.6, 0.0], [1.0, 3.0]])
    near, far = triplet_distances(anchors, positives, negatives)
    torch.testing.assert_close(near, torch.tensor([0.25, 0.0]))
    torch.testing.assert_close(far, torch.tensor([0.36, 4.0]))
    # 0.25 − 0.36 + 1 = 0.89, and 0 − 4 + 1 is below 0.
    assert float(triplet_loss(near, far)) == pytest.approx(0.89 / 2)


def test_an_exemplars_codes_come_from_one_head_and_have_unit_length(scans, rng):
    task = small("exemplar")
    assert len(list(task.head.parameters())) == 2
    batch = task.sample(scans, rng)
    assert batch["views"].shape == (4, 1, 32, 32, 32)
    loss, metrics = task.loss(batch)
    assert -4 <= float(metrics["margin"]) <= 4 and float(loss.detach()) >= 0
    # The same views twice: the negative is another cube, the positive the very same one.
    views = batch["views"][:2]
    loss, metrics = task.loss({"views": torch.cat([views, views])})
    codes = torch.nn.functional.normalize(task.head(task.encoder(views)), dim=1)
    apart = float((codes[0] - codes[1]).square().sum().detach())
    assert float(metrics["margin"]) == pytest.approx(apart, abs=1e-5)
    assert float(loss) == pytest.approx(max(0.0, 1 - apart), abs=1e-5)


def test_a_single_cube_has_nothing_to_be_told_from():
    with pytest.raises(InputError, match="at least 2 cubes"):
        small("exemplar", batch_size=1)


def test_the_ten_rotations_are_distinct_and_begin_with_none():
    cube = torch.arange(27).reshape(3, 3, 3)
    turned = [quarter_turned(cube, which) for which in range(len(TURNS))]
    assert len(TURNS) == 10
    assert torch.equal(turned[0], cube)
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(turned, 2))


def test_the_rotations_are_by_90_180_and_270_degrees_about_each_axis_and_mirror_nothing():
    cube = torch.arange(27).reshape(3, 3, 3)
    for which, (axis, quarters) in enumerate(TURNS):
        again = cube
        for _ in range(4):
            again = quarter_turned(again, which)
        assert torch.equal(again, cube)
        # The line through the middle along the axis stays where it is.
        line = [1, 1, 1]
        line[axis] = slice(None)
        assert torch.equal(quarter_turned(cube, which)[tuple(line)], cube[tuple(line)])
        # A turn keeps the handedness of three corners seen from a fourth.
        grid = torch.stack(torch.meshgrid(*[torch.arange(3.0)] * 3, indexing="ij"))
        turned = torch.stack([quarter_turned(part, which) for part in grid])
        edges = turned[:, [2, 0, 0], [0, 2, 0], [0, 0, 2]] - turned[:, 0, 0, 0, None]
        assert float(torch.linalg.det(edges)) == pytest.approx(8.0)
        assert 0 <= quarters <= 3


def test_the_hundred_permutations_are_as_far_apart_as_can_be():
    permutations = distant_permutations(100)
    assert permutations.shape == (100, 27)
    assert permutations[0].tolist() == list(range(27))
    assert all(sorted(row) == list(range(27)) for row in permutations)
    distances = [int((a != b).sum()) for a, b in itertools.combinations(permutations, 2)]
    # 27 everywhere is possible for 27 permutations only: each of the 27 patches can come first once.
    assert set(distances) == {26, 27}
    assert {int((a != b).sum()) for a, b in itertools.combinations(permutations[:27], 2)} == {27}


def test_all_permutations_that_there_are_differ():
    permutations = distant_permutations(702)
    assert len({tuple(row) for row in permutations}) == 702
    assert all(sorted(row) == list(range(27)) for row in permutations)


# Shortcut guards


def test_patches_of_a_grid_never_touch_and_their_gaps_vary(rng):
    scans = ScanBatch([scan_of(np.zeros((80, 80, 80)))])
    places = np.concatenate([drawn_grids(scans, np.array([0]), 3, 16, 3, rng) for _ in range(50)])
    grids = places.reshape(-1, 3, 3, 3, 3)
    for axis, of_index in ((1, 2), (2, 1), (3, 0)):
        gaps = np.diff(grids[..., of_index], axis=axis) - 16
        assert gaps.min() >= 1 and gaps.max() <= 7
        assert gaps.max() - gaps.min() > 3


def test_a_grid_runs_through_k_then_j_then_i():
    offsets = grid_offsets(3, 10)
    assert offsets[13].tolist() == [0, 0, 0]
    assert offsets[0].tolist() == [-10, -10, -10]
    assert (offsets[1] - offsets[0]).tolist() == [10, 0, 0]
    assert (offsets[9] - offsets[0]).tolist() == [0, 0, 10]


def test_a_grid_stays_within_the_scan_where_it_fits(rng):
    scans = ScanBatch([scan_of(np.zeros((60, 40, 20)))])
    centres = np.concatenate([drawn_centres(scans, np.array([0]), 15.0, rng) for _ in range(200)])
    i, j, k = centres.T
    assert k.min() >= 15 and k.max() <= 44 and k.max() - k.min() > 20
    assert j.min() >= 15 and j.max() <= 24
    assert np.allclose(i, 9.5)  # too short: the middle


def test_patches_are_what_the_scan_shows_there(rng):
    values = rng.normal(size=(20, 21, 22))
    scans = ScanBatch([scan_of(np.zeros((4, 4, 4))), scan_of(values)])
    found = read_patches(scans, np.array([1]), np.array([[[6.5, 7.5, 8.5], [10.5, 11.5, 12.5]]]), 4)
    assert found.shape == (1, 2, 4, 4, 4)
    torch.testing.assert_close(found[0, 0], torch.as_tensor(values[7:11, 6:10, 5:9], dtype=torch.float32))
    torch.testing.assert_close(found[0, 1], torch.as_tensor(values[11:15, 10:14, 9:13], dtype=torch.float32))


@pytest.mark.parametrize("method", METHODS)
def test_a_patchs_contrast_tells_nothing_of_its_place(method, rng):
    # In a scan of one value all patches would be alike: each has been changed by itself.
    scans = ScanBatch([scan_of(np.full((70, 70, 70), 0.3))])
    batch = small(method).sample(scans, rng)
    cubes = next(t for t in batch.values() if t.ndim >= 5).flatten(0, -4)
    assert len({float(cube.mean()) for cube in cubes}) == len(cubes)


# What is drawn


def test_rpl_asks_for_each_of_the_26_neighbours(rng):
    values = np.zeros((70, 70, 70))
    # A cube far brighter than noise at each node of the grid, as bright as its number.
    for number, (i, j, k) in enumerate(grid_offsets(3, 17) + 34.5):
        values[int(k) - 8 : int(k) + 10, int(j) - 8 : int(j) + 10, int(i) - 8 : int(i) + 10] = 100 * number
    task = small("rpl", batch_size=64, jitter=0)
    task.changed = lambda cubes, rng: cubes
    scans = ScanBatch([scan_of(values)])
    scans.scans[0].body[:] = False
    scans.scans[0].body[34, 34, 34] = True
    batch = task.sample(scans, rng)
    assert batch["patches"].shape == (128, 1, 16, 16, 16)
    middle, other = batch["patches"].mean(dim=(1, 2, 3, 4)).chunk(2)
    assert np.allclose(middle, 1300, atol=60)
    expected = 100.0 * np.array(NEIGHBOURS)[batch["place"].numpy()]
    assert np.abs(other.numpy() - expected).max() < 60
    assert len(set(batch["place"].tolist())) > 18


def test_jigsaws_puzzles_are_the_codes_of_the_patches_in_another_order(scans, rng):
    task = small("jigsaw", batch_size=1, permutations=5, puzzles=3)
    batch = task.sample(scans, rng)
    assert batch["patches"].shape == (1, 27, 16, 16, 16) and batch["order"].shape == (1, 3)
    _, metrics = task.loss(batch)
    loss, _ = task.loss(batch)
    # By hand: permute the patches themselves.
    losses = []
    for order in batch["order"][0]:
        shown = batch["patches"][0][task.permutations[order]]
        codes = task.head["code"](task.encoder(shown[:, None])).reshape(1, -1)
        losses.append(torch.nn.functional.cross_entropy(task.head["order"](codes), order[None]))
    assert float(loss) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)
    assert 0 <= float(metrics["accuracy"]) <= 1


def test_the_context_of_a_place_is_the_pyramid_above_it():
    above = pyramid()
    assert above.shape == (16, 10)
    # Column (j, i) = (1, 2): its own patch of the second layer last, before it the 3 × 3 around it of the first.
    assert above[1 * 4 + 2].tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11, 16 + 6]
    # In a corner the places beyond the grid are mirrored into it.
    assert above[0].tolist() == [5, 4, 5, 1, 0, 1, 5, 4, 5, 16]
    assert int(above.max()) < 32


def test_cpc_never_sees_what_it_predicts(scans, rng):
    task = small("cpc", batch_size=1, code=8)
    batch = task.sample(scans, rng)
    assert batch["patches"].shape == (1, 64, 16, 16, 16)
    batch["patches"].requires_grad_()
    codes = task.head["code"](task.encoder(batch["patches"][0][:, None]))
    task.head["context"](codes[pyramid()])[1].sum().backward()
    seen = batch["patches"].grad[0].abs().sum(dim=(1, 2, 3)) > 0
    assert seen[:32].all() and not seen[32:].any()


def test_cpc_goes_from_the_top_down(rng):
    values = np.arange(80.0)[:, None, None] * np.ones((80, 80, 80))
    task = small("cpc", batch_size=1)
    task.changed = lambda cubes, rng: cubes
    height = task.sample(ScanBatch([scan_of(values)]), rng)["patches"][0].mean(dim=(1, 2, 3)).reshape(4, 16)
    assert (height.diff(dim=0) < -10).all()


def test_a_prediction_that_is_right_beyond_doubt_costs_nothing(scans, rng):
    task = small("cpc", batch_size=1, code=64)
    assert task.chance == 1 / 32
    with torch.no_grad():
        loss, metrics = task.loss(task.sample(scans, rng))
    assert float(loss) == pytest.approx(math.log(32), rel=0.5)
    assert 0 <= float(metrics["accuracy"]) <= 1
    codes = 30 * torch.eye(4)
    assert float(info_nce(codes, codes, torch.arange(4))) == pytest.approx(0, abs=1e-6)


# All of them


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["analysis", "dense"])
def test_every_task_trains_all_of_either_encoder(method, network, scans, rng):
    task = small(method, network=network)
    loss, metrics = task.loss(task.sample(scans, rng))
    loss.backward()
    assert set(metrics) == {task.control_metric}
    assert torch.isfinite(loss)
    for name, parameter in task.encoder.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert task.architecture == {"analysis": "AnalysisEncoder", "dense": "DenselyConnectedEncoder"}[network]
    assert task.settings()["network"] == network and task.settings()["features"] == 2


def test_the_networks_are_as_large_as_in_the_papers_unless_told_otherwise():
    assert make_task("rotation", MM, CT).architecture_settings() == {"inputs": 1, "features": 16, "levels": 4}
    dense = make_task("rotation", MM, CT, options={"network": "dense"}).architecture_settings()
    assert dense == {"inputs": 1, "growth": 16, "layers": [2, 2, 4, 8]}
    assert small("rpl", network="dense", levels=2, side=8).architecture_settings()["layers"] == [2, 2]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["analysis", "dense"])
def test_no_weight_of_an_encoder_is_left_untrained_by_patches_that_are_too_small_for_it(
    method, network, scans, rng
):
    task = small(method, network=network)
    loss, _ = task.loss(task.sample(scans, rng))
    loss.backward()
    for part in task.encoder.modules():
        if isinstance(part, torch.nn.Conv3d):
            assert (part.weight.grad.abs().amax(dim=(0, 1)) > 0).all()


def test_chance_is_what_guessing_gives():
    chances = {method: small(method).chance for method in METHODS}
    assert chances == {"cpc": 1 / 64, "rpl": 1 / 26, "jigsaw": 1 / 100, "rotation": 1 / 10, "exemplar": 0.0}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"network": "resnet50"}, "network 'resnet50': one of analysis, dense was expected for rpl"),
        ({"features": 0}, "features 0: 1 to 256 were expected"),
        ({"side": 20}, "side 20: a multiple of 8 voxels was expected"),
        ({"side": 16, "levels": 5}, "levels 5: 1 to 4 were expected"),
        ({"side": 0}, "side 0: a multiple of 8 voxels was expected"),
        ({"spacing": 0.0}, "spacing 0.0 mm: 0.05 to 50 were expected"),
        ({"jitter": -1}, "jitter -1: 0 to 64 voxels were expected"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        small("rpl", **options)


def test_jigsaw_and_cpc_refuse_numbers_that_make_no_task():
    with pytest.raises(InputError, match="permutations 1, puzzles 16"):
        small("jigsaw", permutations=1)
    with pytest.raises(InputError, match="code 0: 1 to 4096"):
        small("cpc", code=0)
    with pytest.raises(InputError, match=r"margin 0\.0"):
        small("exemplar", margin=0.0)


def test_a_batch_of_one_cube_has_no_middle_to_be_centred_on():
    with pytest.raises(InputError, match="batch size 1: at least 2 cubes were expected"):
        small("rotation", batch_size=1)


def test_a_puzzle_is_learned_at_once_when_codes_are_without_what_all_have_in_common():
    task = small("jigsaw", features=4, batch_size=1, permutations=30)
    scan = scan_of(blobs())
    optimiser = torch.optim.Adam(task.modules().parameters(), lr=1e-3)
    found = []
    for number in range(40):
        loss, metrics = task.loss(task.sample(ScanBatch([scan]), np.random.default_rng(number)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(metrics["accuracy"]))
    assert np.mean(found[-10:]) > 0.3


def test_a_spacing_is_in_millimetres_whatever_the_unit():
    assert small("rpl", spacing=3.0).preparation.step * MM.scale == pytest.approx(3.0)
    with pytest.raises(InputError, match="goes with an extent in mm only"):
        make_task("rpl", Extent("normalised", 1.0), CT, 2, {"spacing": 3.0, "features": 2})


@pytest.mark.parametrize("kind", [Cpc, PatchLocation, Jigsaw, Rotation, Exemplar])
def test_a_scan_smaller_than_a_patch_is_read_all_the_same(kind, rng):
    task = kind(MM, CT, 2, features=2)
    scans = ScanBatch([scan_of(rng.normal(size=(5, 1, 9)))])
    loss, _ = task.loss(task.sample(scans, rng))
    assert torch.isfinite(loss)


def blobs() -> np.ndarray:
    """Three blobs of different widths, off the middle: every place and direction can be told."""
    run = np.arange(64) - 31.5
    k, j, i = np.meshgrid(run, run, run, indexing="ij")
    centres = ((-14, 6, 0, 5), (6, -12, 8, 8), (10, 14, -14, 6))
    return 3 * sum(np.exp(-((k - a) ** 2 + (j - b) ** 2 + (i - c) ** 2) / (2 * w**2)) for a, b, c, w in centres)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, batch, above", [("rotation", 8, 0.5), ("rpl", 16, 0.2), ("jigsaw", 1, 0.2), ("cpc", 1, 0.1)]
)
def test_a_task_is_learned_beyond_chance(method, batch, above):
    task = small(method, features=4, batch_size=batch)
    scan = scan_of(blobs())
    scan.body[:] = False
    scan.body[28:36, 28:36, 28:36] = True
    scans = ScanBatch([scan])
    optimiser = torch.optim.Adam(task.modules().parameters(), lr=3e-4)
    found = []
    for number in range(120):
        loss, metrics = task.loss(task.sample(scans, np.random.default_rng(number)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(metrics[task.control_metric]))
    assert np.mean(found[-20:]) > above > 2 * task.chance
