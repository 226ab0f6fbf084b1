"""What fine-tuning learns from: soft labels, patches balanced over segments, blocks held out, nothing mirrored."""

import collections

import numpy as np
import pytest
import torch
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging import LabelMap, Volume
from SSLFewShotLib.imaging.labelmap import Segment
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import Preparation
from SSLFewShotLib.sampling.views import Deformation, View
from SSLFewShotLib.tuning.centres import PatchCentres, held_out_centres, hold_out
from SSLFewShotLib.tuning.labelled import LabelledScan, LabelledScans
from SSLFewShotLib.tuning.start import make_start
from SSLFewShotLib.tuning.task import FineTuning, TuningSettings
from tuning_samples import SPACING, begun, blocks

PREPARATION = Preparation(Extent("mm", 30 * SPACING), Intensity("window", -500.0, 1000.0), 1 / 30)
STILL = Deformation(rotation=0, scale=1, shear=0, elastic=0)


def prepared(volume: Volume, labels: LabelMap, weights=None, segments=None) -> LabelledScan:
    return LabelledScan.prepared((volume, labels, weights), segments or labels.segments, PREPARATION)


def whole(labelled: LabelledScan, segments: int = 2, held_out: bool = False):
    """What a view of the whole prepared scan shows."""
    shape = tuple(labelled.scan.values.shape)
    centre = (np.array(shape[::-1]) - 1) / 2
    return labelled.read(View.drawn(shape, centre, STILL, np.random.default_rng(0)), segments, held_out)


def test_labels_at_the_scans_own_spacing_are_the_labels():
    volume, labels = blocks()
    values, truth, weights = whole(prepared(volume, labels))
    for number, name in enumerate(("RightBlock", "LeftBlock")):
        assert np.array_equal(truth[number].numpy() > 0.5, labels.mask(name))
        assert set(np.unique(truth[number].numpy().round(3))) == {0.0, 1.0}
    assert torch.equal(weights, torch.ones_like(weights)) and values.shape == truth.shape[1:]


def test_labels_of_a_finer_oblique_grid_come_to_the_same_place():
    fine, labels = blocks(3, side=40)
    turned = fine.ijkToLps.copy()
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turned[:3, :3] = turn @ turned[:3, :3] / 2.5
    volume = Volume(fine.array, turned, "turned", "CT")
    there = LabelMap(labels.array, turned, "turned", segments=labels.segments)
    labelled = prepared(volume, there)
    _, truth, _ = whole(labelled)
    for number, segment in enumerate(labels.segments):
        voxels = np.argwhere(truth[number].numpy() > 0.5)[:, ::-1]
        found = voxels.mean(axis=0) * labelled.scan.spacing + labelled.scan.origin
        wanted = volume.points_from_indices(np.argwhere(there.mask(segment))[:, ::-1]).mean(axis=0)
        assert np.abs(found - wanted).max() < SPACING / 2
        volume_mm3 = float(truth[number].sum()) * SPACING**3
        assert volume_mm3 == pytest.approx(there.mask(segment).sum() * volume.voxel_volume, rel=0.15)


def test_a_structure_thinner_than_a_voxel_of_the_network_does_not_vanish():
    array = np.zeros((40, 40, 40), np.uint8)
    array[8:32, 20, 20] = 1
    volume = Volume.from_spacing(np.full(array.shape, 40, np.int16), (2.0,) * 3, modality="CT")
    labels = LabelMap(array, volume.ijkToLps, "thin", segments=[Segment(1, "Nerve")])
    with pytest.warns(InputWarning, match="Nerve is marked in 24 voxels only"):
        labelled = prepared(volume, labels)
    assert len(labelled.masks[0].inside()) >= 1


def test_a_segment_of_a_handful_of_voxels_is_named():
    volume, labels = blocks()
    labels.array[labels.array == 2] = 0
    labels.array[10, 10, 3:8] = 2
    with pytest.warns(InputWarning, match="blocks_0: LeftBlock is marked in 5 voxels only; hardly anything"):
        prepared(volume, labels)


def test_slices_far_apart_are_told():
    volume, labels = blocks()
    thick = np.diag([10.0, 10.0, 45.0, 1.0])
    with pytest.warns(InputWarning, match="slices lie 45 mm apart, the network looks at voxels of 10 mm"):
        prepared(
            Volume(volume.array, thick, "thick", "CT"),
            LabelMap(labels.array, thick, "t", segments=labels.segments),
        )


def test_a_scan_in_which_nothing_is_marked_is_refused():
    volume, labels = blocks()
    labels.array[:] = 0
    with pytest.raises(InputError, match="blocks_0_labels: nothing is marked"):
        prepared(volume, labels)


@pytest.mark.parametrize("wrong", [np.ones((3, 3, 3)), np.full((20, 20, 20), 2.0), np.full((20, 20, 20), np.nan)])
def test_weights_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(InputError, match="blocks_0: weights"):
        prepared(*blocks(), weights=wrong)


def test_weights_come_along_and_nothing_outside_of_the_scan_counts():
    volume, labels = blocks()
    weights = np.ones(volume.array.shape, np.float32)
    weights[:10] = 0
    labelled = prepared(volume, labels, weights)
    _, _, seen = whole(labelled)
    assert seen[:10].max() == 0 and seen[10:].min() == 1
    beyond = View.drawn((8, 8, 8), np.array([-20.0, 5.0, 5.0]), STILL, np.random.default_rng(0))
    assert labelled.read(beyond, 2)[2].max() == 0


