"""SIDES: pairs by their names, the contrastive loss by hand, the organs of labelled scans, and bad input."""

import numpy as np
import pytest
import torch
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging import LabelMap, Segment, Volume
from SSLFewShotLib.imaging.cases import Case, find_cases
from SSLFewShotLib.imaging.files import write_labels, write_volume
from SSLFewShotLib.imaging.paired_segments import chosen_pair, pairs_in, without_side
from SSLFewShotLib.pretext.paired_organs import PairedOrgans
from SSLFewShotLib.pretext.sides import Sides, contrastive_loss
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity

CT = Intensity("window", -500.0, 1000.0)
MM = Extent("mm", 120.0)
SIZE = (24, 26, 40)
LEFT, RIGHT = "Kidney_left", "Kidney_right"


def write_case(
    folder,
    number: int,
    names=(LEFT, RIGHT),
    swapped: bool = False,
    gap: int = 8,
    radius: float = 4.0,
    spacing=(4.0, 4.0, 4.0),
    size=SIZE,
) -> Case:
    """A scan with two organs: the left one a wedge that narrows towards the patient's back, the right one to its
    front, so that each is the other's mirror image.
    """
    rng = np.random.default_rng(number)
    k, j, i = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in size), indexing="ij")
    labels = np.zeros(size, np.uint8)
    for value, sign in ((1, 1), (2, -1)):
        # I runs to the patient's left.
        width = radius * (1 - 0.1 * sign * j)
        organ = (np.abs(i - sign * (gap / 2 + radius)) < width / 2) & (np.abs(j) < radius) & (np.abs(k) < radius)
        labels[organ] = 3 - value if swapped else value
    values = np.where(labels > 0, 60.0, -200.0) + rng.normal(0, 10, size)
    matrix = np.diag([*spacing, 1.0])
    image, marks = folder / f"case_{number}_ct.nrrd", folder / f"case_{number}_seg.nrrd"
    write_volume(Volume(values.astype(np.float32), matrix, f"case_{number}_ct", "CT"), image)
    segments = [Segment(value, name) for value, name in enumerate(names, start=1) if (labels == value).any()]
    write_labels(LabelMap(labels, matrix, f"case_{number}_seg", segments=segments), marks)
    return Case(f"case_{number}", image, marks)


@pytest.fixture
def cases(tmp_path) -> list[Case]:
    return [write_case(tmp_path, number) for number in range(3)]


def task_of(cases, **options) -> Sides:
    torch.manual_seed(0)
    options = {"features": 2, "batch_size": 4, **options}
    task = Sides(MM, CT, **options)
    task.use_labels(cases)
    return task


def batch_of(task: Sides, cases) -> ScanBatch:
    from SSLFewShotLib.imaging.files import read_volume

    return ScanBatch([task.preparation(read_volume(case.image)) for case in cases])


# Names


@pytest.mark.parametrize(
    "name, rest, side",
    [
        ("RightParotid", ("parotid",), "right"),
        ("Parotid_L", ("parotid",), "left"),
        ("LParotid", ("parotid",), "left"),
        ("kidney left", ("kidney",), "left"),
        ("LUNG-RT", ("lung",), "right"),
        ("lh-hippocampus", ("hippocampus",), "left"),
        ("Femur left 2", ("femur", "2"), "left"),
        ("Brainstem", ("brainstem",), ""),
        ("Larynx", ("larynx",), ""),
        ("left and right kidney", ("left", "and", "right", "kidney"), ""),
        ("", (), ""),
    ],
)
def test_a_name_says_its_side(name, rest, side):
    assert without_side(name) == (rest, side)


def test_pairs_are_names_that_differ_in_the_side_alone():
    names = ["Larynx", "RightParotid", "LeftParotid", "Lung L", "Kidney left", "R_Lung", "Kidney right upper"]
    assert pairs_in(names) == [("LeftParotid", "RightParotid"), ("Lung L", "R_Lung")]


