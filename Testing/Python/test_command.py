"""The command from end to end: what it prints, what it writes, and how it ends."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from command_line import BOX, COARSE, QUICK, dice, files_in, finished, patient, sslfewshot, started, write_patient
from SSLFewShotLib import __version__
from SSLFewShotLib.cli.console import ConsoleProgress
from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.imaging import LabelMap
from SSLFewShotLib.imaging.files import read_labels, read_volume, write_labels

pytestmark = pytest.mark.usefixtures("own_store")


# Help


def test_help_names_every_command_and_what_exit_codes_mean():
    outcome = sslfewshot("--help")
    assert outcome.code == 0 and outcome.err == ""
    for name in ("segment", "pretrain", "models", "evaluate", "demo", "--version", "--traceback"):
        assert name in outcome.out
    assert "0 done, 1 failed, 2 wrong use or input" in " ".join(outcome.out.split())


@pytest.mark.parametrize(
    "command",
    ["segment", "pretrain", "evaluate", "demo", "models",
     "models list", "models show", "models import", "models export", "models remove"],
)  # fmt: skip
def test_help_of_each_command_says_what_every_argument_is(command):
    outcome = sslfewshot(*command.split(), "--help")
    assert outcome.code == 0
    from SSLFewShotLib.cli.arguments import build_parser

    parser = build_parser()
    for part in command.split():
        parser = next(
            action.choices[part] for action in parser._actions if action.choices and part in action.choices
        )
    assert parser.description and parser.description in outcome.out
    assert [a.dest for a in parser._actions if not a.help and a.dest not in ("action", "command")] == []


def test_the_version_is_the_librarys():
    assert sslfewshot("--version").out == f"sslfewshot {__version__}\n"


def test_the_command_is_installed_and_lists_models_without_loading_torch():
    program = (
        "import sys; from SSLFewShotLib.cli import main; "
        "main(['models', 'list']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "heatmap-head-neck-ct" in done.stdout


# Segmentation


def test_one_labelled_scan_labels_another(support, target, tmp_path):
    outcome = sslfewshot("segment", target, *support, "--output", tmp_path / "out", *QUICK)
    assert outcome.code == 0
    assert outcome.out.startswith(str(tmp_path / "out" / "pt_1_ct_seg.nii.gz"))
    assert len(outcome.out.splitlines()) == 1, "results alone are on standard output"
    assert "100% segmented 1 of 1 scans" in outcome.err
    assert files_in(tmp_path / "out") == ["pt_1_ct_confidence.nii.gz", "pt_1_ct_seg.nii.gz", "report.json"]
    volume, truth = patient(1)
    labels = read_labels(tmp_path / "out" / "pt_1_ct_seg.nii.gz")
    confidence = read_volume(tmp_path / "out" / "pt_1_ct_confidence.nii.gz")
    assert labels.same_grid(volume) and confidence.same_grid(volume)
    assert 0 <= confidence.array.min() < confidence.array.max() <= 1
    assert dice(labels.array == 1, truth.mask("Liver")) > 0.6


def test_the_result_for_machines_is_the_report(support, target, tmp_path):
    outcome = sslfewshot("segment", target, *support, "--output", tmp_path / "out", *QUICK, "--json")
    report = outcome.result
    assert outcome.code == 0
    assert report == json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["segmenter"]["method"] == "knn" and report["segmenter"]["descriptor"]["name"] == "gvdiff"
    assert report["segmenter"]["settings"]["spacing_mm"] == 16
    assert report["made_by"]["versions"]["sslfewshot"] == __version__
    assert [segment["name"] for segment in report["segments"]][:2] == ["Liver", "Spleen"]
    assert report["support"] == [
        {"image": "pt_0_ct.nrrd", "labels": "pt_0.seg.nrrd", "segments": [s["name"] for s in report["segments"]]}
    ]
    (done,) = report["targets"]
    labels = read_labels(tmp_path / "out" / done["segmentation"])
    liver = float((labels.array == 1).sum()) * labels.voxel_volume / 1000
    assert done["volumes_ml"]["Liver"] == pytest.approx(liver, abs=1e-3)
    assert 0 < done["mean_confidence"]["Liver"] <= 1


@pytest.mark.parametrize("form", ["nii.gz", "nrrd", "seg.nrrd"])
def test_names_and_colours_of_segments_are_kept_where_the_format_can(form, support, target, tmp_path):
    outcome = sslfewshot("segment", target, *support, "--output", tmp_path / "out", *BOX, "--format", form)
    assert outcome.code == 0
    confidence = "pt_1_ct_confidence.nii.gz" if form == "nii.gz" else "pt_1_ct_confidence.nrrd"
    assert files_in(tmp_path / "out") == sorted([confidence, f"pt_1_ct_seg.{form}", "report.json"])
    written, marked = read_labels(tmp_path / "out" / f"pt_1_ct_seg.{form}"), patient(0)[1]
    assert len(written.segments) == len(marked.segments) == 7
    if form == "nii.gz":
        assert [segment.name for segment in written.segments] == [f"Segment_{n}" for n in range(1, 8)]
        return
    for ours, theirs in zip(written.segments, marked.segments, strict=True):
        assert (ours.value, ours.name, ours.terminology) == (theirs.value, theirs.name, theirs.terminology)
        assert ours.colour == pytest.approx(theirs.colour, abs=1e-3)


@pytest.fixture
def overlapping(scans, tmp_path) -> tuple:
    """A support whose "Torso" holds its "Liver"."""
    volume, labels = patient(0)
    masks = {"Liver": labels.mask("Liver"), "Torso": labels.array > 0, "Spleen": labels.mask("Spleen")}
    write_labels(LabelMap.from_masks(volume, masks, labels.segments), tmp_path / "both.seg.nrrd")
    return "--support", scans / "pt_0_ct.nrrd", tmp_path / "both.seg.nrrd"


@pytest.mark.parametrize("form", ["nii.gz", "nrrd"])
def test_overlapping_segments_need_a_format_that_can_hold_them(form, overlapping, target, tmp_path):
    out = tmp_path / "out"
    outcome = sslfewshot("segment", target, *overlapping, "--output", out, *QUICK, "--format", form)
    assert f"overlap, which .{form} cannot hold; choose the format seg.nrrd" in outcome.error
    assert files_in(out) == []


def test_overlapping_segments_come_out_overlapping(overlapping, target, tmp_path):
    arguments = ("segment", target, *overlapping, "--output", tmp_path / "out", *QUICK, "--format", "seg.nrrd")
    assert sslfewshot(*arguments).code == 0
    labels = read_labels(tmp_path / "out" / "pt_1_ct_seg.seg.nrrd")
    liver, torso = labels.mask("Liver"), labels.mask("Torso")
    assert (liver & torso).sum() > 0.8 * liver.sum() > 0


def test_one_of_overlapping_segments_alone_fits_any_format(overlapping, target, tmp_path):
    arguments = ("segment", target, *overlapping, "--output", tmp_path / "out", *QUICK, "--segments", "Torso")
    assert sslfewshot(*arguments).code == 0
    assert set(np.unique(read_labels(tmp_path / "out" / "pt_1_ct_seg.nii.gz").array)) == {0, 1}


def test_every_scan_in_a_folder_is_segmented_and_labels_are_not(scans, support, tmp_path):
    out = tmp_path / "out"
    outcome = sslfewshot("segment", scans, *support, "--output", out, *BOX, "--json")
    assert outcome.code == 0
    assert [target["image"] for target in outcome.result["targets"]] == [f"pt_{n}_ct.nrrd" for n in range(3)]
    assert len(files_in(out)) == 8 and "summary.csv" in files_in(out)


def test_the_same_scan_named_twice_is_segmented_once(scans, support, target, tmp_path):
    outcome = sslfewshot("segment", target, target, *support, "--output", tmp_path / "out", *BOX, "--json")
    assert outcome.code == 0 and len(outcome.result["targets"]) == 1


@pytest.mark.parametrize("name", ["Anna Müller", "张三 扫描", "scan.2 (v1)"])
@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz"])
def test_names_with_spaces_and_letters_of_any_script_work(name, ending, tmp_path):
    folder = tmp_path / f"Ordner für {name}"
    folder.mkdir()
    image, labels = write_patient(folder, 0, name, ending)
    outcome = sslfewshot("segment", image, "--support", image, labels, "--output", folder / "aus", *BOX, "--json")
    assert outcome.code == 0 and outcome.result["targets"][0]["image"] == f"{name}_ct{ending}"
    assert f"{name}_ct_seg.nii.gz" in files_in(folder / "aus")
    assert name in (folder / "aus" / "report.json").read_text(encoding="utf-8")


def test_a_console_that_lacks_the_letters_gets_them_escaped(tmp_path):
    image, labels = write_patient(tmp_path, 0, "张三ü")
    arguments = ("segment", image, "--support", image, labels, "--output", tmp_path / "out", *BOX)
    ascii_console = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    outcome = finished(started(*arguments, environment=ascii_console))
    assert outcome.code == 0, outcome.err
    assert outcome.out.isascii() and "\\u5f20" in outcome.out
    for_machines = sslfewshot(*arguments, "--overwrite", "--json")
    assert for_machines.out.isascii() and for_machines.result["targets"][0]["image"] == "张三ü_ct.nrrd"


def test_the_same_call_gives_the_same_labels(support, target, tmp_path):
    for out in ("one", "two"):
        assert sslfewshot("segment", target, *support, "--output", tmp_path / out, *QUICK).code == 0
    one, two = (read_labels(tmp_path / out / "pt_1_ct_seg.nii.gz").array for out in ("one", "two"))
    np.testing.assert_array_equal(one, two)


# Ends


def test_a_cancelled_run_ends_with_130_and_leaves_what_was_finished(scans, support, tmp_path, monkeypatch):
    def press(self, fraction, message):
        if fraction > 0.5:
            raise Cancelled

    monkeypatch.setattr(ConsoleProgress, "__call__", press)
    outcome = sslfewshot("segment", scans, *support, "--output", tmp_path / "out", *BOX)
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.splitlines()[-1] == "sslfewshot: cancelled"
    written = files_in(tmp_path / "out")
    assert "pt_0_ct_seg.nii.gz" in written and "pt_2_ct_seg.nii.gz" not in written
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    done = [target[key] for target in report["targets"] for key in ("segmentation", "confidence")]
    assert written == sorted([*done, "report.json"])


@pytest.mark.parametrize("at", ["SSLFewShotLib.segmentation.job.write_volume", "os.replace"])
def test_an_interrupt_while_results_are_written_leaves_none(at, support, target, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(at, interrupt)
    outcome = sslfewshot("segment", target, *support, "--output", tmp_path / "out", *BOX)
    assert outcome.code == 130 and outcome.err.splitlines()[-1] == "sslfewshot: cancelled"
    assert files_in(tmp_path / "out") == []


def test_what_nobody_foresaw_ends_with_1_and_says_how_to_trace_it(support, target, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("the disk\nis on fire")

    monkeypatch.setattr("SSLFewShotLib.segmentation.job.read_volume", fail)
    arguments = ("segment", target, *support, "--output", tmp_path / "out", *BOX)
    outcome = sslfewshot(*arguments)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.splitlines()[-1] == (
        "sslfewshot: failed: RuntimeError: the disk is on fire (sslfewshot --traceback … shows where)"
    )
    assert "Traceback" in sslfewshot("--traceback", *arguments).err
    assert files_in(tmp_path / "out") == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_process_that_is_stopped_ends_with_130_and_leaves_no_model(stop, three_small_scans, tmp_path):
    arguments = ("pretrain", three_small_scans, "--output", tmp_path / "model", "--minutes", "5", *COARSE)
    process = started(*arguments)
    process.stderr.readline()  # the first line of progress: it has begun
    process.send_signal(stop)
    outcome = finished(process)
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.splitlines()[-1] == "sslfewshot: cancelled" and "Traceback" not in outcome.err
    assert not (tmp_path / "model").exists()
    assert not any(".writing" in name for name in files_in(tmp_path))


@pytest.mark.skipif(sys.platform == "win32", reason="pipes close differently")
def test_a_reader_that_goes_away_is_no_crash():
    process = started("models", "list", "--json")
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and err == b""
