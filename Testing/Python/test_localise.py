"""`sslfewshot localise` and `crop`, and the worker's methods: boxes from a marked scan, reports, bad input."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name it goes by
from command_line import files_in, patient, sslfewshot, write_patient
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.files import read_volume, write_volume
from SSLFewShotLib.imaging.roi_files import read_roi, write_roi
from SSLFewShotLib.localisation import crop_job, job
from worker_process import WORKER, WorkerProcess

GVDIFF = ("--model", "gvdiff", "--device", "cpu")


def truth(seed: int, name: str) -> Box:
    volume, labels = patient(seed)
    ijk = np.argwhere(labels.mask(name))[:, ::-1]
    return Box.of_grid(volume, ijk.min(axis=0), np.ptp(ijk, axis=0) + 1)


def overlap(one: dict, other: Box) -> float:
    """Intersection over union of two boxes along the same axes."""
    low = np.maximum(np.array(one["centre"]) - np.array(one["size"]) / 2, other.centre - other.size / 2)
    high = np.minimum(np.array(one["centre"]) + np.array(one["size"]) / 2, other.centre + other.size / 2)
    common = np.prod(np.maximum(high - low, 0))
    return common / (np.prod(one["size"]) + other.volume - common)


@pytest.fixture(scope="module")
def found(scans, tmp_path_factory):
    output = tmp_path_factory.mktemp("found") / "out"
    support = ("--support", scans / "pt_0_ct.nrrd", scans / "pt_0.seg.nrrd")
    outcome = sslfewshot(
        "localise", scans / "pt_1_ct.nrrd", *support, *GVDIFF, "--output", output, "--segment-boxes", "--json"
    )
    assert outcome.code == 0, outcome.err
    return output, outcome.result


def test_the_box_of_a_marked_structure_lies_where_the_structure_lies(found):
    _, report = found
    (target,) = report["targets"]
    assert target["found"] and 0 < target["certainty"] <= 1
    liver = next(part for part in target["segments"] if part["name"] == "Liver")
    assert liver["found"] and overlap(liver["box"], truth(1, "Liver").grown(10)) > 0.4


def test_a_box_is_a_roi_file_beside_the_report_and_one_for_each_structure_when_wanted(found):
    output, report = found
    (target,) = report["targets"]
    assert json.loads((output / "report.json").read_text()) == report
    box = read_roi(output / target["file"])
    assert np.allclose(box.centre, target["box"]["centre"], atol=1e-3)
    for part in target["segments"]:
        if part["found"]:
            assert (output / part["file"]).name == f"pt_1_ct_{part['name']}_box.mrk.json"
            assert read_roi(output / part["file"]).name == part["name"]


def test_the_report_says_what_a_crop_to_the_box_saves_and_crop_does_so(found, scans, tmp_path):
    output, report = found
    (target,) = report["targets"]
    outcome = sslfewshot("crop", scans / "pt_1_ct.nrrd", "--box", output, "--output", tmp_path / "c", "--json")
    assert outcome.code == 0, outcome.err
    (cropped,) = outcome.result["targets"]
    assert cropped["crop"] == target["crop"] and 0 < cropped["crop"]["saved"] < 1
    small, whole = read_volume(tmp_path / "c" / cropped["cropped"]), read_volume(scans / "pt_1_ct.nrrd")
    first, size = cropped["crop"]["first"], cropped["crop"]["size"]
    part = whole.array[tuple(slice(a, a + n) for a, n in zip(first[::-1], size[::-1], strict=True))]
    assert np.array_equal(small.array, part) and small.array.dtype == whole.array.dtype
    assert np.allclose(small.origin, whole.points_from_indices([first])[0])
    assert files_in(tmp_path / "c") == ["pt_1_ct_cropped.nrrd", "report.json"]


def test_an_empty_scan_is_not_found_and_the_old_box_goes(support, tmp_path):
    volume, _ = patient(1)
    write_volume(volume.with_array(np.zeros_like(volume.array)), tmp_path / "empty.nrrd")
    output = tmp_path / "out"
    write_roi(Box([0, 0, 0], [1, 1, 1]), output / "empty_box.mrk.json")
    refused = sslfewshot("localise", tmp_path / "empty.nrrd", *support, *GVDIFF, "--output", output)
    assert "empty_box.mrk.json: the output exists already" in refused.error
    outcome = sslfewshot(
        "localise", tmp_path / "empty.nrrd", *support, *GVDIFF, "--output", output, "--overwrite", "--json"
    )
    (target,) = outcome.result["targets"]
    assert outcome.code == 0 and target["found"] is False and target["box"] is None and target["crop"] is None
    assert target["reason"].startswith("not found: the scan is empty")
    assert files_in(output) == ["report.json"]


def test_one_broken_scan_is_named_and_does_not_stop_the_others(scans, support, tmp_path):
    broken = tmp_path / "broken.nrrd"
    broken.write_bytes(b"NRRD0004\nrubbish")
    outcome = sslfewshot(
        "localise", scans / "pt_1_ct.nrrd", broken, *support, *GVDIFF, "--output", tmp_path / "o", "--json"
    )
    assert outcome.code == 2
    good, bad = outcome.result["targets"]
    assert good["found"] and "broken.nrrd" in bad["error"]
    alone = sslfewshot("localise", broken, *support, *GVDIFF, "--output", tmp_path / "alone")
    assert "broken.nrrd" in alone.error and not (tmp_path / "alone").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--method", "support"), "needs a marked scan"),
        (("--margin", "1e9"), "a margin of"),
        (("--model", "no-such-model"), "no-such-model"),
        (("--method", "certainty", "--model", "none-such"), "none-such"),
    ],
)
def test_wrong_use_is_refused_in_one_sentence(scans, support, tmp_path, arguments, said):
    given = () if arguments[0] == "--method" else support
    outcome = sslfewshot(
        "localise", scans / "pt_1_ct.nrrd", *given, "--output", tmp_path / "o", "--device", "cpu", *arguments
    )
    assert said in outcome.error and not (tmp_path / "o").exists()


def test_a_crop_with_the_box_of_another_place_is_refused(scans, tmp_path):
    write_roi(Box([9e3, 0, 0], [10, 10, 10]), tmp_path / "far.mrk.json")
    outcome = sslfewshot(
        "crop", scans / "pt_1_ct.nrrd", "--box", tmp_path / "far.mrk.json", "--output", tmp_path / "o"
    )
    assert "lies outside of this scan" in outcome.error
    missing = sslfewshot("crop", scans / "pt_1_ct.nrrd", "--box", tmp_path / "no", "--output", tmp_path / "o")
    assert "no such file or folder" in missing.error


def test_a_crop_never_replaces_the_scan_itself(tmp_path):
    volume, _ = patient(0)
    write_volume(volume, tmp_path / "a_cropped.nrrd")
    write_volume(volume, tmp_path / "a.nrrd")
    task = crop_job.CropJob([tmp_path], tmp_path, boxes=[Box.of_grid(volume)], overwrite=True)
    with pytest.raises(InputError, match="is a scan, and would be overwritten"):
        crop_job.run(task)


def test_several_scans_take_one_box_or_one_each(tmp_path, scans):
    targets = [scans / f"pt_{number}_ct.nrrd" for number in range(3)]
    box = Box.of_grid(patient(0)[0], (5, 5, 5), (8, 8, 8))
    with pytest.raises(InputError, match="2 boxes for 3 scans"):
        crop_job.run(crop_job.CropJob(targets, tmp_path / "two", boxes=[box, box]))
    report = crop_job.run(crop_job.CropJob(targets, tmp_path / "one", boxes=[box], margin=20.0, format="nii.gz"))
    assert len(report["targets"]) == 3
    assert all(entry["cropped"].endswith("_cropped.nii.gz") for entry in report["targets"])


def test_two_scans_of_one_name_are_cropped_into_different_folders_only(tmp_path, scans):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "pt_1_ct.nrrd"
    twin.write_bytes((scans / "pt_1_ct.nrrd").read_bytes())
    task = crop_job.CropJob([scans / "pt_1_ct.nrrd", twin], tmp_path / "o", boxes=[Box.of_grid(patient(0)[0])])
    with pytest.raises(InputError, match="same name") as refused:
        crop_job.run(task)
    assert str(twin) in str(refused.value) and str(scans / "pt_1_ct.nrrd") in str(refused.value)
    assert not (tmp_path / "o").exists()


def test_a_scan_that_cannot_be_cropped_is_named_in_the_report_and_does_not_stop_the_rest(tmp_path, scans):
    broken = tmp_path / "broken.nrrd"
    broken.write_bytes(b"NRRD0004\n")
    targets = [broken, scans / "pt_1_ct.nrrd"]
    task = crop_job.CropJob(targets, tmp_path / "o", boxes=[Box.of_grid(patient(0)[0])])
    with pytest.warns(InputWarning, match=r"left out: .*broken"):
        report = crop_job.run(task)
    first, second = report["targets"]
    assert "broken.nrrd" in first["error"] and second["cropped"] == "pt_1_ct_cropped.nrrd"
    assert json.loads((tmp_path / "o" / "report.json").read_text()) == report
    with pytest.warns(InputWarning), pytest.raises(InputError, match="none of the 2 scans"):
        (tmp_path / "bad.nrrd").write_bytes(b"NRRD0004\n")
        crop_job.run(replace(task, targets=[broken, tmp_path / "bad.nrrd"], output=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_cancelled_localisation_keeps_the_boxes_that_were_finished(scans, tmp_path):
    def cancel(fraction, message):
        if fraction > 0.7:
            raise Cancelled

    task = job.LocalisationJob(
        [scans / "pt_1_ct.nrrd", scans / "pt_2_ct.nrrd"],
        tmp_path / "o",
        model="gvdiff",
        supports=[(scans / "pt_0_ct.nrrd", scans / "pt_0.seg.nrrd")],
        device="cpu",
    )
    with pytest.raises(Cancelled):
        job.run(task, cancel)
    assert files_in(tmp_path / "o") == ["pt_1_ct_box.mrk.json", "report.json"]
    assert len(json.loads((tmp_path / "o" / "report.json").read_text())["targets"]) == 1


def test_structures_with_odd_names_get_files_of_their_own():
    used = set()
    names = [job._in_file_name(job.Part(name, None, 0.0), used) for name in ("a/b", "a b", "A_B", "…", "")]
    assert names == ["a_b", "a_b_2", "A_B_3", "segment", "segment_2"]


def test_the_worker_finds_and_crops_from_a_support_that_was_set(scans, tmp_path):
    with WorkerProcess(tmp_path / "temporary", WORKER) as worker:
        pair = {"image": str(scans / "pt_0_ct.nrrd"), "labels": str(scans / "pt_0.seg.nrrd")}
        content = worker.ask("support/set", supports=[pair])["result"]["support"]
        target = str(scans / "pt_1_ct.nrrd")
        answer = worker.ask(
            "localise", targets=[target], support=content, model="gvdiff", output=str(tmp_path / "o"), device="cpu"
        )
        found = answer["result"]
        assert found["targets"][0]["found"] and found["warm"] == {"support": True}
        assert json.loads((tmp_path / "o" / "report.json").read_text())["targets"] == found["targets"]
        box = found["targets"][0]["box"]
        cropped = worker.ask("crop", targets=[target], boxes=[box], output=str(tmp_path / "c"))["result"]
        assert cropped["targets"][0]["crop"] == found["targets"][0]["crop"]
        assert read_volume(tmp_path / "c" / "pt_1_ct_cropped.nrrd").size == tuple(
            found["targets"][0]["crop"]["size"]
        )


@pytest.mark.parametrize(
    ("method", "params", "said"),
    [
        ("localise", {}, "either 'support' or 'supports'"),
        ("localise", {"method": "certainty", "support": "abc"}, "goes with method 'support'"),
        ("localise", {"method": "guess"}, "one of support"),
        ("crop", {}, "either 'boxes' or 'box_file'"),
    ],
)
def test_the_worker_says_which_parameter_is_wrong(tmp_path_factory, method, params, said):
    from SSLFewShotLib.worker.handler import Context, checked
    from SSLFewShotLib.worker.localise_methods import HANDLERS
    from SSLFewShotLib.worker.protocol import INVALID_PARAMS, ProtocolError
    from SSLFewShotLib.worker.warm import Warm

    handler = HANDLERS[method]
    context = Context(lambda *_: None, tmp_path_factory.getbasetemp(), Warm(), lambda *_: None)
    with pytest.raises(ProtocolError, match=said) as problem:
        handler.run(checked({"targets": ["a.nrrd"], "output": "o", **params}, handler.params), context)
    assert problem.value.code == INVALID_PARAMS


def test_a_folder_of_tiff_slices_is_cropped_like_any_scan(tmp_path, rng):
    stack = tmp_path / "specimen"
    stack.mkdir()
    voxels = rng.integers(0, 60_000, (9, 20, 30)).astype(np.uint16)
    for number, plane in enumerate(voxels):
        sitk.WriteImage(sitk.GetImageFromArray(plane), str(stack / f"s{number}.tif"))
    write_roi(Box([10, 8, 4], [6, 8, 4]), tmp_path / "specimen_box.mrk.json")
    outcome = sslfewshot("crop", stack, "--box", tmp_path, "--output", tmp_path / "o", "--json")
    assert outcome.code == 0, outcome.err
    assert "cubes of 1 mm" in outcome.err
    (entry,) = outcome.result["targets"]
    assert entry["image"] == "specimen" and entry["crop"]["first"] == [7, 4, 2]
    assert np.array_equal(read_volume(tmp_path / "o" / entry["cropped"]).array, voxels[2:7, 4:13, 7:14])


def test_a_scan_of_another_modality_than_the_support_is_looked_through_with_a_warning(support, tmp_path):
    image, _ = write_patient(tmp_path, 1, modality="MR", ending="_mr.nrrd")
    outcome = sslfewshot("localise", image, *support, *GVDIFF, "--output", tmp_path / "o")
    assert outcome.code == 0, outcome.err
    assert "looks like MR, the support like CT" in outcome.err


def test_a_worker_finds_the_same_box_as_this_process(found, scans, support, tmp_path):
    _, report = found
    command = f"{sys.executable} -m SSLFewShotLib.worker"
    target = scans / "pt_1_ct.nrrd"
    outcome = sslfewshot(
        "localise", target, *support, *GVDIFF, "--output", tmp_path, "--worker", command, "--json"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.result["targets"][0]["box"] == report["targets"][0]["box"]
    assert json.loads((tmp_path / "report.json").read_text())["targets"][0]["found"]