def test_the_only_pair_is_found_and_a_given_one_comes_left_first():
    assert chosen_pair(["Larynx", "RightParotid", "LeftParotid"]) == ("LeftParotid", "RightParotid")
    assert chosen_pair(["A", "LeftEye", "RightEye"], ["RightEye", " LeftEye "]) == ("LeftEye", "RightEye")
    assert chosen_pair(["Links", "Rechts"], ["Rechts", "Links"]) == ("Rechts", "Links")


@pytest.mark.parametrize(
    "names, given, message",
    [
        (["Kidneys", "Liver"], None, r"no two segments are the left and the right .* \(Kidneys, Liver\)"),
        ([], None, r"\(none\)"),
        (["EyeL", "EyeR", "LungL", "LungR"], None, "several pairs of segments, .*: EyeL,EyeR; LungL,LungR"),
        (["EyeL", "EyeR"], ["EyeL", "EyeL"], "two different segments"),
        (["EyeL", "EyeR"], ["EyeL"], "two different segments"),
        (["EyeL", "EyeR"], ["EyeL", "Eye"], "no scan has a segment 'Eye'; there are EyeL, EyeR"),
    ],
)
def test_a_pair_that_is_none_is_refused(names, given, message):
    with pytest.raises(InputError, match=message):
        chosen_pair(names, given)


# The loss


def test_the_loss_squares_the_euclidean_distance():
    first = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]) / 10
    second = torch.zeros(3, 2)
    second[2] = torch.tensor([1.2, 0.0])
    # d = 0.5, 0 and 1.2. Same: 0.25; opposite: (1 − 0)² = 1; opposite beyond the margin: 0.
    loss, distance = contrastive_loss(first, second, torch.tensor([1, 0, 0]))
    torch.testing.assert_close(distance, torch.tensor([0.5, 0.0, 1.2]))
    assert float(loss) == pytest.approx((0.25 + 1 + 0) / 3)
    # Opposite at d = 0.5: (1 − 0.5)² = 0.25; with the paper's ‖·‖² for d it would be (1 − 0.25)².
    assert float(contrastive_loss(first[:1], second[:1], torch.tensor([0]))[0]) == pytest.approx(0.25)
    assert float(contrastive_loss(first[:1], second[:1], torch.tensor([0]), margin=2.0)[0]) == pytest.approx(2.25)


def test_organs_of_one_side_are_drawn_together_and_opposite_ones_apart():
    first = torch.tensor([[0.4, 0.0], [0.4, 0.0]], requires_grad=True)
    contrastive_loss(first, torch.zeros(2, 2), torch.tensor([1, 0]))[0].backward()
    assert first.grad[0, 0] > 0 > first.grad[1, 0]


def test_equal_codes_of_opposite_organs_give_a_finite_gradient():
    first = torch.zeros(1, 3, requires_grad=True)
    contrastive_loss(first, torch.zeros(1, 3), torch.tensor([0]))[0].backward()
    assert torch.isfinite(first.grad).all()


# What is drawn


def test_a_crop_shows_the_organ_alone_and_the_left_one_where_the_left_one_lies(cases):
    task = task_of(cases)
    task.deformation = type(task.deformation)(rotation=0.0, scale=1.0, shear=0.0, elastic=0.0)
    scan = batch_of(task, cases[:1]).scans[0]
    assert task.organs.pair == (LEFT, RIGHT)
    crops = [task.crop(scan, side, np.random.default_rng(0)) for side in (0, 1)]
    outside = float(scan.values.min())
    for crop in crops:
        assert tuple(crop.shape) == task.size
        inside = crop != outside
        assert 200 < int(inside.sum()) < 1000
        # What surrounds the organ, at −200 HU, is not there.
        assert float(crop[inside].median()) > -0.4
    # The left organ widens to the front (small j), the right one to the back.
    widths = [(crop != outside).sum(dim=(0, 2)).float() for crop in crops]
    rows = [torch.nonzero(width)[:, 0] for width in widths]
    slopes = [float(width[row[-1]] - width[row[0]]) for width, row in zip(widths, rows, strict=True)]
    assert slopes[0] < 0 < slopes[1]