def unequal() -> LabelledScan:
    """One segment of 1,200 voxels and one of 8, the first in the lower half."""
    volume, labels = blocks()
    labels.array[:] = 0
    labels.array[4:10, 5:15, 0:20] = 1
    labels.array[14:16, 14:16, 14:16] = 2
    with pytest.warns(InputWarning):
        return prepared(volume, labels)


def test_small_segments_get_as_many_patches_as_large_ones():
    centres = PatchCentres([unequal()], 2, foreground=2 / 3)
    rng = np.random.default_rng(0)
    drawn = collections.Counter(centres.draw(rng)[2] for _ in range(6000))
    # Of 6,000, a third each; the standard deviation of each count is 37.
    assert all(abs(drawn[kind] - 2000) < 150 for kind in (0, 1, None)), drawn


def test_scans_share_a_segments_patches_and_a_scan_without_it_gets_none_of_them():
    first, second = prepared(*blocks(0)), prepared(*blocks(1))
    del second.masks[0]
    centres = PatchCentres([first, second], 2, foreground=1.0)
    rng = np.random.default_rng(0)
    drawn = collections.Counter(
        (number, segment) for number, _, segment in (centres.draw(rng) for _ in range(4000))
    )
    assert drawn[1, 0] == 0
    assert abs(drawn[0, 0] - 2000) < 160 and all(abs(drawn[n, 1] - 1000) < 140 for n in (0, 1)), drawn


def test_a_centre_lies_on_its_segment_and_never_where_labels_count_for_nothing():
    volume, labels = blocks()
    weights = np.ones(volume.array.shape, np.float32)
    weights[:, :, :5] = 0
    labelled = prepared(volume, labels, weights)
    centres = PatchCentres([labelled], 2, foreground=1.0)
    rng = np.random.default_rng(0)
    for _ in range(300):
        _, (i, j, k), segment = centres.draw(rng)
        assert labels.array[int(k), int(j), int(i)] == segment + 1 and weights[int(k), int(j), int(i)] > 0


def test_held_out_blocks_are_a_tenth_of_each_segment_or_so_and_are_not_learned_from():
    scans = [prepared(*blocks(seed, side=40)) for seed in (0, 1)]
    for labelled in scans:
        labelled.masks[0].filled[:] = 255  # a large one
    hold_out(scans, 0.1, seed=0)
    for labelled in scans:
        held = labelled.held_out.numpy()
        k, j, i = labelled.masks[0].inside().T
        inside = (np.stack([k, j, i]) >= 0).all(axis=0)
        share = held[k[inside], j[inside], i[inside]].mean()
        assert 0.05 <= share <= 0.25
        _, _, learned = whole(labelled)
        _, _, checked = whole(labelled, held_out=True)
        assert torch.equal(learned > 0, ~labelled.held_out) and torch.equal(checked > 0, labelled.held_out)


def test_of_a_small_segment_nothing_is_held_out():
    labelled = unequal()
    hold_out([labelled], 0.2, seed=0)
    assert not labelled.held_out[14:16, 14:16, 14:16].all()
    assert len(PatchCentres([labelled], 2, 1.0)._voxels[1][0][1]) >= 6


def test_holding_nothing_out_leaves_all_to_learn_from():
    labelled = prepared(*blocks())
    hold_out([labelled], 0.0, seed=0)
    assert labelled.held_out is None and held_out_centres([labelled], (16, 16, 16), 12) == []


def test_the_patches_that_are_looked_at_show_what_is_held_out():
    scans = [prepared(*blocks(seed)) for seed in range(2)]
    hold_out(scans, 0.2, seed=1)
    found = held_out_centres(scans, (16, 16, 16), 12)
    seen = [torch.zeros_like(labelled.held_out) for labelled in scans]
    for number, centre in found:
        low = np.maximum(np.round(centre[::-1] - 8).astype(int), 0)
        seen[number][tuple(slice(a, a + 16) for a in low)] = True
    for labelled, shown in zip(scans, seen, strict=True):
        assert (labelled.held_out & shown).sum() >= 0.9 * labelled.held_out.sum()
    assert len(held_out_centres(scans, (7, 7, 7), 2)) == 2


def test_no_patch_is_ever_mirrored(tmp_path, monkeypatch):
    labelled = prepared(*blocks())
    pool = LabelledScans([labelled], 2)
    start = make_start(begun(tmp_path / "small-ct"), 2, blocks()[0])
    task = FineTuning(start, pool, TuningSettings())
    drawn = []
    plain = View.drawn.__func__

    def noting(cls, *arguments):
        drawn.append(plain(cls, *arguments))
        return drawn[-1]

    monkeypatch.setattr(View, "drawn", classmethod(noting))
    for iteration in range(60):
        task.sample(pool, np.random.default_rng([0, iteration]))
    assert len(drawn) == 120
    assert all(torch.linalg.det(view.linear) > 0 and view.linear[0, 0] > 0 for view in drawn)


def test_left_stays_left_in_every_patch(tmp_path):
    """The dark block lies at higher i, the patient's left, in each patch that shows both."""
    labelled = prepared(*blocks())
    pool = LabelledScans([labelled], 2)
    task = FineTuning(make_start(begun(tmp_path / "small-ct"), 2, blocks()[0]), pool, TuningSettings())
    seen = 0
    for iteration in range(40):
        truth = task.sample(pool, np.random.default_rng(iteration))["truth"]
        for right, left in truth:
            if right.sum() > 20 and left.sum() > 20:
                middles = [
                    float((part.sum(dim=(0, 1)) * torch.arange(part.shape[2])).sum() / part.sum())
                    for part in (right, left)
                ]
                assert middles[0] < middles[1]
                seen += 1
    assert seen > 10
