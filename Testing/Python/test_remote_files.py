"""A worker that shares no disk: models, maps and boxes travel as scans and results do."""

import json
import os

import numpy as np
import pytest
import SimpleITK
from command_line import files_in, patient
from remote_place import pair, place, posix_only
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.files import read_volume
from SSLFewShotLib.imaging.roi_files import write_roi
from SSLFewShotLib.localisation import crop_job
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


BOX = Box.of_grid(patient(0)[0], (5, 5, 5), (8, 7, 6))


def test_scans_are_cropped_elsewhere_as_here(place, tmp_path):
    targets = [place.here / f"pt_{seed}_ct.nrrd" for seed in (1, 2)]
    asked = {"targets": [str(path) for path in targets], "margin": 20.0, "format": "nii.gz"}
    here = crop_job.run(crop_job.CropJob(targets, tmp_path / "here", [BOX], margin=20.0, format="nii.gz"))
    write_roi(BOX, tmp_path / "one.mrk.json")
    for number, box in enumerate(({"boxes": [BOX.to_dict()]}, {"box_file": str(tmp_path / "one.mrk.json")})):
        out = tmp_path / f"there-{number}"
        answer = place.jobs.run("crop", {**asked, **box, "output": str(out)})
        assert [entry["crop"] for entry in answer["targets"]] == [entry["crop"] for entry in here["targets"]]
        assert files_in(out) == files_in(tmp_path / "here")
        for name in ("pt_1_ct_cropped.nii.gz", "pt_2_ct_cropped.nii.gz"):
            cropped, expected = read_volume(out / name), read_volume(tmp_path / "here" / name)
            assert np.array_equal(cropped.array, expected.array) and cropped.same_grid(expected)
        assert json.loads((out / "report.json").read_text())["targets"] == answer["targets"]


def test_a_folder_of_boxes_goes_to_the_scans_whose_names_cannot_travel(place, tmp_path):
    scan = tmp_path / "pt:7_ct.nrrd"
    scan.write_bytes((place.here / "pt_1_ct.nrrd").read_bytes())
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    asked = {"targets": [str(scan), str(place.here / "pt_2_ct.nrrd")], "box_file": str(boxes)}
    with pytest.raises(InputError, match="no box lies in this folder"):
        place.jobs.run("crop", {**asked, "output": str(tmp_path / "out")})
    write_roi(BOX, boxes / "pt:7_ct_box.mrk.json")
    place.asked.clear()
    first, second = place.jobs.run("crop", {**asked, "output": str(tmp_path / "out")})["targets"]
    assert first["cropped"] == "pt:7_ct_cropped.nrrd"
    assert files_in(tmp_path / "out") == ["pt:7_ct_cropped.nrrd", "report.json"]
    assert second["error"].startswith(str(boxes / "pt_2_ct_box.mrk.json")), "named as it is called here"
    sent_to = next(params["box_file"] for method, params in place.asked if method == "crop")
    assert ("files/remove", {"path": sent_to}) in place.asked


def test_a_crop_brought_from_elsewhere_never_replaces_a_scan(place, tmp_path):
    for name in ("a.nrrd", "a_cropped.nrrd"):
        (tmp_path / name).write_bytes((place.here / "pt_1_ct.nrrd").read_bytes())
    asked = {"targets": [str(tmp_path)], "boxes": [BOX.to_dict()], "output": str(tmp_path), "overwrite": True}
    with pytest.raises(InputError, match=r"a_cropped\.nrrd: is a scan or its labels"):
        place.jobs.run("crop", asked)
    assert (tmp_path / "a_cropped.nrrd").read_bytes() == (place.here / "pt_1_ct.nrrd").read_bytes()
    assert files_in(tmp_path) == ["a.nrrd", "a_cropped.nrrd"]
