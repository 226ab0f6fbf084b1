"""The demo: the whole way once, on scans that it makes or on a folder of labelled ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import files_in, sslfewshot
from SSLFewShotLib import demo
from SSLFewShotLib.imaging.files import read_labels, write_labels
from SSLFewShotLib.imaging.phantoms import write_cohort
from SSLFewShotLib.progress import ignore_progress

SMALL = (14, 12, 13)
PNG = b"\x89PNG\r\n\x1a\n"

pytestmark = pytest.mark.usefixtures("own_store")


@pytest.fixture
def small(monkeypatch) -> None:
    """Few, coarse scans and no pretraining, so that the way is gone in seconds."""
    monkeypatch.setattr(demo, "PATIENTS", 3)
    monkeypatch.setattr(demo, "PHANTOM_SIZE", SMALL)
    monkeypatch.setattr(demo, "LATTICE_SPACING", 30.0)
    monkeypatch.setattr(demo, "_model", lambda *_: "gvdiff")


def the_report_is_whole(output: Path, result: dict, scans: list[str]) -> None:
    report = (output / "report.md").read_text(encoding="utf-8")
    assert result["report"] == str(output / "report.md")
    assert f"**Mean Dice {result['mean_dice']:.3f}**" in report and result["model"] in report
    for picture in ("dice.png", *(f"{scan}.png" for scan in scans)):
        assert f"({picture})" in report and (output / picture).read_bytes().startswith(PNG)
    known = [row["dice"] for row in result["scores"] if row["dice"] is not None]
    assert result["mean_dice"] == pytest.approx(np.mean(known))
    assert {row["query"] for row in result["scores"]} == set(scans)
    assert not any("writing" in name or "training" in name for name in files_in(output))


def test_the_demo_shows_its_result_and_is_only_repeated_when_asked_to(small, tmp_path):
    arguments = ("demo", "--output", tmp_path / "demo", "--device", "cpu")
    outcome = sslfewshot(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    the_report_is_whole(tmp_path / "demo", outcome.result, ["phantom_001", "phantom_002"])
    labels = read_labels(tmp_path / "demo" / "segmentations" / "phantom_001_ct_seg.seg.nrrd")
    assert [segment.name for segment in labels.segments][:2] == ["Liver", "Spleen"]
    assert "not empty; overwrite it, or choose another" in sslfewshot(*arguments).error
    again = sslfewshot(*arguments, "--overwrite", "--seed", "1")
    assert again.code == 0 and again.out.startswith("mean Dice 0.")
    assert again.out.endswith(f"open {tmp_path / 'demo' / 'report.md'}\n")


def test_the_demos_progress_runs_from_nothing_to_all(small, tmp_path, monkeypatch):
    reports = []
    demo.run_demo(tmp_path / "demo", progress=lambda *report: reports.append(report))
    fractions = [fraction for fraction, _ in reports]
    assert fractions[0] == 0.0 and fractions == sorted(fractions) and fractions[-1] == 1.0


def test_a_scan_that_cannot_be_segmented_is_left_out_of_the_demo(tmp_path, monkeypatch):
    write_cohort(tmp_path / "scans", 3, size=SMALL)
    bad = tmp_path / "scans" / "phantom_001_ct.nrrd"
    bad.write_bytes(bad.read_bytes()[:1000])
    monkeypatch.setattr(demo, "_model", lambda *_: "gvdiff")
    outcome = sslfewshot("demo", "--data", tmp_path / "scans", "--output", tmp_path / "demo", "--json")
    assert outcome.code == 0, outcome.err
    assert "warning: left out: " in outcome.err and "phantom_001_ct.nrrd" in outcome.err
    the_report_is_whole(tmp_path / "demo", outcome.result, ["phantom_002"])


def test_a_scan_with_nothing_marked_cannot_be_scored(tmp_path, monkeypatch):
    write_cohort(tmp_path, 2, size=SMALL)
    path = tmp_path / "phantom_001.seg.nrrd"
    labels = read_labels(path)
    labels.array[:] = 0
    write_labels(labels, path, overwrite=True)
    monkeypatch.setattr(demo, "_model", lambda *_: "gvdiff")
    outcome = sslfewshot("demo", "--data", tmp_path, "--output", tmp_path / "demo")
    assert "no marked structure in common" in outcome.error


def test_one_labelled_scan_is_not_enough_for_a_demo(tmp_path):
    write_cohort(tmp_path / "scans", 2, labelled=1, size=SMALL)
    outcome = sslfewshot("demo", "--data", tmp_path / "scans", "--output", tmp_path / "demo")
    assert "at least two labelled scans were expected" in outcome.error
    assert not (tmp_path / "demo").exists()


def test_a_model_that_fits_the_users_scans_is_taken_and_else_one_is_made(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(demo, "pretrain", lambda *arguments, **_: made.append(arguments[2]))
    own = tmp_path / "out" / "heatmap-demo"

    def model(name: str, modality: str) -> str | Path:
        folder = tmp_path / name
        write_cohort(folder, 2, modality=modality, size=SMALL)
        settings = demo.TrainerSettings(minutes=0.01)
        support = demo.find_cases(folder)[0]
        return demo._model(folder, tmp_path / "out", support, False, settings, "cpu", ignore_progress)

    assert model("ct", "CT") == "dense-head-neck-ct" and model("mr", "MR") == "any-modality" and not made
    monkeypatch.setattr(demo, "fitting_models", lambda *_: [])
    assert model("none", "MR") == own and made == [own]


@pytest.mark.slow
def test_the_demo_is_good_after_three_seconds_of_pretraining(tmp_path):
    outcome = sslfewshot("demo", "--minutes", "0.05", "--output", tmp_path / "demo", "--json")
    assert outcome.code == 0, outcome.err
    the_report_is_whole(tmp_path / "demo", outcome.result, ["phantom_001", "phantom_002"])
    assert outcome.result["model"] == "heatmap-demo" and len(outcome.result["scores"]) == 2 * 7
    card = json.loads((tmp_path / "demo" / "heatmap-demo" / "card.json").read_text(encoding="utf-8"))
    assert card["training"]["data"][0]["source"] == "made by sslfewshot demo"
    assert outcome.result["mean_dice"] > 0.4


@pytest.mark.slow
def test_the_demo_runs_on_a_folder_of_labelled_scans(tmp_path):
    write_cohort(tmp_path / "scans", 3, modality="MR", size=(24, 20, 22))
    arguments = ("demo", "--data", tmp_path / "scans", "--minutes", "0.05", "--output", tmp_path / "demo")
    outcome = sslfewshot(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    the_report_is_whole(tmp_path / "demo", outcome.result, ["phantom_001", "phantom_002"])
    assert outcome.result["mean_dice"] > 0.2  # voxels of 16 mm: it is about running, not about quality
