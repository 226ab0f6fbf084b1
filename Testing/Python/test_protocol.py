"""Who labels whom in an evaluation, and that it can be stopped, taken up and trusted."""

import json
import shutil

import numpy as np
import pytest
from SSLFewShotLib.descriptors.gvdiff import GreyValueDifferences
from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.evaluation import report
from SSLFewShotLib.evaluation.metrics import score_case
from SSLFewShotLib.evaluation.protocol import evaluate
from SSLFewShotLib.evaluation.results import ResultTable, read_results, unit_of
from SSLFewShotLib.imaging import LabelMap, SupportSet
from SSLFewShotLib.imaging.cases import find_cases, read_case
from SSLFewShotLib.imaging.files import read_labels, write_labels
from SSLFewShotLib.imaging.phantoms import write_cohort
from SSLFewShotLib.segmentation.box_alignment import BodyBoxSegmenter
from SSLFewShotLib.segmentation.knn import KnnSegmenter

COARSE = {"spacing": 30.0, "per_segment": 40, "background": 400}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 5, seed=7, size=(28, 22, 24))
    return folder


@pytest.fixture(autouse=True)
def quick_embedding(monkeypatch):
    """t-SNE takes longer than all the rest of an evaluation as small as these."""
    monkeypatch.setattr(report, "tsne_of_supports", lambda *_, **__: (np.zeros((4, 2)), np.ones(4)))


KNN = {"methods": ("knn",), "models": ("gvdiff",), "settings": COARSE}


def run(cohort, output, supports=("000", "001"), **changes):
    """Two supports, one and two shots, all other scans as queries, by the quickest method."""
    changes = {"shots": (1, 2), "methods": ("box",), **changes}
    evaluate(cohort, supports, output, **changes)
    return read_results(output)


def comparable(rows, seconds=True):
    """As texts, since NaN is not itself; without what takes another time every time, if so wanted."""
    return [{k: str(v) for k, v in row.items() if seconds or k != "seconds"} for row in rows]


def test_every_structure_is_scored_as_the_segmenter_alone_would_score(cohort, tmp_path):
    rows = run(cohort, tmp_path / "out", **{**KNN, "methods": ("knn", "box")})
    assert len(rows) == 2 * 3 * 3 * 7
    assert len({(*unit_of(row), row["segment"]) for row in rows}) == len(rows)
    known = {case.id: read_case(case) for case in find_cases(cohort)}
    supports = SupportSet([known["phantom_000"], known["phantom_001"]])
    descriptor = load_descriptor("gvdiff", known["phantom_000"][0])
    found, _ = KnnSegmenter(descriptor, **COARSE).fit(supports).predict(known["phantom_003"][0])
    wanted = {row["segment"]: row for row in score_case(known["phantom_003"][1], found)}
    mine = [row for row in rows if unit_of(row)[:3] == ("knn", "gvdiff", 2) and row["query"] == "phantom_003"]
    assert len(mine) == 7
    for row in mine:
        for number in ("dice", "nsd", "hd95_mm", "reference_ml"):
            assert row[number] == pytest.approx(wanted[row["segment"]][number], rel=1e-4)
        assert row["support"] == "phantom_000+phantom_001" and row["seconds"] > 0 and row["recall"] == 1


def test_no_point_is_described_twice_however_many_support_sets_there_are(cohort, tmp_path, monkeypatch):
    seen = []
    describe = GreyValueDifferences._describe

    def counted(self, scan, points, progress):
        seen.extend((scan.name, *point) for point in points.round(3).tolist())
        return describe(self, scan, points, progress)

    monkeypatch.setattr(GreyValueDifferences, "_describe", counted)
    run(cohort, tmp_path / "out", supports=("000", "001", "002"), shots=(1, 2, 3), **KNN)
    evaluated = [point for point in seen if point[0] in ("phantom_003_ct.nrrd", "phantom_004_ct.nrrd")]
    assert len(evaluated) > 500 and len(set(evaluated)) == len(evaluated)
    supports = [point for point in seen if point not in set(evaluated)]
    assert len(supports) > 500 and len(set(supports)) == len(supports)


