"""The means, tables and pictures of an evaluation, against sums done by hand."""

import csv
import json
import math

import matplotlib.image
import numpy as np
import pytest
from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.evaluation import report
from SSLFewShotLib.evaluation.embedding import tsne_of_supports
from SSLFewShotLib.evaluation.report import write_report
from SSLFewShotLib.evaluation.report_text import pretraining_statement
from SSLFewShotLib.evaluation.results import ResultTable, read_results
from SSLFewShotLib.evaluation.summary import summarise
from SSLFewShotLib.imaging import LabelMap, SupportSet, Volume
from SSLFewShotLib.imaging.phantoms import phantom, write_cohort

NAN = math.nan


def row(support, query, segment, dice, model="gvdiff", shots=1, **changes):
    scores = {"dice": dice, "nsd": dice / 2, "hd95_mm": round(10 * (1 - dice), 4), "seconds": 3.0, "recall": 1.0}
    unit = {
        "method": "knn" if model else "box",
        "model": model,
        "shots": shots,
        "support": support,
        "query": query,
    }
    rest = {"segment": segment, "reference_ml": 1.0, "prediction_ml": 1.0, "error": ""}
    return {**unit, **rest, **scores, **changes}


ROWS = [
    row("a", "x", "Liver", 0.9),
    row("a", "x", "Spleen", 0.5),
    row("a", "y", "Liver", 0.3),
    row("a", "y", "Spleen", NAN, nsd=NAN, hd95_mm=NAN),
    row("b", "x", "Liver", 0.8, seconds=5.0),
    row("b", "x", "Spleen", 0.05, seconds=5.0),
    row("b", "y", "", NAN, error="y: unreadable", nsd=NAN, hd95_mm=NAN, seconds=NAN, recall=NAN),
]


def evaluated(folder, rows, **facts):
    """An output folder as `evaluate` leaves it."""
    table = ResultTable(folder)
    for entry in rows:
        table.add([entry])
    known = {
        "folder": str(folder / "cases"),
        "protocol": {
            "shots": [1], "repeats": 5, "two_fold": False, "support_sets": [[["a"], ["b"]]],
            "queries": [["x", "y"]], "seed": 0, "suffixes": [None, None], "sslfewshot": "0.1.0",
        },
        "contenders": {"knn gvdiff": {"given": "gvdiff", "descriptor": "gvdiff", "pretraining": []}},
        "versions": {"python": "3.11"},
    }  # fmt: skip
    (folder / "evaluation.json").write_text(json.dumps({**known, **facts}))
    return folder


def test_structures_are_averaged_within_a_scan_first_then_scans():
    (found,) = summarise(ROWS)
    pairs = [0.7, 0.3, 0.425]
    assert found["dice"] == pytest.approx(np.mean(pairs))
    assert found["nsd"] == pytest.approx(np.mean(pairs) / 2)
    assert found["hd95_mm"] == pytest.approx(10 - 10 * np.mean(pairs))


def test_the_spread_is_that_of_the_means_of_the_support_sets():
    (found,) = summarise(ROWS)
    assert found["dice_sd"] == pytest.approx(np.std([0.5, 0.425], ddof=1))
    assert math.isnan(summarise(ROWS[:2])[0]["dice_sd"])


def test_absent_structures_and_failed_scans_are_counted_and_in_no_mean():
    (found,) = summarise(ROWS)
    assert (found["scored"], found["absent"], found["errors"], found["pairs"]) == (5, 1, 1, 3)
    assert found["structures"]["Spleen"]["dice"] == pytest.approx(0.275)
    assert "" not in found["structures"]


def test_missed_structures_and_the_worst_scan_are_found():
    (found,) = summarise(ROWS)
    assert found["failures"] == pytest.approx(1 / 5)
    assert (found["worst_dice"], found["worst_support"], found["worst_query"]) == (0.3, "a", "y")


def test_the_seconds_are_the_median_over_scans_not_over_structures():
    assert summarise([*ROWS[:2], row("a", "z", "Liver", 0.5, seconds=9.0), *ROWS[4:6]])[0]["seconds"] == 5.0


