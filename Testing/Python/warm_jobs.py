"""Jobs on three patients for a worker that keeps what it has loaded."""

from pathlib import Path

from SSLFewShotLib.segmentation.job import SegmentationJob


def pair(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    return folder / f"pt_{seed}_ct.nrrd", folder / f"pt_{seed}.seg.nrrd"


def a_job(scans: Path, output: Path, seed: int = 1, **changes) -> SegmentationJob:
    values = {"targets": [scans / f"pt_{seed}_ct.nrrd"], "supports": [pair(scans)], "output": output}
    return SegmentationJob(**{**values, "overwrite": True, "method": "box", "format": "seg.nrrd", **changes})
