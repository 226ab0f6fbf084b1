"""Alignment: matches, the affine map they agree on, the displacements, and the labels that are carried."""

import warnings

import numpy as np
import pytest
import torch
from command_line import dice
from scipy import ndimage
from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.imaging import SupportSet
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.segmentation import alignment, deformable
from SSLFewShotLib.segmentation.aligned import AlignedSegmenter
from SSLFewShotLib.segmentation.alignment import AlignmentSettings, DescribedScan, aligned
from SSLFewShotLib.segmentation.deformable import convex_search, descended
from SSLFewShotLib.segmentation.matching import mutual_matches, robust_affine
from SSLFewShotLib.segmentation.structure import fine_structure
from torch.nn import functional as F

SIZE = (40, 32, 36)


@pytest.fixture(scope="module")
def descriptor() -> DenseDescriptor:
    torch.manual_seed(0)
    return DenseDescriptor(UNet3d(1, 8, 16, 3), Extent("mm", 300.0), Intensity("window", -500.0, 1000.0), "small")


@pytest.fixture(scope="module")
def fitted(descriptor) -> AlignedSegmenter:
    return AlignedSegmenter(descriptor).fit(SupportSet([phantom(0, "CT", SIZE)]))


def test_matches_are_each_others_nearest():
    first = np.array([[0.0, 0], [1, 0], [5, 5]], np.float32)
    second = np.array([[0.9, 0], [5, 5.2], [5, 4.9]], np.float32)
    assert mutual_matches(first, second).tolist() == [[1, 0], [2, 2]]


def test_an_affine_map_is_found_though_every_third_match_is_wrong(rng):
    sources = rng.uniform(-100, 100, (300, 3))
    matrix = np.eye(4)
    matrix[:3, :3] += rng.normal(0, 0.1, (3, 3))
    matrix[:3, 3] = 20, -10, 30
    targets = sources @ matrix[:3, :3].T + matrix[:3, 3] + rng.normal(0, 1, (300, 3))
    targets[::3] = rng.uniform(-100, 100, (100, 3))
    found, agreement = robust_affine(sources, targets, np.eye(4), stiffness=0.0)
    corners = np.array([[x, y, z, 1] for x in (-100, 100) for y in (-100, 100) for z in (-100, 100)])
    assert np.abs((corners @ (found - matrix).T)[:, :3]).max() < 1.5
    assert 0.6 < agreement < 0.75


def test_a_stiff_map_only_moves(rng):
    sources = rng.uniform(-100, 100, (100, 3))
    found, _ = robust_affine(sources, sources * 1.2 + 15, np.eye(4), stiffness=1e6)
    assert np.allclose(found[:3, :3], np.eye(3), atol=1e-3)
    assert np.allclose(found[:3, 3], 15, atol=6)


