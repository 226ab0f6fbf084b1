"""A folder of scans to segment after one more that is marked, and what came of it."""

import json
from pathlib import Path

from command_line import write_patient
from SSLFewShotLib.segmentation import job as job_module
from SSLFewShotLib.segmentation.job import SegmentationJob

SETTINGS = {"spacing": 30.0, "per_segment": 60, "background": 300}
"""So few and so far between that a scan takes no time."""


def write_scans(folder: Path, count: int) -> Path:
    """support_ct with its labels, and a folder "all" of so many scans, pt_1 first."""
    write_patient(folder, 0, "support")
    (folder / "all").mkdir()
    for seed in range(1, count + 1):
        write_patient(folder / "all", seed, labelled=False)
    return folder


def a_job(scans: Path, output: Path, **changes) -> SegmentationJob:
    """The quickest job on all scans."""
    given = {
        "targets": [scans / "all"],
        "supports": [(scans / "support_ct.nrrd", scans / "support.seg.nrrd")],
        "output": output,
        "model": "gvdiff",
        "settings": SETTINGS,
        "device": "cpu",
        **changes,
    }
    return SegmentationJob(**given)


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


def report_in(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def computed(monkeypatch) -> list[str]:
    """The scans that are read from now on."""
    read, plain = [], job_module._segment_one

    def noting(job, name, *rest):
        read.append(name)
        return plain(job, name, *rest)

    monkeypatch.setattr(job_module, "_segment_one", noting)
    return read