def test_a_cancelled_evaluation_is_taken_up_where_it_was_left(cohort, tmp_path):
    both = {**KNN, "methods": ("knn", "box"), "queries": ["002", "004"]}
    whole = run(cohort, tmp_path / "whole", **both)

    def until_half(fraction, message):
        if fraction > 0.45:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(cohort, tmp_path / "out", **both, progress=until_half)
    part = read_results(tmp_path / "out")
    assert 0 < len(part) < len(whole)
    finished = {unit_of(row): row["seconds"] for row in part}
    rows = run(cohort, tmp_path / "out", **both)
    assert comparable(rows, seconds=False) == comparable(whole, seconds=False)
    again = {unit_of(row): row["seconds"] for row in rows}
    assert all(again[unit] == seconds for unit, seconds in finished.items())


@pytest.mark.parametrize("left", [0.97, 0.6, 0.33])
def test_a_table_that_was_cut_off_while_it_was_written_is_completed(cohort, tmp_path, left):
    output = tmp_path / "out"
    whole = run(cohort, output)
    table = output / "results.csv"
    # As it looks while an evaluation runs: an empty line after each scan.
    growing = tmp_path / "growing"
    growing.mkdir()
    rows = ResultTable(growing)
    for unit in dict.fromkeys(map(unit_of, whole)):
        rows.add([row for row in whole if unit_of(row) == unit])
    content = rows.path.read_bytes()
    table.write_bytes(content[: int(left * len(content))])
    kept = read_results(output)
    assert len(kept) < len(whole) and len(kept) % 7 == 0
    assert comparable(run(cohort, output), seconds=False) == comparable(whole, seconds=False)


def test_a_finished_evaluation_computes_nothing_again(cohort, tmp_path, monkeypatch):
    whole = run(cohort, tmp_path / "out")
    monkeypatch.setattr(BodyBoxSegmenter, "fit", lambda *_, **__: pytest.fail("fitted again"))
    assert comparable(run(cohort, tmp_path / "out")) == comparable(whole)


def test_other_settings_need_another_output_or_overwriting(cohort, tmp_path):
    same = {**KNN, "shots": (1,), "queries": ["003"]}
    run(cohort, tmp_path / "out", **same)
    for change in ({"seed": 1}, {"shots": (2,)}, {"queries": ["004"]}, {"settings": {**COARSE, "k": 5}}):
        with pytest.raises(InputError, match="choose another"):
            run(cohort, tmp_path / "out", **{**same, **change})
    rows = run(cohort, tmp_path / "out", shots=(1,), queries=["004"], overwrite=True)
    assert {row["query"] for row in rows} == {"phantom_004"}


def test_a_method_or_model_can_be_added_later(cohort, tmp_path):
    few = {"shots": (1,), "queries": ["003"]}
    first = run(cohort, tmp_path / "out", **few)
    rows = run(cohort, tmp_path / "out", **few, **KNN)
    assert comparable(row for row in rows if row["method"] == "box") == comparable(first)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert all(f"| {name} | 1 |" in text for name in ("box", "knn gvdiff"))
    assert "Unfinished" not in text


