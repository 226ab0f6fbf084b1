"""A worker that shares no disk: models, maps and boxes travel as scans and results do."""

import json
import os

import numpy as np
import pytest
import SimpleITK
from command_line import files_in
from remote_place import pair, place, posix_only
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.files import read_volume
from SSLFewShotLib.models import ModelStore
from SSLFewShotLib.worker.client import WorkerError

pytestmark = posix_only
__all__ = ["place"]


def test_models_go_to_the_worker_and_come_back(place, tmp_path):
    place.asked.clear()
    archive = tmp_path / "my dense model.zip"
    asked = {"name": "reg2d-head-neck-ct", "archive": str(archive)}
    assert place.jobs.run("models/export", asked) == {"archive": str(archive)}
    assert ModelStore(tmp_path / "store").import_archive(archive, name="mine").card.method == "reg2d"
    with pytest.raises(InputError, match=r"my dense model\.zip: the output exists already"):
        place.jobs.run("models/export", asked)
    with pytest.raises(WorkerError, match=r"my dense model\.zip: its name reg2d-head-neck-ct is") as taken:
        place.jobs.run("models/import", {"archive": str(archive)})
    assert taken.value.data["free"] == "reg2d-head-neck-ct-2"
    name = f"carried-{os.getpid()}"
    try:
        assert place.jobs.run("models/import", {"archive": str(archive), "name": name})["name"] == name
    finally:
        place.client.request("models/remove", {"name": name}).result()


def test_what_a_descriptor_sees_is_fetched(place, tmp_path):
    image, colours = place.here / "pt_0_ct.nrrd", tmp_path / "colours.nrrd"
    asked = {"image": str(image), "model": "gvdiff", "spacing": 16.0, "output": str(colours)}
    assert place.jobs.run("descriptor/map", asked)["output"] == str(colours)
    assert SimpleITK.ReadImage(str(colours)).GetNumberOfComponentsPerPixel() == 3
    assert place.jobs.run("descriptor/map", asked)["output"] == str(colours), "a picture is made anew"
    volume, alike_there = read_volume(image), tmp_path / "alike.nrrd"
    point = volume.points_from_indices(np.array([[n / 2 for n in volume.size]]))[0]
    answer = place.jobs.run(
        "descriptor/similarity",
        {"support_image": str(image), "point": point.tolist(), "target": str(place.here / "pt_1_ct.nrrd"),
         "model": "gvdiff", "spacing": 16.0, "output": str(alike_there)},
    )  # fmt: skip
    assert -1 <= answer["similarity"] <= 1 and read_volume(alike_there).array.max() <= 1


def test_a_box_is_found_elsewhere_as_here(place, tmp_path):
    asked = {"supports": [pair(place.here)], "targets": [str(place.here / "pt_1_ct.nrrd")], "model": "gvdiff"}
    answer = place.jobs.run("localise", {**asked, "output": str(tmp_path / "there"), "segment_boxes": True})
    (entry,) = answer["targets"]
    files = [name for name in (entry["file"], *(part["file"] for part in entry["segments"])) if name]
    assert entry["found"] and len(files) > 1
    assert files_in(tmp_path / "there") == sorted([*files, "report.json"])
    assert json.loads((tmp_path / "there" / "report.json").read_text())["targets"] == answer["targets"]