def test_of_a_scan_of_any_length_no_more_than_40_000_places_are_matched():
    for planes in (45, 450):
        body = torch.ones(planes, 90, 90, dtype=torch.bool)
        scan = PreparedScan(body.float(), body, np.zeros(3), np.full(3, 4.0), np.full(3, 120.0))
        described = DescribedScan.of(scan, np.ones((1, *body.shape), np.float32))
        assert len(described.places) == min(planes * 90 * 90 // 27, 40_000) == len(described.vectors)
        assert described.places[:, 2].max() > 0.9 * 4 * planes
        assert np.allclose(described.box, [[0, 0, 0], [356, 356, 4 * planes - 4]])


def test_few_matches_leave_the_start_as_it_is():
    start = np.diag([1.1, 0.9, 1.0, 1.0])
    found, agreement = robust_affine(np.zeros((5, 3)), np.ones((5, 3)), start)
    assert np.array_equal(found, start) and agreement == 0.0


def smooth_field(rng: np.random.Generator, size: tuple[int, int, int] = (16, 18, 20)) -> torch.Tensor:
    noise = torch.as_tensor(rng.normal(size=(8, *size)), dtype=torch.float32)
    return F.normalize(F.avg_pool3d(noise, 3, 1, 1), dim=0)


def test_the_search_finds_a_shift_within_its_reach(rng):
    moving = smooth_field(rng)
    fixed = torch.roll(moving, (-2, 1, 0), (1, 2, 3))
    found = convex_search(fixed, moving, torch.ones(16, 18, 20), reach=3)
    inner = found[:, 5:-5, 5:-5, 5:-5]
    assert torch.allclose(inner.mean(dim=(1, 2, 3)), torch.tensor([2.0, -1.0, 0.0]), atol=0.15)


def test_the_descent_refines_to_parts_of_a_voxel(rng):
    moving = smooth_field(rng)
    fixed = F.normalize((moving + torch.roll(moving, -1, 3)) / 2, dim=0)  # half a voxel along i
    weight = torch.ones(16, 18, 20)
    found = descended(fixed, moving, weight, torch.zeros(3, 16, 18, 20), iterations=80, stiffness=0.1)
    inner = found[:, 4:-4, 4:-4, 4:-4].mean(dim=(1, 2, 3))
    assert torch.allclose(inner, torch.tensor([0.0, 0.0, 0.5]), atol=0.15)


def test_the_marked_scan_itself_gets_its_labels_back(fitted):
    volume, labels = phantom(0, "CT", SIZE)
    found, confidence = fitted.predict(volume)
    assert [s.name for s in found.segments] == [s.name for s in labels.segments]
    assert np.mean([dice(found.mask(s.name), labels.mask(s.name)) for s in labels.segments]) > 0.9
    assert (
        confidence.array.shape == volume.array.shape and 0 <= confidence.array.min() <= confidence.array.max() <= 1
    )


def test_overlapping_segments_and_several_supports_go_through(descriptor):
    pairs = [phantom(seed, "CT", SIZE) for seed in (0, 1)]
    segmenter = AlignedSegmenter(descriptor, steps=5).fit(SupportSet(pairs))
    found, _ = segmenter.predict(pairs[0][0])
    assert dice(found.mask("Liver"), pairs[0][1].mask("Liver")) > 0.6


def test_the_same_seed_gives_the_same_labels(fitted):
    volume, _ = phantom(1, "CT", SIZE)
    assert np.array_equal(fitted.predict(volume)[0].array, fitted.predict(volume)[0].array)


@pytest.mark.slow
def test_every_stage_can_be_cancelled(fitted):
    volume, _ = phantom(1, "CT", SIZE)
    said: list[str] = []
    fitted.predict(volume)  # what describes it is kept: the same stages come again and again from here on
    fitted.predict(volume, lambda fraction, message: said.append(message))
    assert {"matching places", "aligning the support"} <= set(said)
    for stage in dict.fromkeys(said):

        def stop(fraction: float, message: str, stage: str = stage) -> None:
            if message == stage:
                raise Cancelled

        with pytest.raises(Cancelled):
            fitted.predict(volume, stop)


@pytest.mark.parametrize(
    "settings",
    [
        {"vote": 1.5},
        {"vote": 0.6, "local": 0.5},
        {"volume": 2.0},
        {"reach": 0},
        {"steps": -1},
        {"stiffness": float("nan")},
        {"structure": 1.0},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, descriptor):
    with pytest.raises(InputError):
        AlignedSegmenter(descriptor, **settings)


def test_what_a_report_says_of_it_is_complete(descriptor):
    said = AlignedSegmenter(descriptor, vote=0.3).provenance()
    assert said["method"] == "aligned" and said["descriptor"]["name"] == "small"
    assert said["settings"]["vote"] == 0.3 and said["settings"]["reach"] == AlignmentSettings().reach


def test_a_scan_that_shows_something_else_is_said_to_be_unlike(fitted, rng):
    volume, _ = phantom(0, "CT", SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        fitted.predict(volume)
    other = volume.with_array(rng.permutation(volume.array.ravel()).reshape(volume.array.shape))
    with pytest.warns(InputWarning, match=f"{volume.name}: hardly resembles what is marked"):
        fitted.predict(other)


def test_smoothing_by_matrices_is_pooling_within_the_border(rng):
    maps = torch.from_numpy(rng.normal(size=(3, 5, 6, 7)).astype(np.float32))
    pooled = maps[None]
    for _ in range(2):
        pooled = F.avg_pool3d(pooled, 3, 1, 1, count_include_pad=False)
    smooth = deformable._along_axes(maps, deformable._smoothing((5, 6, 7)))
    torch.testing.assert_close(smooth, pooled[0], atol=1e-6, rtol=0)


def test_halving_is_pooling_that_leaves_nothing_out(rng):
    maps = torch.from_numpy(rng.normal(size=(3, 5, 6, 7)).astype(np.float32))
    pooled = F.avg_pool3d(maps[None], 2, ceil_mode=True)[0]
    torch.testing.assert_close(alignment._halved(maps), pooled, atol=1e-6, rtol=0)


def test_the_descent_looks_up_what_torch_does_with_the_same_gradient(monkeypatch, rng):
    monkeypatch.setattr(deformable, "_PLACES_AT_ONCE", 16)
    maps = torch.from_numpy(rng.normal(size=(4, 5, 6, 1)).astype(np.float32))
    table = maps.movedim(0, -1).reshape(-1, 4)
    given = rng.uniform([-1, -1, -0.5], [5, 6, 0.5], (50, 3)).astype(np.float32)
    upstream = torch.from_numpy(rng.normal(size=(50, 4)).astype(np.float32))
    outcomes = []
    for look_up in (
        lambda places: deformable._Interpolated.apply(table, *deformable._corners(places, (5, 6, 1))),
        lambda places: deformable._at(maps[None], places / torch.tensor([4, 5, 1])),
    ):
        places = torch.from_numpy(given).requires_grad_()
        found = look_up(places)
        found.backward(upstream)
        outcomes.append((found.detach(), places.grad))
    torch.testing.assert_close(*outcomes, atol=1e-5, rtol=0)


def test_the_search_finds_the_same_in_whatever_slabs(monkeypatch, rng):
    fixed, moving = smooth_field(rng), smooth_field(rng)
    found = []
    for products in (1, 5000, 10**9):
        monkeypatch.setattr(deformable, "_PRODUCTS_AT_ONCE", products)
        found.append(convex_search(fixed, moving, torch.ones(16, 18, 20), reach=1))
    torch.testing.assert_close(found[0], found[2], atol=0, rtol=0)
    torch.testing.assert_close(found[1], found[2], atol=0, rtol=0)


def prepared(values: np.ndarray) -> PreparedScan:
    voxels = torch.from_numpy(values.astype(np.float32))
    return PreparedScan(
        voxels, torch.ones(voxels.shape, dtype=torch.bool), np.zeros(3), np.full(3, 4.0), np.full(3, 120.0)
    )


def test_the_fine_structure_does_not_see_units_and_is_about_as_long_as_a_vector(rng):
    values = ndimage.gaussian_filter(rng.normal(size=(20, 24, 28)), 1.5)
    structure = fine_structure(prepared(values))
    assert structure.shape == (12, 20, 24, 28)
    torch.testing.assert_close(fine_structure(prepared(5 + 300 * values)), structure, atol=2e-3, rtol=0)
    assert 0.7 < float(structure.norm(dim=0).mean()) < 1.3


def test_what_vectors_do_not_tell_the_fine_structure_does(rng):
    """Every place has the same vector; what the scan shows lies one voxel less far along k in the support."""
    values = ndimage.gaussian_filter(rng.normal(size=(28, 28, 28)), 1.5)
    field = np.zeros((4, *values.shape), np.float32)
    field[0] = 1
    scans = [prepared(values), prepared(np.roll(values, -1, axis=0))]
    target, support = (DescribedScan.of(scan, field, fine_structure(scan)) for scan in scans)
    for share, right in ((0.5, True), (0.0, False)):
        found = aligned(target, support, AlignmentSettings(structure=share), np.array([[0.0] * 3, [108.0] * 3]))
        inside = found.displacement[0, 6:-6, 6:-6, 6:-6]
        place = found.affine[2, 3] / 4 + inside  # the affine map may hold a part of it
        assert (abs(float(np.median(place)) + 1) < 0.2) == right
        assert float(found.fit.mean()) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("scale", "counts"), [(300.0, True), (60.0, False)])
def test_on_a_fine_grid_the_structure_does_not_count(scale, counts):
    volume, labels = phantom(0, "CT", (20, 16, 18))
    small = DenseDescriptor(UNet3d(1, 4, 8, 2), Extent("mm", scale), Intensity("window", -500.0, 1000.0), "small")
    segmenter = AlignedSegmenter(small, vote=0.0).fit(SupportSet([(volume, labels)]))
    assert (segmenter.supports_[0].structure is not None) == counts


def test_the_best_displacement_is_that_of_the_coupled_sum(monkeypatch):
    """Equation 4 of ConvexAdam, voxel by voxel and shift by shift."""
    monkeypatch.setattr(deformable, "_VOXELS_AT_ONCE", 7)
    generator = torch.Generator().manual_seed(0)
    shifts = torch.cartesian_prod(*[torch.arange(-1.0, 2)] * 3)
    cost = torch.rand(27, 20, generator=generator)
    smooth = torch.rand(3, 20, generator=generator) * 2 - 1
    for coupling in (0.003, 0.3, 1.0):
        total = cost + coupling * ((shifts[:, :, None] - smooth) ** 2).sum(dim=1)
        found = deformable._best_shift(cost, shifts, smooth, coupling)
        assert torch.equal(found, total.min(dim=0).indices)