def test_a_query_that_fails_is_named_and_tried_again_and_the_rest_goes_on(cohort, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(cohort, folder)
    broken = folder / "phantom_003_ct.nrrd"
    content = broken.read_bytes()
    broken.write_bytes(content[:-40] + bytes(40))
    rows = run(folder, tmp_path / "out", shots=(1,))
    failed = [row for row in rows if row["error"]]
    assert [row["query"] for row in failed] == ["phantom_003"] * 2
    assert {row["query"] for row in rows if not row["error"]} == {"phantom_002", "phantom_004"}
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "## Not labelled" in text and "phantom_003_ct.nrrd" in text.split("## Not labelled")[1]
    broken.write_bytes(content)
    rows = run(folder, tmp_path / "out", shots=(1,))
    assert not any(row["error"] for row in rows) and len(rows) == 2 * 3 * 7
    assert "## Not labelled" not in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_a_structure_that_the_support_has_not_marked_is_not_scored(cohort, tmp_path):
    folder = tmp_path / "partial"
    shutil.copytree(cohort, folder)
    labels = read_labels(folder / "phantom_000.seg.nrrd")
    kept = {s.name: labels.mask(s) for s in labels.segments if s.name != "Liver"}
    write_labels(LabelMap.from_masks(labels, kept), folder / "phantom_000.seg.nrrd", overwrite=True)
    rows = run(folder, tmp_path / "out")
    liver = {row["support"]: row["dice"] for row in rows if row["segment"] == "Liver"}
    assert np.isnan(liver["phantom_000"])
    assert liver["phantom_001"] > 0 and liver["phantom_000+phantom_001"] > 0


def test_what_is_scored_can_be_kept(cohort, tmp_path):
    rows = run(cohort, tmp_path / "out", shots=(1,), queries=["002"], save_segmentations=True, **KNN)
    saved = read_labels(tmp_path / "out/segmentations/knn-gvdiff/1_phantom_001/phantom_002.seg.nrrd")
    reference = read_labels(cohort / "phantom_002.seg.nrrd")
    wanted = {row["segment"]: row["dice"] for row in score_case(reference, saved)}
    mine = {row["segment"]: row["dice"] for row in rows if row["support"] == "phantom_001"}
    assert mine == pytest.approx(wanted, rel=1e-4)


def test_both_halves_label_each_other(cohort, tmp_path):
    rows = run(cohort, tmp_path / "out", supports=(), shots=(1, 2), two_fold=True, repeats=1)
    pairs = {(row["support"][-3:], row["support"].count("+") + 1, row["query"][-3:]) for row in rows}
    first = {(support, shots, q) for support, shots in (("000", 1), ("001", 2)) for q in ("003", "004")}
    second = {(support, shots, q) for support, shots in (("003", 1), ("004", 2)) for q in ("000", "001", "002")}
    assert pairs == first | second
    assert "Two folds" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("magic",)}, "method 'magic': knn, aligned, prototype, finetune or box"),
        ({"models": ()}, "knn: a model is needed"),
        ({"models": ("nothing-of-the-kind",)}, "no model of this name"),
        ({"settings": {"colour": 1}}, "not all are settings of knn"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_written(cohort, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        run(cohort, tmp_path / "out", **{**KNN, **changes})
    assert not (tmp_path / "out").exists()


def test_results_without_their_settings_are_not_touched(cohort, tmp_path):
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="without their settings"):
        run(cohort, tmp_path)
    (tmp_path / "evaluation.json").write_text("[]")
    with pytest.raises(InputError, match="not the settings of an evaluation"):
        run(cohort, tmp_path)
    assert (tmp_path / "results.csv").read_text() == "a,b\n1,2\n"


def test_the_settings_say_what_was_evaluated(cohort, tmp_path):
    run(cohort, tmp_path / "out", shots=(1,), seed=3, **KNN)
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert facts["protocol"]["queries"] == [["phantom_002", "phantom_003", "phantom_004"]]
    assert facts["contenders"]["knn gvdiff"]["settings"]["seed"] == 3
    assert facts["contenders"]["knn gvdiff"]["settings"]["spacing_mm"] == 30.0
    assert facts["versions"]["python"]


@pytest.mark.realdata
def test_one_real_scan_labels_others_better_than_chance(real_data, tmp_path):
    rows = run(
        real_data / "head-neck-ct" / "labelled",
        tmp_path / "out",
        supports=["013"],
        queries=["004", "060"],
        shots=(1,),
        methods=("knn", "box"),
        models=("gvdiff",),
        settings={"spacing": 8.0, "per_segment": 200, "background": 2000},
    )
    assert len(rows) == 2 * 2 * 7 and not any(row["error"] for row in rows)
    for method, least in (("knn", 0.3), ("box", 0.1)):
        assert np.mean([row["dice"] for row in rows if row["method"] == method]) > least