def test_crops_are_never_mirrored(cases, rng):
    task = task_of(cases)
    scan = batch_of(task, cases[:1]).scans[0]
    outside = float(scan.values.min())
    for _ in range(20):
        rows = (task.crop(scan, 0, rng) != outside).sum(dim=(0, 2)).float()
        there = torch.nonzero(rows)[:, 0]
        half = len(there) // 2
        assert rows[there[:half]].sum() > rows[there[-half:]].sum()


def test_pairs_are_half_of_one_side_and_always_of_two_patients(cases, rng):
    task = task_of(cases, batch_size=64)
    scans = batch_of(task, cases)
    drawn = []
    task.crop = lambda scan, side, rng: drawn.append((scan.name, side)) or torch.zeros(task.size)
    same = task.sample(scans, rng)["same"].numpy()
    firsts, seconds = drawn[::2], drawn[1::2]
    assert all(a[0] != b[0] for a, b in zip(firsts, seconds, strict=True))
    assert [int(a[1] == b[1]) for a, b in zip(firsts, seconds, strict=True)] == same.tolist()
    assert 20 < same.sum() < 44
    assert len({side for _, side in firsts}) == 2 and len({name for name, _ in firsts}) == 3


@pytest.mark.parametrize("network", ["analysis", "dense"])
def test_either_encoder_is_trained_on_pairs(network, cases, rng):
    task = task_of(cases, network=network)
    batch = task.sample(batch_of(task, cases), rng)
    assert batch["crops"].shape == (8, 1, *task.size) and set(batch["same"].tolist()) <= {0, 1}
    loss, metrics = task.loss(batch)
    loss.backward()
    assert torch.isfinite(loss) and 0 <= float(metrics["accuracy"]) <= 1
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in task.encoder.parameters())


def test_the_crop_holds_the_largest_organ_and_can_be_halved_as_often_as_needed(tmp_path):
    cases = [write_case(tmp_path, 0), write_case(tmp_path, 1, radius=7.0, gap=4)]
    task = task_of(cases)
    assert all(side % task.encoder.multiple == 0 for side in task.size)
    largest = task.organs.largest() / 4
    assert all(side >= 1.25 * length for side, length in zip(task.size[::-1], largest, strict=True))
    card = task.settings()
    assert (card["pair"], card["organ_size"], card["margin"]) == ([LEFT, RIGHT], list(task.size), 1.0)


def test_the_same_crop_shows_as_many_millimetres_at_another_spacing(cases):
    coarse, fine = task_of(cases), task_of(cases, spacing=2.0)
    assert fine.size[0] > coarse.size[0]


def test_scans_without_labels_are_left_aside(cases, rng):
    task = task_of(cases[:2])
    scans = batch_of(task, cases)
    drawn = []
    task.crop = lambda scan, side, rng: drawn.append(scan.name) or torch.zeros(task.size)
    task.sample(scans, rng)
    assert set(drawn) == {"case_0_ct.nrrd", "case_1_ct.nrrd"}


def test_a_single_scan_that_was_held_out_can_still_be_measured_on(cases, rng):
    task = task_of(cases)
    loss, _ = task.loss(task.sample(batch_of(task, cases[:1]), rng))
    assert torch.isfinite(loss)


# Bad input


def test_without_labels_nothing_is_learned(cases, rng):
    task = Sides(MM, CT, 2, features=2)
    with pytest.raises(InputError, match="learns from labelled scans"):
        task.sample(batch_of(task, cases), rng)


def test_one_labelled_scan_is_too_few(cases):
    with pytest.raises(InputError, match=r"1 labelled scan: .* needs at least two"):
        task_of(cases[:1])


def test_a_scan_with_one_organ_only_is_left_out_and_one_that_remains_is_too_few(tmp_path):
    whole, half = write_case(tmp_path, 0), write_case(tmp_path, 1, names=(LEFT, "Liver"))
    with (
        pytest.warns(InputWarning, match="case_1: left out, no Kidney_right"),
        pytest.raises(InputError, match="1 of 2 labelled scans can be used for Kidney_left and Kidney_right"),
    ):
        PairedOrgans([whole, half])
    third = write_case(tmp_path, 2)
    with pytest.warns(InputWarning, match="no Kidney_right"):
        assert [case.id for case in PairedOrgans([whole, half, third]).cases] == ["case_0", "case_2"]


