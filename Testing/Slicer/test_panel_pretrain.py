"""The section "Learn from my own scans": a real training is started, seen, paused, gone on with and removed."""

from concurrent.futures import Future

import pytest

from panel_scene import add_scan, needs_worker, remove_trainings, start_training, wait

pytestmark = needs_worker


@pytest.fixture
def scans(panel, host, tmp_path):
    import slicer

    for number in range(3):
        volume, _ = add_scan(f"scan {number}", (number, 0, 0))
        slicer.util.exportNode(volume, str(tmp_path / f"scan_{number}.nrrd"), {})
    slicer.mrmlScene.Clear(0)
    host.process(0.1)
    panel.ui.pretrainSection.collapsed = False
    yield tmp_path
    panel.ui.pretrainSection.collapsed = True


def state(panel):
    return (panel.pretrain.jobs.chosen or {}).get("state")


def test_start_needs_a_folder(panel, host):
    assert not panel.ui.startPretrainButton.enabled
    assert panel.ui.startPretrainButton.toolTip == "Choose the folder with the scans first"


def test_dense_is_the_first_method_and_the_one_that_is_chosen(panel, host):
    selector = panel.ui.pretrainMethodSelector
    assert selector.itemText(0) == "DENSE: the same place in two deformed views"
    assert selector.currentIndex == 0 and panel.parameters.pretrain_method == "dense"


def choose(panel, host, method):
    selector = panel.ui.pretrainMethodSelector
    selector.currentIndex = selector.findData(method)
    host.process(0.1)
    assert panel.parameters.pretrain_method == method


def test_every_method_of_the_worker_is_offered_with_a_word_on_what_it_is_for(panel, host):
    from SSLFewShotSlicer.pretrain_section import METHODS, PURPOSES

    wait(host, lambda: panel.session.info)
    assert set(METHODS) == set(PURPOSES) == set(panel.session.info["pretexts"])
    for method, words in (("rotation", "fine-tuning"), ("slice-order", "boxes"), ("dense", "alignment")):
        choose(panel, host, method)
        assert words in panel.ui.pretrainMethodHint.text


def test_a_pair_is_asked_for_by_sides_alone_and_goes_to_the_worker(panel, host, scans):
    panel.ui.pretrainFolderEdit.currentPath = str(scans)
    choose(panel, host, "cpc")
    assert not panel.ui.pretrainPairEdit.visible
    choose(panel, host, "sides")
    assert panel.ui.pretrainPairEdit.visible and panel.ui.pretrainPairEditLabel.visible
    panel.ui.pretrainPairEdit.text = "Kidney left, Kidney right"
    host.process(0.1)
    params = panel.pretrain._params()
    assert (params["method"], params["options"]) == ("sides", {"pair": ["Kidney left", "Kidney right"]})
    panel.ui.pretrainPairEdit.text = ""
    host.process(0.1)
    assert "options" not in panel.pretrain._params()


def test_an_encoder_is_not_offered_to_what_compares_places(panel, host):
    from SSLFewShotSlicer.method_choice import ENCODERS, MethodChoice

    cards = [{"name": f"{kind}-ct", "title": kind, "method": kind} for kind in (*ENCODERS, "heatmap")]
    choice = MethodChoice(panel)
    choice.take(cards)
    named = [name for name, _title in choice._models("knn")]
    assert "heatmap-ct" in named and not any(name.startswith(ENCODERS) for name in named)


def test_a_folder_that_is_gone_is_told(panel, host, tmp_path):
    panel.ui.pretrainFolderEdit.currentPath = str(tmp_path / "gone")
    host.process(0.1)
    panel.ui.startPretrainButton.click()
    assert panel.pretrain.message.kind == "error" and "gone: is not a folder" in panel.pretrain.message.text


def test_a_name_that_no_model_may_have_is_told(panel, host, scans):
    panel.ui.pretrainFolderEdit.currentPath = str(scans)
    panel.ui.pretrainNameEdit.text = "My Model!"
    host.process(0.1)
    panel.ui.startPretrainButton.click()
    assert "My Model!: is not a model's name" in panel.pretrain.message.text


def test_a_name_that_another_training_has_is_told(panel, host, scans):
    from SSLFewShotSlicer.pretrain_section import trainings_folder

    taken = trainings_folder() / "taken"
    taken.mkdir(parents=True)
    try:
        start_training(panel, host, scans, "taken", 3)
    finally:
        taken.rmdir()
    assert panel.pretrain.message.text.startswith("taken: there is a training of this name already")


def test_a_training_runs_pauses_goes_on_and_is_removed(panel, host, scans):
    start_training(panel, host, scans, "blobs", 100000)
    wait(host, lambda: panel.pretrain.message.kind is not None)
    assert panel.pretrain.message.kind == "success", panel.pretrain.message.text
    wait(host, lambda: state(panel) == "running", 30)
    assert panel.ui.jobsTable.visible and panel.ui.jobsTable.item(0, 0).text() == "blobs"
    wait(host, lambda: (panel.pretrain.jobs.chosen or {}).get("fraction", 0) > 0, 60)
    assert panel.ui.lossPlot.visible and panel.ui.pauseJobButton.enabled
    panel.ui.pauseJobButton.click()
    wait(host, lambda: state(panel) in ("stopped", "paused"), 60)
    assert panel.ui.jobsTable.item(0, 1).text() == "paused"
    assert panel.ui.resumeJobButton.enabled and not panel.ui.pauseJobButton.enabled
    panel.ui.resumeJobButton.click()
    wait(host, lambda: state(panel) == "running", 30)
    panel.ui.pauseJobButton.click()
    wait(host, lambda: state(panel) in ("stopped", "paused"), 60)
    remove_trainings(panel, host)
    assert not panel.ui.jobsTable.visible


def test_a_training_that_begins_while_its_list_is_on_its_way_is_listed_and_chosen(panel, host, scans, monkeypatch):
    jobs = panel.pretrain.jobs
    wait(host, lambda: not panel.session.jobs)
    begun = {"job": "new", "name": "new", "state": "running", "fraction": 0.5}
    other = {"job": "old", "name": "old", "state": "done", "fraction": 1.0}
    asked = []

    def request(method, params=None, on_progress=None):
        answer = Future()
        asked.append((method, answer))
        if method != "pretrain/list":
            answer.set_result({"job": "new", "rows": []})
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(panel.session, "request", request)
        jobs.look()
        wait(host, lambda: len(asked) == 1)
        start_training(panel, host, scans, "new", 3)
        wait(host, lambda: panel.pretrain.message.kind == "success")
        asked[0][1].set_result([other])  # as it was before the training began
        wait(host, lambda: [method for method, _answer in asked].count("pretrain/list") == 2, 10)
        asked[-1][1].set_result([other, begun])
        wait(host, lambda: (jobs.chosen or {}).get("job") == "new", 10)
        seen = len(asked)
        wait(host, lambda: len(asked) > seen, 10)  # it is looked at again: it runs
        asked[-1][1].set_result([])
        wait(host, lambda: not jobs.trainings, 10)


def test_a_short_training_ends_as_a_model_in_the_list(panel, host, scans):
    start_training(panel, host, scans, "short", 3)
    wait(host, lambda: state(panel) == "done", 90)
    assert "100 %" in panel.ui.jobsTable.item(0, 2).text()
    wait(host, lambda: "short" in [card["name"] for card in panel.models.cards], 20)
    remove_trainings(panel, host)
