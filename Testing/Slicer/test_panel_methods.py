"""The choice of method and model: what goes together, and what the worker makes of it."""

from panel_scene import (
    apply,
    needs_worker,
    wait,
)

pytestmark = needs_worker


def test_the_method_is_automatic_until_another_is_chosen_from_the_list(panel, host, case):
    selector = panel.ui.methodSelector
    assert selector.currentText == "Automatic"
    job = apply(panel, host)
    assert job.state == "done", job.sentence
    offered = [selector.itemText(n) for n in range(selector.count)]
    library = ["Alignment", "Prototypes (ALPNet)", "Nearest neighbours", "Fine-tuning", "Fine-tuned model"]
    assert offered == ["Automatic", *library]
    # A descriptor that is not dense can only be compared.
    assert job.result[0].report["segmenter"]["method"] == "knn"


def test_a_method_offers_only_the_models_that_it_can_use(panel, host, case):
    panel.models.load()
    wait(host, lambda: panel.models.cards)
    host.process(0.1)
    methods, models = panel.ui.methodSelector, panel.ui.modelSelector

    def offered():
        return [models.itemData(n) for n in range(models.count)]

    assert "gvdiff" in offered() and panel.parameters.model == "gvdiff"
    methods.currentIndex = methods.findData("aligned")
    host.process(0.1)
    kinds = {card["name"]: card["method"] for card in panel.models.cards}
    assert offered()[0] == "" and {kinds[name] for name in offered()[1:]} <= {"dense", "alpnet"}
    assert (panel.parameters.method, panel.parameters.model) == ("aligned", ""), "gvdiff cannot be aligned"
    assert "DENSE" in panel.ui.methodHint.text
    panel.parameters.model = "dense-head-neck-ct"
    methods.currentIndex = methods.findData("prototype")
    host.process(0.1)
    assert panel.parameters.model == "dense-head-neck-ct" and "ALPNET" in panel.ui.methodHint.text
    assert {"dense-head-neck-ct", "alpnet-head-neck-ct"} <= set(offered()) and "gvdiff" not in offered()
    in_order = [kinds[name] for name in offered()[1:]]
    assert in_order == sorted(in_order, key=["dense", "alpnet"].index), "as the library takes them by itself"
    methods.currentIndex = methods.findData("knn")
    host.process(0.1)
    assert "gvdiff" in offered() and "dense-head-neck-ct" in offered()


def test_prototypes_of_an_alpnet_model_segment_the_scan(panel, host, case):
    panel.parameters.method, panel.parameters.model = "prototype", "alpnet-head-neck-ct"
    host.process(0.1)
    job = apply(panel, host)
    assert job.state == "done", job.sentence
    assert job.result[0].report["segmenter"]["method"] == "prototype"


def test_a_method_that_has_no_model_says_where_to_get_one(panel, host, case):
    panel.segment.methods.take([{"name": "gradient", "method": "reg2d"}])
    panel.parameters.method, panel.parameters.model = "aligned", ""
    host.process(0.1)
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip.startswith(
        "Alignment needs a model of the kind DENSE or ALPNET: import one in Models"
    )
    panel.segment.methods.take(panel.models.cards)


def test_what_the_library_says_speaks_of_no_commands_options(panel, host, case):
    panel.parameters.method = "aligned"
    host.process(0.1)
    job = apply(panel, host)
    assert job.state == "failed" and "dense model" in job.sentence and "nearest neighbours" in job.sentence
    assert panel.segment.message.kind == "error" and "--" not in panel.segment.message.text


def test_with_a_dense_model_the_marks_are_carried_by_an_alignment(panel, host, case):
    panel.parameters.model = "dense-head-neck-ct"
    host.process(0.1)
    job = apply(panel, host)
    assert job.state == "done", job.sentence
    assert job.result[0].report["segmenter"]["method"] == "aligned"


def test_only_fine_tuning_asks_for_how_long(panel, host, case):
    panel.ui.advancedGroup.collapsed = False
    methods = panel.ui.methodSelector
    for method in ("aligned", "finetune", "knn"):
        methods.currentIndex = methods.findData(method)
        host.process(0.1)
        shown = [panel.ui.tuningMinutesLabel.visible, panel.ui.tuningMinutesSpin.visible]
        assert shown == [method == "finetune"] * 2
        assert panel.segment.methods.settings() == ({"minutes": 10.0} if method == "finetune" else {})
    methods.currentIndex = methods.findData("finetune")
    panel.ui.tuningMinutesSpin.value = 3
    host.process(0.1)
    assert panel.parameters.tuning_minutes == 3 and panel.segment.methods.settings() == {"minutes": 3.0}
    assert panel.ui.tuningKeepEdit.visible
    panel.ui.tuningKeepEdit.text = " my-organs "
    host.process(0.1)
    assert panel.segment.methods.settings() == {"minutes": 3.0, "keep": "my-organs"}
    panel.ui.tuningKeepEdit.text = ""


def test_a_fine_tuned_model_has_to_be_chosen_and_one_to_begin_with_need_not(panel, host, case):
    panel.segment.methods.take([{"name": "mine", "method": "finetune"}, {"name": "d", "method": "dense"}])
    panel.parameters.method, panel.parameters.model = "tuned", ""
    host.process(0.1)
    models = panel.ui.modelSelector
    assert [models.itemData(n) for n in range(models.count)] == ["", "mine"]
    assert not panel.ui.applyButton.enabled and panel.ui.applyButton.toolTip == "Choose the fine-tuned model first"
    panel.parameters.method = "finetune"
    host.process(0.1)
    assert panel.ui.applyButton.enabled
    assert [models.itemData(n) for n in range(models.count)] == ["", "d", "mine"]
    panel.parameters.method = "knn"
    host.process(0.1)
    assert "mine" not in [models.itemData(n) for n in range(models.count)]
    panel.segment.methods.take(panel.models.cards)


def test_speeds_are_offered_where_there_are_some_and_asked_for(panel, host):
    panel.ui.advancedGroup.collapsed = False
    panel.parameters.method = "aligned"
    host.process(0.1)
    assert panel.ui.speedSelector.visible
    assert panel.segment.methods.settings() == {}, "balanced is what the library does by itself"
    for index, speed in ((0, "fast"), (2, "best")):
        panel.ui.speedSelector.setCurrentIndex(index)
        host.process(0.1)
        assert panel.parameters.speed == speed and panel.segment.methods.settings() == {"speed": speed}
    panel.parameters.method = "knn"
    host.process(0.1)
    assert not panel.ui.speedSelector.visible and panel.segment.methods.settings() == {}
    panel.parameters.method, panel.parameters.speed = "", ""
    host.process(0.1)
    assert str(panel.ui.speedSelector.currentText) == "Balanced"