def test_a_segment_with_a_handful_of_voxels_is_left_out(tmp_path, cases):
    tiny = write_case(tmp_path, 7, radius=1.0)
    with pytest.warns(InputWarning, match=r"case_7: left out, Kidney_left has \d+ voxels, at least 30"):
        assert len(PairedOrgans([*cases, tiny]).cases) == 3


def test_wildly_different_spacings_are_left_out(tmp_path, cases):
    coarse = write_case(tmp_path, 8, spacing=(4.0, 4.0, 30.0), size=(14, 26, 40))
    with pytest.warns(InputWarning, match="case_8: left out, its voxels are 30 mm long .* most scans 4 mm"):
        assert len(PairedOrgans([*cases, coarse]).cases) == 3


def test_a_case_whose_sides_are_swapped_is_named(tmp_path, cases):
    swapped = write_case(tmp_path, 9, swapped=True)
    with pytest.raises(InputError, match="case_9: Kidney_left and Kidney_right lie the other way round"):
        PairedOrgans([*cases, swapped])


def test_names_that_say_no_side_come_left_first_and_names_that_say_the_wrong_one_are_told(tmp_path):
    plain = [write_case(tmp_path, number, names=("B", "A")) for number in range(2)]
    organs = PairedOrgans(plain, ["A", "B"])
    assert organs.pair == ("B", "A")
    assert all(one.middles[0, 0] > one.middles[1, 0] for one in organs.found.values())
    (tmp_path / "swapped").mkdir()
    swapped = [write_case(tmp_path / "swapped", number, swapped=True) for number in range(2)]
    with pytest.warns(InputWarning, match="Kidney_left lies to the right of Kidney_right in all scans"):
        assert PairedOrgans(swapped).pair == (LEFT, RIGHT)


def test_organs_in_one_place_cannot_be_told_apart(tmp_path):
    # One above the other: no left and right.
    folder = tmp_path
    cases = []
    for number in range(2):
        labels = np.zeros(SIZE, np.uint8)
        labels[2:8, 10:16, 15:25], labels[14:20, 10:16, 15:25] = 1, 2
        matrix = np.diag([4.0, 4.0, 4.0, 1.0])
        image, marks = folder / f"c{number}_ct.nrrd", folder / f"c{number}_seg.nrrd"
        write_volume(Volume(labels.astype(np.float32), matrix, f"c{number}_ct"), image)
        write_labels(LabelMap(labels, matrix, "seg", segments=[Segment(1, LEFT), Segment(2, RIGHT)]), marks)
        cases.append(Case(f"c{number}", image, marks))
    with pytest.raises(InputError, match="cannot be told apart, their middles lie 0 mm apart across the patient"):
        PairedOrgans(cases)


def test_two_scans_of_one_name_are_refused(tmp_path):
    cases = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        cases.append(write_case(tmp_path / str(number), 0))
    with pytest.raises(InputError, match=r"another scan is called case_0_ct\.nrrd too"):
        PairedOrgans(cases)


def test_a_spacing_too_fine_for_the_organ_and_an_extent_without_millimetres_are_refused(cases):
    with pytest.raises(InputError, match=r"too many voxels of 0\.1 mm; give a larger spacing"):
        task_of(cases, spacing=0.1)
    with pytest.raises(InputError, match="give the extent in mm"):
        Sides(Extent("normalised", 1.0), CT, features=2).use_labels(cases)


@pytest.mark.realdata
def test_the_parotids_of_real_scans_are_a_pair(real_data):
    cases = find_cases(real_data / "head-neck-ct" / "labelled")[:3]
    organs = PairedOrgans(cases, ["Segment_3", "Segment_4"])
    # 3 is the right one: which lies to the left is seen.
    assert organs.pair == ("Segment_4", "Segment_3") and len(organs.cases) == 3
    assert organs.largest().min() > 30 and organs.largest().max() < 120