def test_methods_models_and_shots_are_summed_up_apart():
    found = summarise([ROWS[0], row("a", "x", "Liver", 0.1, model=""), row("a", "x", "Liver", 0.2, shots=2)])
    assert [(s["method"], s["model"], s["shots"], s["dice"]) for s in found] == [
        ("knn", "gvdiff", 1, 0.9), ("box", "", 1, 0.1), ("knn", "gvdiff", 2, 0.2),
    ]  # fmt: skip


def test_results_come_back_as_they_were_written(tmp_path):
    ResultTable(tmp_path).add(ROWS[:4])
    found = read_results(tmp_path)
    assert [str(entry) for entry in found] == [str({k: entry[k] for k in found[0]}) for entry in ROWS[:4]]


def test_what_was_cut_off_in_the_middle_of_a_scan_is_not_read(tmp_path):
    table = ResultTable(tmp_path)
    table.add(ROWS[:2])
    table.add(ROWS[2:4])
    content = table.path.read_bytes()
    for left in (len(content) - 1, len(content) - 30):
        table.path.write_bytes(content[:left])
        assert {entry["query"] for entry in read_results(tmp_path)} == {"x"}


def test_a_damaged_or_foreign_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="no results are there"):
        read_results(tmp_path)
    ResultTable(tmp_path).add(ROWS[:1])
    content = (tmp_path / "results.csv").read_text()
    (tmp_path / "results.csv").write_text(content.replace("0.9", "much"))
    with pytest.raises(InputError, match="damaged"):
        read_results(tmp_path)
    (tmp_path / "results.csv").write_text("name,size\n\n")
    with pytest.raises(InputError, match="not a table of results"):
        read_results(tmp_path)


def test_the_report_of_an_unfinished_evaluation_says_so_and_names_what_failed(tmp_path):
    text = write_report(evaluated(tmp_path, [*ROWS[:3], ROWS[6]])).read_text(encoding="utf-8")
    assert "**Unfinished: 3 of 4 labellings are there.**" in text
    assert "## Not labelled\n\n- y: y: unreadable (1 ×)" in text
    assert "| knn gvdiff | 1 | 2 | 2 | 0.500 |" in text
    assert "No t-SNE plot" in text and not (tmp_path / "tsne.png").exists()
    assert (tmp_path / "dice_over_shots.png").stat().st_size > 1000


def test_the_report_holds_every_structure_and_the_approximation_of_the_search(tmp_path):
    rows = [*ROWS[:5], {**ROWS[5], "recall": 0.98}]
    text = write_report(evaluated(tmp_path, rows)).read_text(encoding="utf-8")
    assert "| knn gvdiff | 1 | 0.667 | 0.275 |" in text.split("## Dice by structure")[1]
    assert "| knn gvdiff | 1 | 3.3 |" in text.split("## HD95 mm by structure")[1]
    assert "at least 98.00 %" in text
    with open(tmp_path / "summary.csv", encoding="utf-8") as file:
        (line,) = csv.DictReader(file)
    assert float(line["Spleen dice"]) == pytest.approx(0.275) and float(line["failures"]) == pytest.approx(0.2)


def test_a_report_without_any_score_is_still_written(tmp_path):
    text = write_report(evaluated(tmp_path, [ROWS[6]])).read_text(encoding="utf-8")
    assert "| knn gvdiff | 1 | 1 | 0 | – | – | – | – | – | – |" in text
    assert not (tmp_path / "dice_over_shots.png").exists()


def test_a_report_without_settings_is_refused(tmp_path):
    ResultTable(tmp_path).add(ROWS[:1])
    with pytest.raises(InputError, match=r"evaluation\.json: missing or damaged"):
        write_report(tmp_path)


