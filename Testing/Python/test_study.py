"""The study of how many labelled scans are needed: who learns from what, files, stopping and going on."""

import csv
import json
import warnings

import pytest
from command_line import sslfewshot
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.evaluation.study import study
from SSLFewShotLib.evaluation.study_curves import mean_by_iteration, moving_average
from SSLFewShotLib.evaluation.study_runs import planned_runs, starts_of
from SSLFewShotLib.pretext.continuing import Beginning
from tuning_samples import write_blocks, write_small_model

pytestmark = pytest.mark.usefixtures("one_torch_thread", "own_store")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Five labelled scans, b_0 to b_4, and the small model."""
    folder = tmp_path_factory.mktemp("study")
    write_blocks(folder / "scans", 5)
    write_small_model(folder / "small-ct")
    return folder


def small_study(cases, output, seeds: int = 2, models=None, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return study(
            cases / "scans", ["b_0", "b_1", "b_2"], output, shots=(1, 2), seeds=seeds,
            models=models or [str(cases / "small-ct")], device="cpu", settings={"iterations": 2}, **more,
        )  # fmt: skip


def content(output, name: str = "results.csv"):
    rows = list(csv.DictReader((output / name).open(encoding="utf-8")))
    return [{key: value for key, value in row.items() if key not in ("seconds", "minutes")} for row in rows]


def test_all_starts_get_the_same_scans_and_more_scans_contain_the_fewer(cases):
    starts = starts_of([Beginning.read(cases / "small-ct")])
    runs = planned_runs(["a", "b", "c", "d"], (1, 3), 3, starts)
    assert len(runs) == 12 and [run.seed for run in runs] == [0] * 4 + [1] * 4 + [2] * 4
    for seed in range(3):
        sets = {(run.start.label, run.shots): run.supports for run in runs if run.seed == seed}
        assert sets["small-ct", 1] == sets["scratch", 1] and sets["small-ct", 3] == sets["scratch", 3]
        assert set(sets["scratch", 1]) < set(sets["scratch", 3])
    assert len({run.supports for run in runs if run.shots == 3}) > 1


@pytest.mark.parametrize(
    "supports, shots, seeds, said",
    [
        ([], (1,), 1, "no support was named"),
        (["a"], (2,), 1, "2 labelled scans: only 1 supports were named"),
        (["a"], (1,), 0, "seeds 0"),
        (["a"], (), 1, "scans \\[\\]"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(supports, shots, seeds, said):
    with pytest.raises(InputError, match=said):
        planned_runs(supports, shots, seeds, ())


def test_a_study_scores_every_query_from_both_starts_and_leaves_tables_and_plots(cases, tmp_path):
    written = small_study(cases, tmp_path / "out")
    rows = content(tmp_path / "out")
    # Two seeds, two numbers of scans, two starts, two queries, two structures.
    assert len(rows) == 32 and {row["query"] for row in rows} == {"b_3", "b_4"}
    assert {(row["model"], row["shots"]) for row in rows} == {
        (start, shots) for start in ("small-ct", "scratch") for shots in ("1", "2")
    }
    assert [(s["model"], s["shots"], s["repetitions"], s["pairs"]) for s in written["summary"]] == [
        ("small-ct", 1, 2, 4), ("scratch", 1, 2, 4), ("small-ct", 2, 2, 4), ("scratch", 2, 2, 4)
    ]  # fmt: skip
    assert json.loads((tmp_path / "out" / "study.json").read_text(encoding="utf-8")) == written
    for name in ("dice_over_scans.png", "convergence.png"):
        assert (tmp_path / "out" / name).read_bytes()[:4] == b"\x89PNG"
    curves = content(tmp_path / "out", "curves.csv")
    assert {row["iteration"] for row in curves} == {"1", "2"} and len(curves) == 16
    assert all(float(row["held_out_dice"]) >= 0 for row in curves if row["iteration"] == "2")
    assert not list((tmp_path / "out" / "runs").iterdir())


@pytest.mark.slow
def test_a_study_that_is_stopped_goes_on_and_comes_out_the_same(cases, tmp_path):
    small_study(cases, tmp_path / "whole", seeds=1)
    calls = []

    def stopping(fraction, message):
        calls.append(message)
        if len(calls) in (12, 40, 60):
            raise Cancelled

    for _ in range(3):
        with pytest.raises(Cancelled):
            small_study(cases, tmp_path / "stopped", seeds=1, progress=stopping)
    small_study(cases, tmp_path / "stopped", seeds=1)
    for name in ("results.csv", "curves.csv"):
        assert content(tmp_path / "stopped", name) == content(tmp_path / "whole", name)


def test_further_seeds_go_on_with_what_is_there_and_other_settings_are_refused(cases, tmp_path):
    small_study(cases, tmp_path / "out", seeds=1)
    before = (tmp_path / "out" / "results.csv").read_text(encoding="utf-8").splitlines()
    small_study(cases, tmp_path / "out", seeds=2)
    after = (tmp_path / "out" / "results.csv").read_text(encoding="utf-8").splitlines()
    assert set(before) <= set(after) and len(after) > len(before)
    with pytest.raises(InputError, match="holds a study with other queries; choose another output"):
        small_study(cases, tmp_path / "out", queries=["b_3"])


def test_random_weights_stand_once_for_all_models_of_one_network(cases, tmp_path):
    write_small_model(tmp_path / "other-ct", seed=1)
    write_small_model(tmp_path / "coarse-ct", seed=1)
    card = json.loads((tmp_path / "coarse-ct" / "card.json").read_text(encoding="utf-8"))
    card["preprocessing"]["spacing_mm"] *= 2
    (tmp_path / "coarse-ct" / "card.json").write_text(json.dumps(card), encoding="utf-8")
    models = [Beginning.read(f) for f in (cases / "small-ct", tmp_path / "other-ct", tmp_path / "coarse-ct")]
    labels = ["small-ct", "scratch", "other-ct", "coarse-ct", "scratch (coarse-ct)"]
    assert [start.label for start in starts_of(models)] == labels
    with pytest.raises(InputError, match="small-ct: two models have this name"):
        starts_of([models[0], models[1], models[0]])


def test_a_study_takes_in_further_models(cases, tmp_path):
    small_study(cases, tmp_path / "out", seeds=1)
    write_small_model(tmp_path / "other-ct", seed=1)
    both = [str(cases / "small-ct"), str(tmp_path / "other-ct")]
    written = small_study(cases, tmp_path / "out", seeds=1, models=both)
    assert {row["model"] for row in written["summary"]} == {"small-ct", "scratch", "other-ct"}
    write_small_model(tmp_path / "again" / "other-ct", seed=2)
    with pytest.raises(InputError, match="holds a study with other models"):
        small_study(cases, tmp_path / "out", seeds=1, models=[both[0], str(tmp_path / "again" / "other-ct")])


def test_a_scan_that_is_support_and_query_is_refused(cases, tmp_path):
    with pytest.raises(InputError, match="b_1: named as support and as query"):
        small_study(cases, tmp_path / "out", queries=["b_1", "b_3"])


def test_settings_that_a_study_sets_itself_are_refused(cases, tmp_path):
    outcome = sslfewshot(
        "study", cases / "scans", "--supports", "b_0", "--shots", "1", "--scratch", "--output", tmp_path / "out"
    )
    assert outcome.error == "scratch: a study sets that itself; leave it out"


def test_the_command_prints_means_and_answers_in_json(cases, tmp_path):
    named = ("--supports", "b_0,b_1,b_2", "--queries", "b_3", "--shots", "1", "--seeds", "1")
    how = ("--models", cases / "small-ct", "--iterations", "1", "--device", "cpu", "--output", tmp_path / "out")
    given = ("study", cases / "scans", *named, *how)
    outcome = sslfewshot(*given)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["scans", "start", "Dice", "±", "over", "seeds"] and len(lines) == 3
    again = sslfewshot(*given, "--json").result
    assert [row["model"] for row in again["summary"]] == ["small-ct", "scratch"]


def test_curves_are_averaged_as_they_say():
    assert moving_average([1, 2, 3, 4], 2).tolist() == [1.5, 2.5, 3.5]
    assert moving_average([1, 3], 15).tolist() == [2]
    rows = [
        {"iteration": iteration, "held_out_dice": dice}
        for iteration, dice in (("50", "0.5"), ("60", ""), ("50", "0.7"), ("100", "0.9"))
    ]
    assert mean_by_iteration(rows) == [(50, pytest.approx(0.6)), (100, 0.9)]
