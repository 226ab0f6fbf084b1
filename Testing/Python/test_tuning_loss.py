"""The losses of fine-tuning, on cases computed by hand."""

import itertools
import math

import pytest
import torch
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.tuning.loss import (
    bce_share,
    channels_of,
    dice_of_segments,
    probabilities_from,
    rarity,
    segmentation_loss,
)

ALL = torch.ones(1, 1, 1, 4)


def row(*values: float) -> torch.Tensor:
    """(1, 1, 1, 1, 4): one patch, one segment, four voxels."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, 1, 4)


def known(*flags: bool) -> torch.Tensor:
    return torch.tensor([flags])


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_the_share_of_bce_begins_at_the_papers_six_tenths_and_only_falls():
    shares = [bce_share(step / 10) for step in range(11)]
    assert shares[0] == 0.6 and shares[10] == pytest.approx(0.1) and shares[5] == pytest.approx(0.35)
    assert all(later < earlier for earlier, later in itertools.pairwise(shares))
    assert bce_share(1.2) == pytest.approx(0.1)


def test_dice_is_twice_the_overlap_over_the_squares_with_one_voxel_added():
    found, truth = row(0.5, 1.0, 0.0, 0.0), row(1.0, 1.0, 0.0, 0.0)
    # 2 (0.5 + 1) + 1 = 4 over (0.25 + 1) + (1 + 1) + 1 = 4.25
    assert dice_of_segments(found, truth, row(1, 1, 1, 1)).item() == pytest.approx(4 / 4.25)


@pytest.mark.parametrize("fraction, share", [(0.0, 0.6), (0.5, 0.35), (1.0, 0.1)])
def test_the_loss_is_bce_and_dice_by_their_shares(fraction, share):
    found, truth = (0.8, 0.8, 0.2, 0.4), (1.0, 0.0, 0.0, 1.0)
    bce = -(math.log(0.8) + math.log(0.2) + math.log(0.8) + math.log(0.4)) / 4
    dice = (2 * (0.8 + 0.4) + 1) / (2 * 0.64 + 0.04 + 0.16 + 2 + 1)
    loss, seen = segmentation_loss(row(*map(logit, found)), row(*truth), ALL, known(True), "bce-dice", fraction)
    assert loss.item() == pytest.approx(share * bce + (1 - share) * (1 - dice), rel=1e-5)
    assert seen.item() == pytest.approx(dice, rel=1e-5)


def test_voxels_of_no_weight_change_neither_loss_nor_gradient():
    logits = row(2.0, -1.0, 0.3, -0.2).requires_grad_()
    weights = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 4)
    losses = [
        segmentation_loss(logits, row(1, 0, *rest), weights, known(True), "bce-dice", 0.3)[0]
        for rest in ((0, 0), (1, 1), (1, 0))
    ]
    assert len({loss.item() for loss in losses}) == 1
    losses[0].backward()
    assert logits.grad.view(-1)[2:].abs().max() == 0 and logits.grad.view(-1)[:2].abs().min() > 0


def test_a_voxel_of_half_weight_counts_half_in_bce():
    weights = torch.tensor([1.0, 0.5, 0.0, 0.0]).view(1, 1, 1, 4)
    found = (0.9, 0.7, 0.5, 0.5)
    loss, _ = segmentation_loss(row(*map(logit, found)), row(1, 1, 0, 0), weights, known(True), "bce-dice", 0.0)
    bce = -(math.log(0.9) + 0.5 * math.log(0.7)) / 1.5
    dice = (2 * (0.9 + 0.35) + 1) / (0.81 + 0.5 * 0.49 + 1.5 + 1)
    assert loss.item() == pytest.approx(0.6 * bce + 0.4 * (1 - dice), rel=1e-5)


@pytest.mark.parametrize("loss", ["bce-dice", "dice-ce"])
def test_a_segment_that_a_scan_has_not_marked_is_not_taken_for_background(loss):
    channels = channels_of(loss, 2)
    logits = torch.zeros(1, channels, 1, 1, 4).requires_grad_()
    truth = torch.zeros(1, 2, 1, 1, 4)
    truth[0, 0, ..., :2] = 1
    total, _ = segmentation_loss(logits, truth, ALL, known(True, False), loss, 0.0)
    total.backward()
    unmarked = logits.grad[0, -1]
    if loss == "bce-dice":
        assert unmarked.abs().max() == 0
    else:
        # Where nothing is marked it may be there as well as background: both are pushed up alike.
        assert unmarked.flatten()[2:].tolist() == pytest.approx(logits.grad[0, 0].flatten()[2:].tolist())
        assert (unmarked.flatten()[2:] < 0).all()


def test_cross_entropy_is_that_of_background_and_segments():
    logits = torch.tensor([[1.0, 2.0, 0.5, 0.0], [0.0, 1.0, 3.0, 0.0]]).view(1, 2, 1, 1, 4)
    truth = row(0, 0, 1, 1)
    p = torch.softmax(logits, dim=1)
    entropy = -(p[0, 0, 0, 0, 0].log() + p[0, 0, 0, 0, 1].log() + p[0, 1, 0, 0, 2].log() + p[0, 1, 0, 0, 3].log())
    found = p[:, 1:]
    dice = (2 * (found * truth).sum() + 1) / ((found**2).sum() + 2 + 1)
    loss, _ = segmentation_loss(logits, truth, ALL, known(True), "dice-ce", 0.9)
    assert loss.item() == pytest.approx((entropy / 4 + 1 - dice).item(), rel=1e-5)
    assert torch.allclose(probabilities_from(logits, "dice-ce"), found)


def test_a_voxel_of_a_rare_segment_counts_by_the_root_of_how_rare_it_is():
    truth = torch.zeros(1, 2, 1, 1, 40)
    truth[0, 0, ..., :4] = 1
    weights = torch.ones(1, 2, 1, 1, 40)
    assert rarity(truth, weights).tolist() == [3.0, 1.0], "36 to 4; of the other there is nothing"
    truth[0, 1, ..., :30] = 1
    assert rarity(truth, weights).tolist() == [3.0, 1.0], "a segment that fills most counts no less"
    many = torch.zeros(1, 1, 1, 100, 100)
    many[..., 0, :2] = 1
    assert rarity(many, torch.ones_like(many)).item() == 30.0


def test_the_entropy_is_the_mean_by_these_weights():
    found, truth = (0.8, 0.2, 0.3, 0.4), (1.0, 0.0, 0.0, 0.0)
    loss, _ = segmentation_loss(row(*map(logit, found)), row(*truth), ALL, known(True), "bce-dice", 0.0)
    root = math.sqrt(3)
    bce = -(root * math.log(0.8) + math.log(0.8) + math.log(0.7) + math.log(0.6)) / (root + 3)
    dice = (2 * 0.8 + 1) / (0.64 + 0.04 + 0.09 + 0.16 + 1 + 1)
    assert loss.item() == pytest.approx(0.6 * bce + 0.4 * (1 - dice), rel=1e-5)


def test_patches_in_which_nothing_counts_give_a_loss_of_zero_and_no_error():
    for loss in ("bce-dice", "dice-ce"):
        logits = torch.randn(1, channels_of(loss, 1), 1, 1, 4, requires_grad=True)
        total, dice = segmentation_loss(logits, row(1, 0, 0, 0), 0 * ALL, known(True), loss, 0.5)
        total.backward()
        assert total.item() == 0 and dice.item() == 0 and logits.grad.abs().max() == 0


def test_an_unknown_loss_is_refused():
    with pytest.raises(InputError, match="loss 'hinge': one of bce-dice, dice-ce was expected"):
        channels_of("hinge", 2)
