"""Supervoxels: in the body, of a size in mm³, the same each time, kept on disk."""

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.pretext.supervoxel_picture import draw_supervoxels
from SSLFewShotLib.sampling import kept_supervoxels
from SSLFewShotLib.sampling.kept_supervoxels import KeptSupervoxels
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.supervoxels import GENERATORS, make_generator, neighbours_of


def a_scan(size=(24, 20, 22), spacing=(4.0, 4.0, 4.0), seed: int = 0) -> PreparedScan:
    """A ball of two halves, the left one brighter, in air."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij")
    body = sum(axis**2 for axis in axes) < 0.8
    values = np.where(body, np.where(axes[2] > 0, 0.5, 0.1), -1) + np.random.default_rng(seed).normal(
        0, 0.02, size
    )
    return PreparedScan(
        torch.from_numpy(values.astype(np.float32)),
        torch.from_numpy(body),
        np.zeros(3),
        np.array(spacing),
        np.full(3, 120.0),
    )


GENERATOR_NAMES = sorted(GENERATORS)


@pytest.mark.parametrize("name", GENERATOR_NAMES)
def test_supervoxels_cover_the_body_and_nothing_else(name):
    scan = a_scan()
    regions = make_generator(name, 8000.0)(scan)
    assert regions.shape == scan.body.shape and regions.dtype == np.int32
    assert np.array_equal(regions > 0, scan.body.numpy())
    assert np.array_equal(np.unique(regions), np.arange(regions.max() + 1))


def test_the_volume_of_a_slic_supervoxel_is_the_wanted_one_in_mm3():
    scan = a_scan()
    for volume in (4000.0, 16000.0):
        sizes = np.bincount(make_generator("slic", volume)(scan).ravel())[1:] * 64.0
        assert 0.6 * volume < sizes.mean() < 1.7 * volume


def test_twice_the_spacing_makes_eight_times_the_supervoxels():
    fine, coarse = (make_generator("slic", 16000.0)(a_scan(spacing=(mm,) * 3)).max() for mm in (4.0, 8.0))
    assert 5 < coarse / fine < 11


def test_supervoxels_are_as_long_in_mm_along_each_axis_on_thick_slices():
    # Twelve slices of 8 mm, as high as 24 of 4 mm.
    regions = make_generator("slic", 16000.0)(a_scan((12, 20, 22), (4.0, 4.0, 8.0)))
    sides = []
    for region in range(1, regions.max() + 1):
        k, _, i = np.nonzero(regions == region)
        sides.append((8.0 * (np.ptp(k) + 1), 4.0 * (np.ptp(i) + 1)))
    high, wide = np.mean(sides, axis=0)
    assert 0.6 < high / wide < 1.7


@pytest.mark.parametrize("name", GENERATOR_NAMES)
def test_supervoxels_keep_to_what_is_seen(name):
    scan = a_scan()
    regions = make_generator(name, 8000.0)(scan)
    bright = scan.values.numpy() > 0.3
    purity = [
        max(bright[regions == n].mean(), 1 - bright[regions == n].mean()) for n in range(1, regions.max() + 1)
    ]
    assert np.mean(purity) > 0.95


@pytest.mark.parametrize("name", GENERATOR_NAMES)
def test_the_same_scan_is_cut_the_same_way_each_time(name):
    assert np.array_equal(make_generator(name, 8000.0)(a_scan()), make_generator(name, 8000.0)(a_scan()))


@pytest.mark.parametrize("name", GENERATOR_NAMES)
def test_a_body_smaller_than_two_supervoxels_is_one(name):
    regions = make_generator(name, 1e8)(a_scan())
    assert np.array_equal(regions, a_scan().body.numpy())


def test_merging_makes_regions_that_differ_more_in_size_than_slics():
    spread = {}
    for name in GENERATOR_NAMES:
        sizes = np.bincount(make_generator(name, 4000.0)(a_scan()).ravel())[1:]
        spread[name] = sizes.std() / sizes.mean()
    assert spread["merged"] > spread["slic"]


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(InputError, match="'cubes': one of slic, merged was expected"):
        make_generator("cubes", 8000.0)
    with pytest.raises(InputError, match="a volume above 0 was expected"):
        make_generator("slic", 0.0)


def test_neighbours_share_a_face():
    regions = np.array([[[1, 2, 0], [3, 4, 0]]])
    assert neighbours_of(regions, 1).tolist() == [2, 3]
    assert neighbours_of(regions, 4).tolist() == [2, 3]
    assert neighbours_of(regions, 9).tolist() == []


def test_supervoxels_are_drawn_on_three_planes(tmp_path):
    scan = a_scan((12, 20, 22), (4.0, 4.0, 8.0))
    regions = make_generator("slic", 16000.0)(scan)
    draw_supervoxels(scan, regions, tmp_path / "supervoxels.png")
    with_edges = imread(tmp_path / "supervoxels.png")
    assert with_edges.shape[1] > 2 * with_edges.shape[0]
    draw_supervoxels(scan, (regions > 0).astype(np.int32), tmp_path / "one.png")
    red = [((i[..., 0] > 0.9) & (i[..., 2] < 0.3)).sum() for i in (with_edges, imread(tmp_path / "one.png"))]
    assert red[0] > 1.5 * red[1] > 0


# Kept on disk


class Counting:
    """A generator that counts how often it is asked."""

    def __init__(self):
        self.calls, self.generator = 0, make_generator("slic", 8000.0)

    def settings(self):
        return self.generator.settings()

    def __call__(self, scan):
        self.calls += 1
        return self.generator(scan)


def test_supervoxels_are_made_once_for_what_a_scan_holds(tmp_path):
    counting = Counting()
    first = KeptSupervoxels(counting, tmp_path)(a_scan())
    again = KeptSupervoxels(counting, tmp_path)(a_scan())
    assert counting.calls == 1 and np.array_equal(first, again)
    KeptSupervoxels(counting, tmp_path)(a_scan(seed=1))
    assert counting.calls == 2


def test_other_settings_and_spacings_are_kept_apart(tmp_path):
    slic, larger = (KeptSupervoxels(make_generator("slic", volume), tmp_path) for volume in (8000.0, 9000.0))
    merged = KeptSupervoxels(make_generator("merged", 8000.0), tmp_path)
    keys = [kept.key(a_scan()) for kept in (slic, larger, merged)] + [slic.key(a_scan(spacing=(4.0, 4.0, 3.0)))]
    assert len(set(keys)) == 4


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_made_again(tmp_path, content):
    counting = Counting()
    kept = KeptSupervoxels(counting, tmp_path)
    first = kept(a_scan())
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert np.array_equal(kept(a_scan()), first) and counting.calls == 2
    assert np.array_equal(kept(a_scan()), first) and counting.calls == 2


def test_a_folder_that_cannot_be_written_to_costs_time_only(tmp_path):
    (tmp_path / "file").touch()
    counting = Counting()
    kept = KeptSupervoxels(counting, tmp_path / "file" / "below")
    assert kept(a_scan()).any() and kept(a_scan()).any() and counting.calls == 2


def test_the_files_that_were_not_used_for_longest_make_room(tmp_path, monkeypatch):
    import os

    generator = make_generator("slic", 8000.0)
    kept = [KeptSupervoxels(generator, tmp_path, limit) for limit in (1 << 30, 1)]
    kept[0](a_scan())
    (old,) = tmp_path.iterdir()
    os.utime(old, (1, 1))
    kept[1].limit = old.stat().st_size + 500
    kept[1](a_scan(seed=1))
    assert not old.exists() and len(list(tmp_path.iterdir())) == 1


def test_the_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLFEWSHOT_SUPERVOXELS", str(tmp_path / "mine"))
    assert kept_supervoxels.default_supervoxel_folder() == tmp_path / "mine"
