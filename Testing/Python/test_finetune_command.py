"""Fine-tuning from the command and the worker: kept models, going on after a kill, honest estimates, refusals."""

import json
import signal
import time

import numpy as np
import pytest
from command_line import sslfewshot, started
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.imaging.files import read_labels
from SSLFewShotLib.models import ModelStore
from SSLFewShotLib.pretext.checkpoint import CHECKPOINT_NAME
from SSLFewShotLib.segmentation.job import SegmentationJob, run
from SSLFewShotLib.segmentation.tuning_folder import FOLDER_NAME, share_of_fitting, tunes
from SSLFewShotLib.worker.memory import needed_for
from SSLFewShotLib.worker.protocol import PROTOCOL_VERSION
from tuning_samples import write_blocks, write_small_model
from worker_process import WORKER, WorkerProcess

pytestmark = pytest.mark.usefixtures("own_store", "one_torch_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three labelled scans, b_0 to b_2, and the small model."""
    folder = tmp_path_factory.mktemp("tuning")
    write_blocks(folder, 3)
    write_small_model(folder / "small-ct")
    return folder


def given(files, *more):
    support = ("--support", files / "b_0_ct.nrrd", files / "b_0.seg.nrrd")
    return ("segment", files / "b_1_ct.nrrd", *support, "--method", "finetune", "--model", files / "small-ct",
            "--device", "cpu", *more)  # fmt: skip


def test_fine_tuning_segments_and_leaves_no_checkpoint_behind(files, tmp_path):
    outcome = sslfewshot(*given(files, "--iterations", 3, "--output", tmp_path / "out", "--json"))
    assert outcome.code == 0, outcome.err
    report = outcome.result
    assert report["segmenter"]["method"] == "finetune" and report["segmenter"]["settings"]["iterations"] == 3
    assert report["segmenter"]["descriptor"]["name"] == "small-ct"
    assert (tmp_path / "out" / "b_1_ct_seg.nii.gz").exists() and not (tmp_path / "out" / FOLDER_NAME).exists()


def test_a_kept_model_segments_without_any_support(files, tmp_path):
    more = ("--iterations", 100, "--learning-rate", 0.01, "--format", "seg.nrrd")
    outcome = sslfewshot(*given(files, *more, "--keep", "my-blocks", "--output", tmp_path / "tuned"))
    assert outcome.code == 0, outcome.err
    assert ModelStore().find("my-blocks").card.training["settings"]["support"]["scans"] == ["b_0_ct.nrrd"]
    how = ("--model", "my-blocks", "--format", "seg.nrrd", "--device", "cpu", "--json", "--speed", "fast")
    again = sslfewshot("segment", files / "b_1_ct.nrrd", *how, "--output", tmp_path / "again")
    assert again.code == 0 and "method tuned has one speed only" in again.err, again.err
    assert again.result["segmenter"]["method"] == "tuned" and again.result["support"] == []
    assert [s["name"] for s in again.result["segments"]] == ["RightBlock", "LeftBlock"]
    one, other = (read_labels(tmp_path / folder / "b_1_ct_seg.seg.nrrd") for folder in ("tuned", "again"))
    assert one.array.any() and all(np.array_equal(one.mask(s), other.mask(s.name)) for s in one.segments)


def test_a_name_that_is_taken_is_refused_at_once(files, tmp_path):
    outcome = sslfewshot(
        *given(files, "--minutes", 60, "--keep", "dense-head-neck-ct", "--output", tmp_path / "out")
    )
    assert "dense-head-neck-ct: there is a model of this name already" in outcome.error


def test_no_support_and_no_model_that_was_fine_tuned_is_refused(files, tmp_path):
    scan, output = files / "b_1_ct.nrrd", tmp_path / "out"
    assert "no support was given" in sslfewshot("segment", scan, "--output", output).error
    said = sslfewshot("segment", scan, "--model", "dense-head-neck-ct", "--output", output).error
    assert "was not fine-tuned and segments nothing by itself" in said
    said = sslfewshot("segment", scan, "--model", files / "small-ct", "--method", "knn", "--output", output).error
    assert said == "method 'knn': no support was given; mark at least one scan"
    assert not output.exists()


def test_minutes_and_iterations_are_not_both_taken(files, tmp_path):
    outcome = sslfewshot(*given(files, "--minutes", 1, "--iterations", 2, "--output", tmp_path / "out"))
    assert outcome.code == 2 and "not allowed with argument" in outcome.err


def test_settings_of_fine_tuning_are_refused_where_nothing_is_tuned(files, tmp_path):
    support = ("--support", files / "b_0_ct.nrrd", files / "b_0.seg.nrrd")
    how = ("--method", "knn", "--model", "gvdiff", "--minutes", "1")
    outcome = sslfewshot("segment", files / "b_1_ct.nrrd", *support, *how, "--output", tmp_path / "out")
    assert outcome.error.startswith("minutes: no setting of knn")


@pytest.mark.slow
def test_a_killed_fine_tuning_goes_on_and_comes_out_the_same(files, tmp_path):
    # One thread in both: sums come out the same to the last bit.
    arguments = given(files, "--iterations", 200, "--format", "seg.nrrd")
    whole = started(*arguments, "--output", tmp_path / "whole")
    killed = started(*arguments, "--output", tmp_path / "killed")
    checkpoint = tmp_path / "killed" / FOLDER_NAME / CHECKPOINT_NAME
    deadline = time.monotonic() + 90
    while (
        killed.poll() is None and time.monotonic() < deadline and not (tmp_path / "killed" / FOLDER_NAME).exists()
    ):
        time.sleep(0.01)
    killed.send_signal(signal.SIGINT)
    killed.communicate(timeout=60)
    assert killed.returncode == 130 or checkpoint.exists()
    refused = sslfewshot(*arguments, "--output", tmp_path / "killed")
    if checkpoint.exists():
        assert "an unfinished fine-tuning is there; resume the job" in refused.error
    resumed = started(*arguments, "--output", tmp_path / "killed", "--resume", "--overwrite")
    assert resumed.wait(timeout=120) == 0 and whole.wait(timeout=120) == 0
    results = [(tmp_path / folder / "b_1_ct_seg.seg.nrrd").read_bytes() for folder in ("whole", "killed")]
    assert results[0] == results[1]


def test_cancelling_leaves_a_checkpoint_to_go_on_from(files, tmp_path):
    job = SegmentationJob(
        [files / "b_1_ct.nrrd"], [(files / "b_0_ct.nrrd", files / "b_0.seg.nrrd")], tmp_path / "out",
        method="finetune", model=str(files / "small-ct"), device="cpu", settings={"minutes": 5.0},
    )  # fmt: skip

    def cancel(fraction, message):
        if "iteration" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(job, cancel)
    assert (tmp_path / "out" / FOLDER_NAME / CHECKPOINT_NAME).exists()
    with pytest.raises(
        InputError, match="an unfinished fine-tuning is there; resume the job, have it overwritten"
    ):
        run(job)


def test_progress_follows_the_time_that_is_left(files, tmp_path):
    """Of three seconds of training and a second of segmenting, half is over when half of the time is."""
    job = SegmentationJob(
        [files / "b_1_ct.nrrd"], [(files / "b_0_ct.nrrd", files / "b_0.seg.nrrd")], tmp_path / "out",
        method="finetune", model=str(files / "small-ct"), device="cpu", settings={"minutes": 4 / 60},
    )  # fmt: skip
    assert share_of_fitting(job.method, {"minutes": 10.0}, 1) == pytest.approx(600 / 610)
    assert share_of_fitting(job.method, {}, 60) == pytest.approx(0.5), (
        "ten minutes of training, ten seconds a scan"
    )
    assert share_of_fitting("aligned", {}, 3) == 0.25
    assert tunes("auto", {"minutes": 1.0}) and not tunes("auto", {}) and not tunes("knn", {})
    told = []
    run(job, lambda fraction, message: told.append((time.monotonic(), fraction, message)))
    training = [(at, fraction) for at, fraction, message in told if "iteration" in message]
    times, fractions = np.array(training).T
    share = share_of_fitting(job.method, job.settings, 1)
    assert fractions[0] < 0.2 and 0.8 * share < fractions[-1] <= share
    linear = np.interp(times, times[[0, -1]], fractions[[0, -1]])
    assert np.abs(fractions - linear).max() < 0.1


def test_a_worker_fine_tunes_once_keeps_it_warm_and_segments_with_a_kept_model(files, tmp_path):
    support = [{"image": str(files / "b_0_ct.nrrd"), "labels": str(files / "b_0.seg.nrrd")}]
    common = {"targets": [str(files / "b_1_ct.nrrd")], "format": "seg.nrrd", "device": "cpu"}
    settings = {"iterations": 3, "keep": "of-worker"}
    how = {"supports": support, "method": "finetune", "model": str(files / "small-ct"), "settings": settings}
    with WorkerProcess(tmp_path / "worker", WORKER) as worker:
        worker.ask("initialize", protocol=PROTOCOL_VERSION, client="test")
        warm = []
        for number in "12":
            answer = worker.ask("segment", **common, **how, output=str(tmp_path / number))
            warm.append(answer["result"]["warm"]["model"])
        assert warm == [False, True], "trained once"
        answer = worker.ask("segment", **common, model="of-worker", output=str(tmp_path / "3"))
    assert answer["result"]["segmenter"]["method"] == "tuned" and answer["result"]["support"] == []
    names = {s.name for s in read_labels(tmp_path / "3" / "b_1_ct_seg.seg.nrrd").segments}
    assert names == {"RightBlock", "LeftBlock"}


def test_the_memory_that_fine_tuning_needs_is_told(files):
    job = SegmentationJob(
        [files / "b_1_ct.nrrd"], [(files / "b_0_ct.nrrd", files / "b_0.seg.nrrd")], files / "out",
        method="finetune", model=str(files / "small-ct"),
    )  # fmt: skip
    assert 0.5e9 < needed_for(job) < 2e9


def test_a_cluster_is_not_asked_to_fine_tune_in_each_worker(files, tmp_path):
    outcome = sslfewshot(*given(files, "--cluster", "tcp://127.0.0.1:9", "--output", tmp_path / "out"))
    assert "fine-tune here, keep the model and segment with it on the cluster" in outcome.error


def test_an_evaluation_scores_fine_tuning_like_any_method(files, tmp_path):
    outcome = sslfewshot(
        "evaluate", files, "--supports", "b_0", "--queries", "b_1", "--methods", "finetune", "--models",
        files / "small-ct", "--iterations", 2, "--device", "cpu", "--output", tmp_path / "out", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert facts["contenders"]["finetune small-ct"]["settings"]["iterations"] == 2
