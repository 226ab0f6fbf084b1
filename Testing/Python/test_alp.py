"""The ALP module: every formula on a case worked out by hand."""

import math

import pytest
import torch
from SSLFewShotLib.networks.alp import (
    Prototypes,
    dice_loss,
    foreground_logits,
    fused,
    masked_mean,
    predicted,
    prototypes_of,
    similarity,
    window_means,
)

EVERYWHERE = torch.ones(1, 1, 4, dtype=torch.bool)


def line(*values: float) -> torch.Tensor:
    """(1, 1, 1, N): one channel along a line of voxels."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def test_a_windows_prototype_is_the_mean_over_it():
    assert window_means(line(1, 3, 5, 9), (1, 1, 2)).flatten().tolist() == [2.0, 7.0]


def test_the_last_window_is_as_small_as_what_is_left():
    assert window_means(line(1, 3, 5), (1, 1, 2)).flatten().tolist() == [2.0, 5.0]


def test_a_window_larger_than_the_maps_is_cut_to_them():
    assert window_means(line(1, 3, 5), (6, 16, 16)).flatten().tolist() == [3.0]


def test_the_class_prototype_is_the_mean_under_the_mask():
    maps = torch.cat([line(1, 3, 5, 9), line(0, 2, 4, 8)])
    mask = torch.tensor([0.0, 1.0, 0.5, 0.0]).reshape(1, 1, 4)
    expected = [(3 + 0.5 * 5) / 1.5, (2 + 0.5 * 4) / 1.5]
    assert masked_mean(maps, mask).tolist() == pytest.approx(expected)


def test_similarity_is_twenty_times_the_cosine():
    queries, prototypes = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [-6.0, -8.0]])
    assert similarity(queries, prototypes)[0].tolist() == pytest.approx([12.0, -20.0])


def test_prototypes_are_fused_by_the_softmax_of_their_own_similarities():
    said = torch.tensor([[2.0, 1.0, -5.0]])
    members = torch.tensor([[True, False], [True, False], [False, True]])
    weight = math.e**2 / (math.e**2 + math.e)
    expected = [2 * weight + 1 * (1 - weight), -5.0]
    assert fused(said, members)[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_fusing_holds_for_similarities_as_far_apart_as_they_can_be():
    said = torch.tensor([[20.0, -20.0]])
    members = torch.tensor([[True, False, False], [False, True, False]])
    assert fused(said, members)[0].tolist() == pytest.approx([20.0, -20.0, -20.0], rel=1e-5)


def test_beta_of_a_half_is_the_softmax_over_both_scores_and_more_favours_the_foreground():
    fore, back = torch.tensor([3.0]), torch.tensor([2.0])
    softmax = math.exp(3) / (math.exp(3) + math.exp(2))
    assert float(torch.sigmoid(foreground_logits(fore, back))) == pytest.approx(softmax)
    assert float(foreground_logits(fore, back, 0.6)) == pytest.approx(2 * (0.6 * 3 - 0.4 * 2))


def test_the_dice_loss_is_that_of_the_paper():
    found, truth = torch.tensor([[0.5], [1.0], [0.0]]), torch.tensor([[1.0], [1.0], [0.0]])
    assert float(dice_loss(found, truth)) == pytest.approx(1 - (2 * 1.5 + 1) / (1.5 + 2 + 1))


def test_a_row_that_stands_for_several_voxels_counts_as_often_in_the_dice_loss():
    found, truth = torch.tensor([[0.5], [1.0], [0.2]]), torch.tensor([[1.0], [1.0], [0.0]])
    repeated = [torch.cat([part, part[2:], part[2:]]) for part in (found, truth)]
    weighted = dice_loss(found, truth, torch.tensor([1.0, 1.0, 3.0]))
    assert float(weighted) == pytest.approx(float(dice_loss(*repeated)))


def test_windows_that_a_class_fills_are_its_local_prototypes_beside_its_class_prototype():
    maps, mask = torch.cat([line(1, 3, 5, 9), line(1, 1, 1, 1)]), torch.tensor([1.0, 1, 0, 0]).reshape(1, 1, 1, 4)
    found = prototypes_of(maps, mask, EVERYWHERE, (1, 1, 2))
    assert found.vectors.tolist() == [[2.0, 1.0], [7.0, 1.0], [2.0, 1.0]]
    assert found.foreground[:, 0].tolist() == [True, False, True]
    assert found.background[:, 0].tolist() == [False, True, False]
    assert found.places[:, 2].tolist() == [0.5, 2.5, 0.5] and found.local.tolist() == [True]


@pytest.mark.parametrize("share, local, background", [(0.95, True, 1), (0.9, False, 1), (0.04, False, 2)])
def test_a_window_belongs_to_a_class_from_95_percent_on_and_to_none_in_between(share, local, background):
    maps, mask = line(1, 1, 2, 2), torch.tensor([share, share, 0, 0]).reshape(1, 1, 1, 4)
    found = prototypes_of(maps, mask, EVERYWHERE, (1, 1, 2))
    assert bool(found.local[0]) is local and int(found.background.sum()) == background
    assert int(found.foreground.sum()) == 1 + local


def test_a_structure_thinner_than_a_window_has_its_class_prototype_alone():
    maps, mask = line(1, 3, 5, 9), torch.tensor([0.0, 1, 0, 0]).reshape(1, 1, 1, 4)
    found = prototypes_of(maps, mask, EVERYWHERE, (1, 1, 2))
    assert found.vectors[found.foreground[:, 0]].tolist() == [[3.0]] and not found.local[0]


def test_background_without_a_window_of_its_own_is_the_mean_of_the_rest_of_the_body():
    maps, mask = line(1, 3, 5, 9), torch.tensor([1.0, 1, 1, 0]).reshape(1, 1, 1, 4)
    found = prototypes_of(maps, mask, EVERYWHERE, (1, 1, 4))
    assert found.vectors[found.background[:, 0]].tolist() == [[9.0]]


def test_what_lies_outside_the_body_is_no_background():
    maps, mask = line(1, 3, 5, 9), torch.tensor([1.0, 1, 0, 0]).reshape(1, 1, 1, 4)
    found = prototypes_of(maps, mask, torch.tensor([1, 1, 0, 0]).bool().reshape(1, 1, 4), (1, 1, 2))
    assert not found.background.any()


def test_the_windows_of_the_background_can_be_larger_than_those_of_the_foreground():
    maps = line(1, 3, 5, 9, 2, 4, 6, 8)
    mask = torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0]).reshape(1, 1, 1, 8)
    body = torch.ones(1, 1, 8, dtype=torch.bool)
    found = prototypes_of(maps, mask, body, (1, 1, 2), background_window=(1, 1, 4))
    assert found.vectors[found.foreground[:, 0]].flatten().tolist() == [2.0, 2.0]
    assert found.vectors[found.background[:, 0]].flatten().tolist() == [5.0]


def test_each_of_several_classes_is_told_from_all_the_rest():
    maps = torch.cat([line(1, 0, 0, 0), line(0, 1, 0, 0), line(0, 0, 1, 1)])
    masks = torch.eye(4)[:2].reshape(2, 1, 1, 4)
    found = prototypes_of(maps, masks, EVERYWHERE, (1, 1, 1))
    logits = predicted(maps.flatten(1).T, found)
    # At its own place: 20 for the class; for the rest, three prototypes at cosine 0.
    assert logits[0].tolist() == pytest.approx([20.0, 0.0 - 20.0], abs=1e-3)
    assert logits[1].tolist() == pytest.approx([-20.0, 20.0], abs=1e-3)
    assert (logits[2:] < -19).all()


def test_queries_are_compared_alike_however_many_at_once():
    torch.manual_seed(0)
    queries, vectors = torch.randn(10, 4), torch.randn(6, 4)
    members = torch.tensor([[True], [False]] * 3)
    prototypes = Prototypes(vectors, members, ~members, torch.zeros(6, 3), torch.tensor([True]))
    together, apart = predicted(queries, prototypes), predicted(queries, prototypes, rows=3)
    assert torch.allclose(together, apart, atol=1e-5)
    assert predicted(queries[:0], prototypes).shape == (0, 1)
