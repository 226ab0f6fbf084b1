"""The command from end to end: what it prints, what it writes, and how it ends."""

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import BOX, QUICK, dice, files_in, finished, patient, sslfewshot, started, write_patient
from SSLFewShotLib import __version__
from SSLFewShotLib.cli import console
from SSLFewShotLib.cli.console import ConsoleProgress
from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.imaging import LabelMap, Volume
from SSLFewShotLib.imaging.files import read_labels, read_volume, write_labels, write_volume
from SSLFewShotLib.imaging.phantoms import write_cohort
from SSLFewShotLib.pretext.heatmap import Heatmap

COARSE = ("--extent-mm", "400", "--batch-size", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """pt_0 to pt_2 with labels; not to be changed."""
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(3):
        write_patient(folder, seed)
    return folder


@pytest.fixture
def support(scans) -> tuple:
    return "--support", scans / "pt_0_ct.nrrd", scans / "pt_0.seg.nrrd"


@pytest.fixture
def target(scans) -> Path:
    return scans / "pt_1_ct.nrrd"


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SSLFEWSHOT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture(scope="module")
def three_small_scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_cohort(folder, 3, labelled=0, size=(20, 16, 18))
    return folder


@pytest.fixture(scope="module")
def model(three_small_scans, tmp_path_factory) -> Path:
    """A model after very few iterations; not to be changed."""
    folder = tmp_path_factory.mktemp("model") / "tiny-ct"
    outcome = sslfewshot("pretrain", three_small_scans, "--output", folder, "--iterations", 4, *COARSE)
    assert outcome.code == 0, outcome.err
    return folder


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
    assert f"overlap, which .{form} cannot hold; give --format seg.nrrd" in outcome.error
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
    assert len(files_in(out)) == 7


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


# Progress


class Terminal:
    def __init__(self, interactive: bool):
        self.text, self.interactive = "", interactive

    def isatty(self) -> bool:
        return self.interactive

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


def test_progress_is_a_bar_on_a_terminal_that_fits_its_width(monkeypatch):
    monkeypatch.setattr(console.shutil, "get_terminal_size", lambda: os.terminal_size((60, 20)))
    terminal, now = Terminal(True), iter(range(100))
    progress = ConsoleProgress(terminal, lambda: next(now))
    progress(0.5, "a long message that tells of many things that happen at once")
    progress(0.75, "ending")
    progress.end_line()
    first, second = terminal.text.split("\r\x1b[K")[1:]
    assert first.count("█") == 14 and len(first) == 59
    assert second.count("█") == 21 and second.endswith("\n")


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal():
    terminal, now = Terminal(False), iter([0, 0, 1, 2, 6, 60])
    progress = ConsoleProgress(terminal, lambda: next(now))
    for fraction in (0.0, 0.1, 0.2, 0.5):
        progress(fraction, "working")
    progress(1.0, "done")
    progress.end_line()
    assert terminal.text == "  0% working (0:00)\n 50% working (0:06, 0:06 left)\n100% done (1:00)\n"


def test_where_a_run_was_cancelled_is_not_shown_as_full(monkeypatch):
    terminal, now = Terminal(True), iter([0, 0, 0.01])
    progress = ConsoleProgress(terminal, lambda: next(now))
    progress(0.0, "begins")
    progress(0.5, "stopped here")
    progress.end_line()
    assert terminal.text.split("\r\x1b[K")[-1].count("█") == 14


# Models


def test_a_model_goes_through_the_store_and_back(model, own_store, tmp_path):
    archive = tmp_path / "tiny.zip"
    assert "tiny-ct" not in sslfewshot("models", "list").out
    assert sslfewshot("models", "import", model).out == "imported tiny-ct\n"
    assert "tiny-ct" in sslfewshot("models", "list").out and files_in(own_store)
    shown = sslfewshot("models", "show", "tiny-ct", "--json").result
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    assert shown == {**card, "bundled": False}
    assert json.loads(sslfewshot("models", "show", "tiny-ct").out) == card
    assert sslfewshot("models", "export", "tiny-ct", archive).code == 0
    assert sslfewshot("models", "export", "tiny-ct", archive).error.startswith(str(archive))
    assert sslfewshot("models", "import", archive).error.startswith(str(archive))
    assert sslfewshot("models", "import", archive, "--overwrite").code == 0
    assert sslfewshot("models", "remove", "tiny-ct").out == "removed tiny-ct\n"
    assert "no model of this name" in sslfewshot("models", "remove", "tiny-ct").error
    assert sslfewshot("models", "import", archive, "--json").result == card


def test_models_are_listed_for_machines(model):
    sslfewshot("models", "import", model)
    listed = {entry["name"]: entry["bundled"] for entry in sslfewshot("models", "list", "--json").result}
    assert listed["tiny-ct"] is False and listed["heatmap-head-neck-ct"] is True


@pytest.mark.parametrize("action", ["show", "remove", "export", "import"])
def test_a_model_that_is_not_there_is_refused(action, tmp_path):
    outcome = sslfewshot(
        "models", action, *(["nothing", tmp_path / "x.zip"] if action == "export" else ["nothing"])
    )
    assert outcome.error.startswith("nothing")
    assert files_in(tmp_path) == []


def test_a_bundled_model_stays():
    assert "cannot be removed" in sslfewshot("models", "remove", "heatmap-head-neck-ct").error


# Pretraining


def test_a_pretrained_model_segments(model, tmp_path):
    volume, labels = patient(0)
    around = tuple(slice(int(c) - 5, int(c) + 5) for c in np.argwhere(labels.mask("Liver")).mean(axis=0))
    image, marks = tmp_path / "image.nrrd", tmp_path / "marks.nrrd"
    write_volume(Volume(volume.array[around], volume.ijkToLps, "part", "CT"), image)
    write_labels(LabelMap(labels.array[around], volume.ijkToLps, segments=labels.segments), marks)
    outcome = sslfewshot(
        "segment", image, "--support", image, marks, "--output", tmp_path / "out", "--model", model,
        "--spacing", "20", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    descriptor = outcome.result["segmenter"]["descriptor"]
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    assert (descriptor["name"], descriptor["sha256"]) == ("tiny-ct", card["weights"]["sha256"])


def test_what_pretraining_tells(three_small_scans, tmp_path):
    arguments = ("pretrain", three_small_scans, "--output", tmp_path / "model", "--iterations", "1", *COARSE)
    outcome = sslfewshot(
        *arguments, "--method", "reg2d", "--modality", "ct", "--data-source", "phantoms",
        "--data-licence", "CC0-1.0", "--seed", "3", "--json",
    )  # fmt: skip
    assert outcome.code == 0
    card = outcome.result
    assert card == json.loads((tmp_path / "model" / "card.json").read_text(encoding="utf-8"))
    assert (card["method"], card["licence"]) == ("reg2d", "CC0-1.0")
    assert card["preprocessing"]["modality"] == "CT" and card["preprocessing"]["intensity"]["kind"] == "window"
    assert (card["training"]["iterations"], card["training"]["seed"]) == (1, 3)
    files = ("card.json", "loss.csv", "loss.png", "weights.safetensors")
    assert files_in(tmp_path) == ["model", *(f"model/{name}" for name in files)]
    assert "there is a model already" in sslfewshot(*arguments).error
    told = sslfewshot(*arguments, "--overwrite").out
    assert told == f"{tmp_path / 'model'}: 1 iterations\n"


def test_an_interrupted_pretraining_goes_on_to_the_same_weights(three_small_scans, model, tmp_path, monkeypatch):
    arguments = ("pretrain", three_small_scans, "--output", tmp_path / "tiny-ct", "--iterations", 4, *COARSE)
    plain, calls = Heatmap.sample, itertools.count(1)

    def cancelled_in_the_third(*rest):
        if next(calls) == 3:
            raise Cancelled
        return plain(*rest)

    with monkeypatch.context() as patched:
        patched.setattr(Heatmap, "sample", cancelled_in_the_third)
        assert sslfewshot(*arguments).code == 130
    assert not (tmp_path / "tiny-ct").exists()
    assert "--resume" in sslfewshot(*arguments).error
    assert sslfewshot(*arguments, "--resume").code == 0
    weights = (tmp_path / "tiny-ct" / "weights.safetensors", model / "weights.safetensors")
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not any("training" in name for name in files_in(tmp_path))


# Evaluation


@pytest.mark.parametrize(
    "method",
    [("--methods", "box"), pytest.param(("--models", "gvdiff", "--spacing", "24"), marks=pytest.mark.slow)],
)
def test_an_evaluation_scores_and_reports(method, scans, tmp_path):
    arguments = (
        "evaluate", scans, "--supports", "pt_0,pt_1", "--shots", "1,2", *method, "--output", tmp_path / "out",
    )  # fmt: skip
    outcome = sslfewshot(*arguments)
    assert outcome.code == 0, outcome.err
    assert outcome.out.rstrip() == (tmp_path / "out" / "report.md").read_text(encoding="utf-8").rstrip()
    with open(tmp_path / "out" / "results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["query"] for row in rows} == {"pt_2"} and len(rows) == 3 * 7
    assert np.mean([float(row["dice"]) for row in rows if row["segment"] == "Liver"]) > 0.3
    again = sslfewshot(*arguments, "--json")
    assert again.code == 0 and again.result == {"report": str(tmp_path / "out" / "report.md")}


def test_an_evaluation_pairs_scans_and_labels_as_it_is_told(tmp_path):
    folder = tmp_path / "cases"
    folder.mkdir()
    for seed in (0, 1):
        write_patient(folder, seed, labelled=False)
        write_labels(patient(seed)[1], folder / f"pt_{seed}_truth.nrrd")
    arguments = (
        "evaluate", folder, "--supports", "pt_0", "--methods", "box", "--output", tmp_path / "out", "--json",
        "--image-suffix", "_ct", "--label-suffix", "_truth",
    )  # fmt: skip
    outcome = sslfewshot(*arguments)
    assert outcome.code == 0, outcome.err
