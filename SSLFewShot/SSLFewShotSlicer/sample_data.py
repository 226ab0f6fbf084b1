"""Two made torsos to try the module on, the first one marked: nothing has to be downloaded.

The library makes them in the Python that computes (the application's own may lack scipy), once; afterwards they
are taken from Slicer's cache.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer import compatibility
from SSLFewShotSlicer.bridge import add_volume, place_result, read_result
from SSLFewShotSlicer.bridge.nrrd import NrrdImage, read_nrrd

CATEGORY = "SSLFewShot"
SAMPLE_NAME = "SSLFewShotTorsos"
_SEED = 2026
_SECONDS = 120.0
_NAMES = ("Torso 1", "Torso 2")
# As SSLFewShotLib.imaging.phantoms.write_cohort calls them.
_FILES = (("phantom_000_ct.nrrd", "phantom_000.seg.nrrd"), ("phantom_001_ct.nrrd", "phantom_001.seg.nrrd"))
_MAKE = (
    "import sys\nfrom SSLFewShotLib.imaging.phantoms import write_cohort\n"
    f"write_cohort(sys.argv[1], 2, seed={_SEED}, overwrite=True)"
)


@dataclass(frozen=True)
class Sample:
    """The nodes of the sample.

    support: (volume, segmentation); target: volume; truth: its segmentation, hidden.
    """

    support: tuple[Any, Any]
    target: Any
    truth: Any


def register() -> None:
    """List the sample in the module Sample Data; its button makes and loads it."""
    folder = sample_folder()
    images = [folder / image for image, _segmentation in _FILES]
    compatibility.register_sample(
        category=CATEGORY,
        title="SSLFewShot",
        sampleName=SAMPLE_NAME,
        # Where the files lie once they are made; the download by name alone works from then on.
        uris=[image.as_uri() for image in images],
        fileNames=[f"{SAMPLE_NAME}-{image.name}" for image in images],
        nodeNames=list(_NAMES),
        customDownloader=lambda _source: load_sample(),
        thumbnailFileName=str(compatibility.MODULE_FOLDER / "Resources" / "Icons" / "SSLFewShotSample.png"),
    )


def load_sample() -> Sample:
    """Put both torsos into the scene: the first with its marks, the second with its true segments, hidden.

    Raises InputError, with what to do, when they cannot be made.
    """
    folder = make_sample()
    volumes, segmentations = [], []
    for name, (image, segmentation) in zip(_NAMES, _FILES):
        volumes.append(_add_volume(read_nrrd(folder / image), name))
        result = read_result(folder / segmentation)
        title = _("{scan} marked") if name == _NAMES[0] else _("{scan} truth")
        placed = place_result(result, volumes[-1], name=title.format(scan=volumes[-1].GetName()))
        segmentations.append(slicer.mrmlScene.GetNodeByID(placed.segmentation_id))
    segmentations[1].GetDisplayNode().SetVisibility(False)
    return Sample((volumes[0], segmentations[0]), volumes[1], segmentations[1])


def sample_folder() -> Path:
    """Where the files of the sample lie: in Slicer's cache."""
    manager = slicer.mrmlScene.GetCacheManager()
    cache = manager.GetRemoteCacheDirectory() if manager is not None else ""
    return Path(cache or tempfile.gettempdir()).absolute() / f"SSLFewShot-torsos-{_SEED}"


def make_sample() -> Path:
    """Make the files, unless they are there; returns their folder. Slicer stays usable meanwhile.

    Raises InputError when the Python that computes lacks a package, cannot be started, or cannot write there.
    """
    folder = sample_folder()
    files = [folder / name for names in _FILES for name in names]
    if all(file.is_file() for file in files):
        return folder
    log = _run(_MAKE, str(folder))
    if not all(file.is_file() for file in files):
        raise InputError(_explained(log, folder))
    return folder


def _run(code: str, *arguments: str) -> str:
    """Run code in the Python that computes; returns what it wrote when it failed, "" when it did well."""
    environment = dict(os.environ)
    for name, value in compatibility.worker_environment().items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    command = [compatibility.worker_python(), "-c", code, *arguments]
    # On Windows a console window would flash up.
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=str(compatibility.MODULE_FOLDER),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            creationflags=flags,
        )
    except OSError as error:
        return f"{command[0]}: {error.strerror or error}"
    with process:
        if not compatibility.wait_for(lambda: process.poll() is not None, _SECONDS):
            process.kill()
            return f"not done after {_SECONDS:.0f} s"
        return process.stderr.read() if process.returncode else ""


def _explained(log: str, folder: Path) -> str:
    lines = [line for line in log.strip().splitlines() if line.strip()]
    last = lines[-1].strip() if lines else _("no reason was given")
    if "ModuleNotFoundError" in last or "ImportError" in last:
        return _(
            "The sample could not be made, a package is missing ({reason}): open Setup and install it"
        ).format(reason=last)
    return _("The sample could not be made in {folder}: {reason}").format(folder=folder, reason=last)


def _add_volume(image: NrrdImage, name: str):
    """A volume node of what a file holds."""
    node = add_volume("vtkMRMLScalarVolumeNode", name, image.array, image.ijk_to_ras)
    units = slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    node.SetVoxelValueUnits(units)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(400, 40)
    return node
