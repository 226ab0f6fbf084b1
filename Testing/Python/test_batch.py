"""A folder of scans: summed up at the end, and not stopped by one failure."""

import csv
import shutil
import time
from pathlib import Path

import pytest
from command_line import QUICK, sslfewshot
from folder_jobs import a_job, report_in, write_scans
from SSLFewShotLib.errors import InputWarning
from SSLFewShotLib.segmentation import job as job_module
from SSLFewShotLib.segmentation.batch_report import BatchReport, summary
from SSLFewShotLib.segmentation.job import run

COUNT = 4


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Not to be changed."""
    return write_scans(tmp_path_factory.mktemp("scans"), COUNT)


# Failures


def test_an_error_that_nobody_foresaw_costs_one_scan_and_not_the_rest(scans, tmp_path, monkeypatch):
    plain = job_module.read_volume

    def read(path, *rest):
        if path.name == "pt_3_ct.nrrd":
            raise RuntimeError("the disk\nis on fire")
        return plain(path, *rest)

    monkeypatch.setattr(job_module, "read_volume", read)
    with pytest.warns(InputWarning, match="failed unexpectedly"):
        report = run(a_job(scans, tmp_path / "out"))
    failed = [entry for entry in report["targets"] if "error" in entry]
    assert [entry["image"] for entry in failed] == ["pt_3_ct.nrrd"]
    assert "RuntimeError: the disk is on fire; test_batch.py, line" in failed[0]["error"]
    assert report["summary"]["done"] == COUNT - 1 and report["summary"]["failed"] == 1


# Summary


def test_the_summary_tells_each_segments_mean_over_the_scans_where_it_counts():
    entries = [
        {"image": "a", "seconds": 1.0, "volumes_ml": {"Liver": 10.0, "Aorta": 2.0},
         "mean_confidence": {"Liver": 0.9, "Aorta": 0.5}},
        {"image": "b", "error": "cut short"},
        {"image": "c", "seconds": 3.0, "volumes_ml": {"Liver": 30.0, "Aorta": 0.0},
         "mean_confidence": {"Liver": 0.7}},
    ]  # fmt: skip
    told = summary(entries, ["taken over", "failed", "done"])
    assert (told["scans"], told["done"], told["failed"], told["taken_over"]) == (3, 1, 1, 1)
    assert told["seconds"] == 4.0
    assert told["segments"] == {
        "Liver": {"found_in": 2, "mean_volume_ml": 20.0, "mean_confidence": 0.8},
        "Aorta": {"found_in": 1, "mean_volume_ml": 1.0, "mean_confidence": 0.5},
    }
    assert told["rows"][1] == {"image": "b", "status": "failed", "seconds": None}


def test_the_command_ends_with_a_table_and_writes_it_for_spreadsheets(scans, tmp_path):
    folder = shutil.copytree(scans / "all", tmp_path / "all")
    (folder / "pt_2_ct.nrrd").write_bytes(b"NRRD0004\n")
    outcome = sslfewshot(
        "segment", folder, "--support", scans / "support_ct.nrrd", scans / "support.seg.nrrd",
        "--output", tmp_path / "out", *QUICK,
    )  # fmt: skip
    assert outcome.code == 2
    lines = outcome.out.splitlines()
    assert lines[1].startswith("pt_2_ct.nrrd: ")
    assert lines[COUNT] == "" and lines[COUNT + 1].split("  ")[0] == "segment"
    assert lines[COUNT + 2].split()[:4] == ["Liver", "3", "of", "3"]
    assert lines[-1].startswith("4 scans: 3 done, 1 failed, 0 taken over")
    report = report_in(tmp_path / "out")
    with open(tmp_path / "out" / "summary.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["done", "failed", "done", "done"]
    assert "error" in report["targets"][1] and rows[1]["error"] == report["targets"][1]["error"]
    assert float(rows[0]["Liver ml"]) == report["targets"][0]["volumes_ml"]["Liver"]
    assert float(rows[0]["Liver confidence"]) == report["targets"][0]["mean_confidence"]["Liver"]
    mean = sum(float(row["Liver ml"]) for row in rows if row["Liver ml"]) / 3
    assert report["summary"]["segments"]["Liver"]["mean_volume_ml"] == pytest.approx(mean, abs=1e-3)


def test_the_five_hundredth_entry_is_written_about_as_fast_as_the_first(tmp_path):
    names = [f"scan_{number:03d}" for number in range(500)]
    report = BatchReport(tmp_path, {"made_by": "a test"}, names)
    values = {f"Segment {n}": 1.5 for n in range(20)}
    times = []
    for name in names:
        begun = time.perf_counter()
        report.add(name, {"image": name, "seconds": 1.0, "volumes_ml": values, "mean_confidence": values})
        times.append(time.perf_counter() - begun)
    assert sorted(times[-50:])[25] < 0.05
    assert report_in(tmp_path) == report.as_dict()
    assert report.finish() == report_in(tmp_path) and report_in(tmp_path)["summary"]["done"] == 500
