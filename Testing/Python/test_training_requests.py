"""What is refused of a training before it is started, and what is not there."""

import os
import shutil
import sys

import pytest
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.models import ModelStore
from SSLFewShotLib.worker import pretraining
from SSLFewShotLib.worker.training_folder import find_training
from trainings import asked, noted, start

pytestmark = pytest.mark.usefixtures("jobs")


def test_a_training_needs_an_output_or_a_name_that_a_model_may_have(scans, monkeypatch):
    monkeypatch.setattr(pretraining, "start_detached", lambda *_: pytest.fail("it was started"))
    for name, reason in (
        (None, "a folder for the model or a name"),
        ("../elsewhere", "not a model name"),
        ("heatmap-head-neck-ct", "a bundled model has this name"),
    ):
        named = {} if name is None else {"name": name}
        with pytest.raises(InputError, match=reason):
            asked("start", folder=str(scans), method="reg2d", iterations=3, **named)
    assert asked("list") == []


def test_what_would_only_fail_after_a_while_is_refused_at_once(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "start_detached", lambda *_: pytest.fail("it was started"))
    output = tmp_path / "model"
    (tmp_path / "other.training").mkdir()
    for changes, reason in (
        ({"iterations": 5, "minutes": 1.0}, "either a number of iterations or a number of minutes"),
        ({"iterations": 0}, "above 0"),
        ({"method": "rotate"}, "'rotate' is not known; choose one of .*heatmap"),
        ({"learning_rate": -1.0}, "a rate above 0"),
        ({"extent_mm": -5.0}, "-5"),
        ({"name": "heatmap-head-neck-ct"}, "a bundled model has this name"),
        ({"name": "Not A Name"}, "not a model name"),
    ):
        with pytest.raises(InputError, match=reason):
            start(scans, output, **changes)
    with pytest.raises(InputError, match="a folder of scans was expected"):
        start(tmp_path / "nowhere", output)
    with pytest.raises(InputError, match="an unfinished pretraining is there"):
        start(scans, tmp_path / "other")
    assert asked("list") == []


def test_a_model_to_go_on_from_and_labelled_cases_must_be_there_before_a_training_begins(
    scans, tmp_path, monkeypatch
):
    started = []
    monkeypatch.setattr(pretraining, "start_detached", lambda *given: started.append(given) or os.getpid())
    with pytest.raises(InputError, match="nowhere: no model of this name"):
        start(scans, tmp_path / "model", start="nowhere")
    with pytest.raises(InputError, match="no case has this id"):
        start(scans, tmp_path / "model", method="alpnet", labelled=["nobody"])
    assert asked("list") == [] and started == []
    begun = ModelStore().find("alpnet-hippocampus-mr").folder
    monkeypatch.chdir(begun.parent.parent)
    for given, kept in (
        (begun.name, begun.name),
        (os.path.join(begun.parent.name, begun.name), str(begun)),
    ):
        job = start(scans, tmp_path / f"model-{len(started)}", method="alpnet", start=given)
        assert find_training(job).settings["start"] == kept, "found from the folder of the training's process too"


def test_a_method_that_needs_labels_is_refused_where_there_are_none(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "start_detached", lambda *_: pytest.fail("it was started"))
    bare = tmp_path / "bare"
    bare.mkdir()
    for image in scans.glob("*_ct.nrrd"):
        shutil.copy(image, bare)
    with pytest.raises(InputError, match="bare: no labelled scan lies in this folder"):
        start(bare, tmp_path / "model", method="sides")


def test_a_model_that_is_there_is_only_replaced_when_asked_to(scans, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(pretraining, "start_detached", lambda *given: started.append(given) or os.getpid())
    output = tmp_path / "model"
    output.mkdir()
    (output / "card.json").write_text("{}")
    with pytest.raises(InputError, match="there is a model already"):
        start(scans, output)
    start(scans, output, overwrite=True)
    assert len(started) == 1
    with pytest.raises(InputError, match=r"the training \S+ is making this model; stop it first"):
        start(scans, output, overwrite=True)


def test_a_name_in_the_store_is_only_taken_when_asked_to(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "start_detached", lambda *_: os.getpid())
    shutil.copytree(ModelStore().find("reg2d-head-neck-ct").folder, tmp_path / "models" / "mine")
    with pytest.raises(InputError, match="mine: there is a model of this name already"):
        start(scans, tmp_path / "one", name="mine")
    assert asked("list") == []
    start(scans, tmp_path / "two", name="mine", overwrite=True)


@pytest.mark.parametrize("job", ["nothing", "../jobs", "..", "", "a/b", "x" * 300])
def test_a_training_that_is_not_there_is_told_so_wherever_its_name_points(job, jobs):
    noted(jobs)
    for method in ("status", "stop", "resume", "remove"):
        with pytest.raises(InputError, match="no training of this name"):
            asked(method, job=job)
    assert len(asked("list")) == 1


def test_a_process_that_cannot_be_started_leaves_no_training(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(OSError, match="could not be started"):
        start(scans, tmp_path / "model")
    assert asked("list") == []