def test_the_best_model_at_the_fewest_shots_is_shown_by_t_sne(tmp_path):
    write_cohort(tmp_path / "cases", 2, seed=7, size=(28, 22, 24))
    sets = [["phantom_000"], ["phantom_001"]]
    rows = [
        row("phantom_000", "x", "Liver", 0.9, model=""),
        row("phantom_000", "x", "Liver", 0.6),
        row("phantom_000", "x", "Liver", 0.5, model="mind"),
        row("phantom_000+phantom_001", "x", "Liver", 0.8, model="mind", shots=2),
    ]
    output = evaluated(tmp_path, rows)
    facts = json.loads((output / "evaluation.json").read_text())
    facts["protocol"]["support_sets"] = [sets]
    (output / "evaluation.json").write_text(json.dumps(facts))
    text = write_report(output).read_text(encoding="utf-8")
    assert "t-SNE of the descriptors of knn gvdiff" in text
    image = matplotlib.image.imread(output / "tsne.png")[..., :3]
    for _, labels in [phantom((7, 0), size=(8, 8, 8))]:
        for segment in labels.segments:
            assert (np.abs(image - segment.colour).max(axis=-1) < 0.12).sum() > 50


def test_the_card_tells_whether_the_queries_were_trained_on():
    data = [{"name": "head-neck-ct/unlabelled", "source": "OpenKBP", "licence": "MIT", "scans": 129}]
    said = pretraining_statement(data, "/somewhere/head-neck-ct/labelled")
    assert said.startswith("no, by its card") and "129 scans of head-neck-ct/unlabelled" in said
    assert "probably" in pretraining_statement(data, "/somewhere/head-neck-ct/unlabelled")
    assert "probably" in pretraining_statement([{**data[0], "name": "unlabelled"}], "/data/unlabelled")
    assert pretraining_statement([], "/data") == "no: not trained on scans"


def two_tissues(shift=0):
    """Two structures that grey values tell apart; every voxel's surroundings differ a little."""
    rng = np.random.default_rng(shift)
    array = rng.normal(0, 5, (24, 24, 24)).astype(np.int16)
    masks = {"Bright": np.zeros(array.shape, bool), "Dark": np.zeros(array.shape, bool)}
    masks["Bright"][8:16, 8:16, 2:8] = masks["Dark"][8:16, 8:16, 16:22] = True
    array[masks["Bright"]] += 400
    array[masks["Dark"]] -= 400
    volume = Volume.from_spacing(array, (2.0, 2.0, 2.0), modality="CT")
    return volume, LabelMap.from_masks(volume, masks)


def test_structures_that_look_different_lie_apart_in_the_embedding():
    support = SupportSet([two_tissues(0), two_tissues(1)])
    descriptor = load_descriptor("gvdiff", support.pairs[0][0])
    embedding, values = tsne_of_supports(descriptor, support, per_segment=40)
    assert embedding.shape == (80, 2) and np.bincount(values).tolist() == [0, 40, 40]
    middles = [embedding[values == value].mean(axis=0) for value in (1, 2)]
    nearer = [np.linalg.norm(embedding - middle, axis=1) for middle in middles]
    assert np.mean((nearer[0] < nearer[1]) == (values == 1)) > 0.95


def test_the_embedding_is_the_same_each_time_and_another_with_another_seed():
    support = SupportSet([two_tissues(0)])
    descriptor = load_descriptor("gvdiff", support.pairs[0][0])
    first, again, other = (tsne_of_supports(descriptor, support, 20, seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.allclose(first, other)


def test_too_few_marked_voxels_for_an_embedding_are_refused():
    volume, labels = two_tissues()
    labels = LabelMap.from_masks(volume, {"Dot": np.arange(volume.array.size).reshape(volume.array.shape) == 9})
    descriptor = load_descriptor("gvdiff", volume)
    with pytest.raises(InputError, match="1 marked voxels are too few"):
        tsne_of_supports(descriptor, SupportSet([(volume, labels)]))


def test_the_written_pictures_are_replaced_not_kept_from_before(tmp_path):
    output = evaluated(tmp_path, ROWS[:4])
    for name in report.REPORT_FILES:
        (output / name).write_text("old")
    write_report(output)
    assert all((output / name).read_bytes() != b"old" for name in report.REPORT_FILES[:3])
    assert not (output / "tsne.png").exists()
