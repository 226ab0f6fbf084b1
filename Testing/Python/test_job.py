"""A segmentation job as a program calls it: what it reads, reports and refuses."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from command_line import files_in, patient
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning, OutputError
from SSLFewShotLib.imaging import LabelMap
from SSLFewShotLib.imaging.files import read_labels, write_labels
from SSLFewShotLib.outputs import write_text, written_atomically
from SSLFewShotLib.segmentation.job import SegmentationJob, run
from SSLFewShotLib.segmentation.support_files import read_support


def a_job(scans: Path, output: Path, *seeds: int, **changes) -> SegmentationJob:
    targets = [scans / f"pt_{seed}_ct.nrrd" for seed in seeds or (1,)]
    supports = [(scans / "pt_0_ct.nrrd", scans / "pt_0.seg.nrrd")]
    return SegmentationJob(
        **{"targets": targets, "supports": supports, "output": output, "method": "box", **changes}
    )


def test_the_report_tells_what_was_done_with_what(scans, tmp_path):
    report = run(a_job(scans, tmp_path / "out", 1, 2))
    assert report == json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["segmenter"]["method"] == "box" and report["device"] in ("cpu", "cuda", "mps")
    assert {"sslfewshot", "python", "torch", "numpy"} <= report["made_by"]["versions"].keys()
    assert report["made_by"]["date"].endswith("Z")
    assert [target["image"] for target in report["targets"]] == ["pt_1_ct.nrrd", "pt_2_ct.nrrd"]
    assert all(target["seconds"] >= 0 for target in report["targets"])
    assert str(tmp_path) not in json.dumps(report) and str(scans) not in json.dumps(report)


def test_only_the_segments_that_are_wanted_come_out_numbered_from_1(scans, tmp_path):
    job = a_job(scans, tmp_path / "out", segment_names=["Aorta", "Spleen"], format="seg.nrrd")
    report = run(job)
    assert {segment["name"]: segment["value"] for segment in report["segments"]} == {"Spleen": 1, "Aorta": 2}
    written = read_labels(tmp_path / "out" / "pt_1_ct_seg.seg.nrrd")
    assert [segment.name for segment in written.segments] == ["Spleen", "Aorta"]


def test_progress_runs_from_nothing_to_all(scans, tmp_path):
    reports = []
    run(a_job(scans, tmp_path / "out", 1, 2), lambda *report: reports.append(report))
    fractions = [fraction for fraction, _ in reports]
    assert fractions[0] == 0.0 and fractions == sorted(fractions) and fractions[-1] == 1.0
    assert reports[-1][1] == "segmented 2 of 2 scans"


def test_a_job_can_be_cancelled_in_every_stage_and_leaves_whole_results_only(scans, tmp_path):
    reports = []
    run(a_job(scans, tmp_path / "all", 1, 2), lambda *report: reports.append(report))
    half = [message for fraction, message in reports if fraction > 0.5]
    stages = [(message, begin) for begin in (0.0, 0.5) for message in dict.fromkeys(m for _, m in reports[:-1])]
    for number, (stage, begin) in enumerate(stages):
        if begin and stage not in half:
            continue
        out = tmp_path / str(number)

        def cancel(fraction, message, stage=stage, begin=begin):
            if message == stage and fraction >= begin:
                raise Cancelled

        with pytest.raises(Cancelled):
            run(a_job(scans, out, 1, 2), cancel)
        written = files_in(out)
        assert len(written) in (0, 3, 5) and not any("writing" in name for name in written)
        if written:
            report = json.loads((out / "report.json").read_text(encoding="utf-8"))
            assert len(report["targets"]) == len(written) // 2


def test_who_cancels_when_all_is_written_gets_the_result(scans, tmp_path):
    def cancel(fraction, message):
        if message.startswith("segmented"):
            raise Cancelled

    report = run(a_job(scans, tmp_path / "out", 1), cancel)
    files = [*(report["targets"][0][key] for key in ("segmentation", "confidence")), "report.json"]
    assert files_in(tmp_path / "out") == sorted(files)


def test_what_has_failed_is_reported_beside_what_was_done(scans, tmp_path):
    bad = tmp_path / "bad.nrrd"
    bad.write_bytes((scans / "pt_1_ct.nrrd").read_bytes()[:2000])
    job = a_job(scans, tmp_path / "out", targets=[bad, scans / "pt_1_ct.nrrd"])
    with pytest.warns(InputWarning, match=r"left out: .*bad\.nrrd"):
        report = run(job)
    assert "cut short" in report["targets"][0]["error"] and "segmentation" in report["targets"][1]


def test_a_full_disk_ends_the_job_and_keeps_what_was_finished(scans, tmp_path, monkeypatch):
    from SSLFewShotLib.segmentation import job as module

    def fail(volume, path, **rest):
        if "pt_2" in path.name:
            raise OutputError(28, f"{path}: no space left on the disk")
        plain(volume, path, **rest)

    plain = module.write_volume
    monkeypatch.setattr(module, "write_volume", fail)
    with pytest.raises(OutputError) as caught:
        run(a_job(scans, tmp_path / "out", 1, 2))
    assert caught.value.strerror == f"{tmp_path / 'out' / 'pt_2_ct_confidence.nii.gz'}: no space left on the disk"
    assert files_in(tmp_path / "out") == ["pt_1_ct_confidence.nii.gz", "pt_1_ct_seg.nii.gz", "report.json"]


def test_nothing_is_read_before_the_outputs_are_known_to_be_free(scans, tmp_path):
    (tmp_path / "pt_2_ct_seg.nii.gz").touch()
    job = a_job(scans, tmp_path, 1, 2, supports=[(Path("nowhere.nrrd"), Path("nowhere.nrrd"))])
    with pytest.raises(InputError, match=r"pt_2_ct_seg\.nii\.gz: the output exists already"):
        run(job)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"targets": []}, "no target was given"),
        ({"supports": []}, "no support was given"),
        ({"format": "png"}, "one of nii.gz, nrrd, seg.nrrd was expected"),
        ({"method": "magic"}, "not known"),
        ({"method": "knn", "model": "nothing"}, "no model of this name"),
        ({"device": "warp"}, "device 'warp'"),
        ({"segment_names": ["Pancreas"]}, "Pancreas"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused(changes, reason, scans, tmp_path):
    with pytest.raises(InputError, match=reason):
        run(a_job(scans, tmp_path / "out", **changes))
    assert files_in(tmp_path) == []


def test_layers_that_hold_no_two_wanted_segments_need_no_special_format(scans, tmp_path):
    volume, labels = patient(0)
    masks = {"Liver": labels.mask("Liver"), "Torso": labels.array > 0}
    write_labels(LabelMap.from_masks(volume, masks, labels.segments), tmp_path / "both.seg.nrrd")
    supports = [(scans / "pt_0_ct.nrrd", tmp_path / "both.seg.nrrd")]
    with pytest.raises(InputError, match="overlap"):
        run(a_job(scans, tmp_path / "out", supports=supports))
    report = run(a_job(scans, tmp_path / "out", supports=supports, segment_names=["Liver"]))
    assert [segment["name"] for segment in report["segments"]] == ["Liver"]


def test_a_support_keeps_its_names_and_is_on_the_grid_of_its_image(scans):
    support = read_support([(scans / f"pt_{n}_ct.nrrd", scans / f"pt_{n}.seg.nrrd") for n in (0, 1)])
    assert len(support) == 2 and len(support.segments) == 7
    for (volume, labels), seed in zip(support, (0, 1), strict=True):
        assert labels.same_grid(volume)
        np.testing.assert_array_equal(labels.mask("Spleen"), patient(seed)[1].mask("Spleen"))


def test_no_warning_is_given_when_nothing_is_odd(scans, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        run(a_job(scans, tmp_path / "out"))


# Writing


def test_what_is_written_within_another_writing_is_named_as_the_user_knows_it(tmp_path):
    path = tmp_path / "result.txt"
    with pytest.raises(OutputError) as caught, written_atomically(path) as outer, written_atomically(outer):
        raise PermissionError(13, "Permission denied")
    assert caught.value.strerror.startswith(f"{tmp_path / 'result.txt'}: not allowed to write here")
    assert files_in(tmp_path) == []


def test_a_text_with_a_name_that_is_no_unicode_can_be_written(tmp_path):
    name = b"M\xfcller".decode("utf-8", "surrogateescape")
    write_text(tmp_path / "report.json", json.dumps({"image": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == {"image": name}


@pytest.mark.parametrize("error", [KeyboardInterrupt, Cancelled, ValueError])
def test_whatever_interrupts_a_writing_the_old_file_stays(error, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("old")
    with pytest.raises(error), written_atomically(path) as temporary:
        temporary.write_text("half")
        raise error
    assert files_in(tmp_path) == ["text.txt"] and path.read_text() == "old"
