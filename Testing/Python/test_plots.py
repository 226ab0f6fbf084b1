"""The pictures of a report."""

import dataclasses
import itertools
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.evaluation import plots
from SSLFewShotLib.evaluation.planes import shown_boxes, three_planes
from SSLFewShotLib.imaging import LabelMap, Segment, Volume
from SSLFewShotLib.imaging.phantoms import phantom

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.3, 1.0)


@pytest.fixture(scope="module")
def case():
    return phantom(1, size=(48, 40, 36))


def pixels(path) -> np.ndarray:
    """(rows, columns, 3), 0..1."""
    return matplotlib.image.imread(path)[..., :3]


def share_of(image: np.ndarray, colour) -> float:
    return float((np.abs(image - colour).max(axis=-1) < 0.12).mean())


def corner_labels(order, signs) -> LabelMap:
    """Axes along permuted, flipped LPS axes, and one voxel marked: the left, back, upper corner."""
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    for axis, (lps, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[lps, axis] = sign * (1.0, 2.0, 3.0)[lps]
    grid = Volume(np.zeros((7, 6, 5), np.uint8), matrix)
    corners = np.array(list(itertools.product(*((0, n - 1) for n in grid.size))))
    i, j, k = corners[np.argmax(grid.points_from_indices(corners).sum(axis=1))]
    grid.array[k, j, i] = 1
    return LabelMap(grid.array, matrix)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_left_back_and_head_are_shown_where_a_radiologist_expects_them(order, signs):
    labels = corner_labels(order, signs)
    axial, coronal, sagittal = three_planes(labels)
    assert np.argwhere(axial.cut(labels.array))[0].tolist() == [n - 1 for n in axial.cut(labels.array).shape]
    assert np.argwhere(coronal.cut(labels.array))[0].tolist() == [0, coronal.cut(labels.array).shape[1] - 1]
    assert np.argwhere(sagittal.cut(labels.array))[0].tolist() == [0, sagittal.cut(labels.array).shape[1] - 1]
    assert (axial.spacing, coronal.spacing, sagittal.spacing) == ((1, 2), (1, 3), (2, 3))
    assert axial.sides == ("R", "L", "A", "P")


def test_an_oblique_grid_is_shown_along_its_closest_anatomical_axes():
    for seed in range(5):
        _, labels = phantom(seed, size=(32, 28, 24), geometry="oblique")
        axial = three_planes(labels)[0]
        columns = {}
        for name in ("LeftKidney", "RightKidney"):
            mask = labels.mask(name)
            through = dataclasses.replace(axial, index=round(np.argwhere(mask)[:, axial.across].mean()))
            columns[name] = np.argwhere(through.cut(mask))[:, 1].mean()
        assert columns["LeftKidney"] > columns["RightKidney"]


def test_the_slices_go_through_the_structures_and_weigh_small_ones_like_large_ones():
    masks = {name: np.zeros((20, 20, 20), bool) for name in ("large", "small", "tiny")}
    masks["large"][2:9, 2:18, 2:18] = True
    masks["small"][14:17, 3:5, 3:5] = masks["tiny"][15, 10, 10] = True
    labels = LabelMap.from_masks(Volume.from_spacing(np.zeros((20, 20, 20))), masks)
    assert three_planes(labels)[0].index == 15


def test_without_any_label_the_middle_slices_are_shown():
    labels = LabelMap(np.zeros((9, 8, 7), np.uint8), np.eye(4))
    assert [plane.index for plane in three_planes(labels)] == [4, 4, 3]


def test_empty_air_is_cropped_and_labels_are_not():
    array = np.full((20, 60, 60), -1000, np.int16)
    array[:, 20:40, 20:40] = 40
    labels = np.zeros(array.shape, np.uint8)
    labels[10, 5, 30] = 1
    volume, labels = Volume.from_spacing(array), LabelMap(labels, np.eye(4))
    planes = three_planes(labels)
    box = shown_boxes(volume, labels, planes, margin=2.0)[0]
    assert box[1].start == 3 and box[1].stop == 42
    assert 15 <= box[2].start <= 18 and planes[0].cut(array, box).shape == (39, box[2].stop - box[2].start)


def test_outlines_appear_in_the_colours_of_the_segments(case, tmp_path):
    volume, labels = case
    red = [Segment(s.value, s.name, RED) for s in labels.segments]
    labels = LabelMap(labels.array, labels.ijkToLps, segments=red)
    plots.slices_with_contours(volume, labels, tmp_path / "red.png")
    empty = LabelMap(np.zeros_like(labels.array), labels.ijkToLps, segments=[Segment(1, "Liver", BLUE)])
    plots.slices_with_contours(volume, empty, tmp_path / "reference.png", reference=labels)
    solid, dashed = pixels(tmp_path / "red.png"), pixels(tmp_path / "reference.png")
    assert share_of(solid, RED) > 0.002
    assert 0 < share_of(dashed, RED) < share_of(solid, RED)
    # The reference's liver takes the prediction's colour.
    assert share_of(dashed, BLUE) > 5 * max(share_of(solid, BLUE), 1e-6)


def test_a_second_row_shows_where_the_confidence_is_low(case, tmp_path):
    volume, labels = case
    sure = volume.with_array(np.ones(volume.array.shape, np.float32))
    unsure = volume.with_array(np.full(volume.array.shape, 0.5, np.float32))
    for name, confidence in (("none", None), ("sure", sure), ("unsure", unsure)):
        plots.slices_with_contours(volume, labels, tmp_path / f"{name}.png", confidence=confidence, title="case")
    images = {name: pixels(tmp_path / f"{name}.png") for name in ("none", "sure", "unsure")}
    assert images["sure"].shape[0] > 1.7 * images["none"].shape[0]
    lower = slice(images["sure"].shape[0] // 2, None)
    warm = {n: (i[lower][..., 0] - i[lower][..., 2] > 0.2).mean() for n, i in images.items()}
    assert warm["unsure"] > 0.3 > 0.1 > warm["sure"]


def test_the_confidence_alone_is_drawn(case, tmp_path):
    volume, labels = case
    confidence = volume.with_array(np.where(labels.array > 0, 0.5, 1.0).astype(np.float32))
    plots.confidence_overlay(volume, confidence, labels, tmp_path / "confidence.png")
    image = pixels(tmp_path / "confidence.png")
    assert (image[..., 0] - image[..., 2] > 0.25).mean() > 0.02


def test_a_sheared_mr_with_a_flat_image_is_drawn(tmp_path):
    volume, labels = phantom(0, "MR", (24, 20, 18), geometry="sheared")
    plots.slices_with_contours(volume.with_array(np.zeros_like(volume.array)), labels, tmp_path / "flat.svg")
    assert "<svg" in (tmp_path / "flat.svg").read_text(encoding="utf-8")


def test_labels_on_another_grid_are_refused(case, tmp_path):
    other = phantom(1, size=(24, 20, 18))[1]
    with pytest.raises(InputError, match="grid"):
        plots.slices_with_contours(case[0], other, tmp_path / "no.png")
    assert not list(tmp_path.iterdir())


def shot_rows():
    return [
        {"model": model, "shots": shots, "support": support, "dice": base + 0.02 * shots + 0.05 * support}
        for model, base in (("heatmap", 0.5), ("gvdiff", 0.3))
        for shots in (1, 3, 9)
        for support in (0, 1, 2)
        for _ in range(2)
    ]


def test_a_point_is_the_mean_over_supports_and_its_bar_their_standard_deviation():
    rows = [*shot_rows(), {"model": "heatmap", "shots": 1, "support": 0, "dice": float("nan")}]
    shots, means, spreads = plots._shot_statistics(rows, "heatmap")
    assert shots == [1, 3, 9]
    assert means == pytest.approx([0.57, 0.61, 0.73])
    assert spreads == pytest.approx([0.05, 0.05, 0.05])


def test_the_spread_is_over_supports_and_not_over_scans():
    rows = [{"model": "a", "shots": 1, "support": "x", "dice": dice} for dice in (0.1, 0.9)]
    assert plots._shot_statistics(rows, "a") == ([1], [0.5], [0.0])


def test_dice_over_shots_is_drawn_with_a_line_for_each_model(tmp_path):
    plots.dice_over_shots(shot_rows(), tmp_path / "shots.png", title="phantoms")
    image = pixels(tmp_path / "shots.png")
    for colour in ((0.0, 0.447, 0.698), (0.835, 0.369, 0.0)):
        assert share_of(image, colour) > 0.0005


def test_tsne_colours_points_by_segment(tmp_path, rng):
    segments = [Segment(1, "Liver", RED), Segment(4, "Spleen", BLUE)]
    plots.tsne_plot(rng.normal(size=(300, 2)), np.repeat([0, 1, 4], 100), segments, tmp_path / "tsne.png")
    image = pixels(tmp_path / "tsne.png")
    assert share_of(image, RED) > 0.001 and share_of(image, BLUE) > 0.001
    with pytest.raises(InputError, match="points"):
        plots.tsne_plot(np.zeros((3, 2)), np.zeros(4), segments, tmp_path / "other.png")


def test_the_table_leaves_out_what_is_absent(tmp_path):
    nan = float("nan")
    rows = [
        {"segment": "Liver", "dice": 0.9, "nsd": 0.8, "hd95_mm": 3.0},
        {"segment": "Liver", "dice": 0.7, "nsd": 0.6, "hd95_mm": 5.0},
        {"segment": "Spleen", "dice": nan, "nsd": nan, "hd95_mm": nan},
    ]
    plots.dice_table(rows, tmp_path / "table.svg", title="one shot")
    plots.dice_table(rows, tmp_path / "table.png")
    assert plots._mean_and_spread(plots._finite([0.9, 0.7, nan]), 2, True) == "0.80 ± 0.14"
    assert plots._mean_and_spread(plots._finite([nan]), 2, True) == "–"
    assert pixels(tmp_path / "table.png").std() > 0.01


@pytest.mark.parametrize("draw", [plots.dice_over_shots, plots.dice_table])
def test_nothing_to_draw_is_an_error_and_leaves_no_file(draw, tmp_path):
    with pytest.raises(InputError, match="no results"):
        draw([], tmp_path / "empty.png")
    assert not list(tmp_path.iterdir())


def test_a_picture_is_not_overwritten_unasked_and_other_formats_are_refused(tmp_path):
    plots.dice_over_shots(shot_rows(), tmp_path / "shots.png")
    with pytest.raises(InputError, match="overwrite"):
        plots.dice_over_shots(shot_rows(), tmp_path / "shots.png")
    plots.dice_over_shots(shot_rows(), tmp_path / "shots.png", overwrite=True)
    with pytest.raises(InputError, match=r"\.png"):
        plots.dice_over_shots(shot_rows(), tmp_path / "shots.docx")


def test_no_window_system_is_touched():
    code = "import sys, SSLFewShotLib.evaluation.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
