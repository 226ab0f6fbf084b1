"""The section Models: the list, the card, taking models in and out."""

import zipfile

import pytest

from panel_scene import add_case, add_scan, choose, needs_worker, wait

pytestmark = needs_worker


@pytest.fixture
def models(panel, host):
    panel.ui.modelSection.collapsed = False
    panel.models.load()
    wait(host, lambda: panel.ui.modelTable.rowCount > 0)
    panel.models.message.clear()
    return panel.models


def rows(panel):
    return [panel.ui.modelTable.item(row, 0).text() for row in range(panel.ui.modelTable.rowCount)]


def choose_row(panel, name):
    panel.ui.modelTable.setCurrentCell([row.split()[0] for row in rows(panel)].index(name), 0)


def test_bundled_models_are_listed_with_what_they_are(panel, host, models):
    assert "heatmap-head-neck-ct" in rows(panel)
    row = rows(panel).index("heatmap-hippocampus-mr")
    assert [panel.ui.modelTable.item(row, column).text() for column in (1, 2, 3)] == [
        "MR",
        "HEATMAP",
        "built in",
    ]


def test_a_dense_model_is_listed_by_its_method(panel, host, models):
    row = rows(panel).index("dense-head-neck-ct")
    assert panel.ui.modelTable.item(row, 2).text() == "DENSE"


def test_the_card_tells_data_licence_and_what_was_measured(panel, host, models):
    choose_row(panel, "heatmap-head-neck-ct")
    card = panel.ui.modelCard.toPlainText()
    assert "129 scans" in card and "OpenKBP" in card and "MIT" in card and "scans held back" in card
    assert not panel.ui.removeModelButton.enabled and panel.ui.exportModelButton.enabled


def test_a_model_is_taken_for_segmenting(panel, host, models):
    choose_row(panel, "heatmap-head-neck-ct")
    panel.ui.useModelButton.click()
    host.process(0.1)
    assert panel.parameters.model == "heatmap-head-neck-ct"
    assert panel.ui.modelSelector.currentData == "heatmap-head-neck-ct"


def test_a_fitting_model_is_found_for_the_scan(panel, host, models):
    choose(panel, host, add_case(), add_scan("Head")[0])
    panel.ui.fittingModelButton.click()
    wait(host, lambda: panel.models.message.kind is not None)
    assert panel.models.message.kind in ("success", "information")
    assert "Head" in panel.models.message.text


def test_a_model_goes_out_and_comes_in_under_another_name(panel, host, models, tmp_path):
    from SlicerHost import dialogs

    archive = tmp_path / "mine.zip"
    choose_row(panel, "reg2d-head-neck-ct")
    dialogs.answer(str(archive))
    panel.ui.exportModelButton.click()
    wait(host, lambda: panel.models.message.kind is not None)
    assert zipfile.is_zipfile(archive) and "was written to" in panel.models.message.text
    renamed = tmp_path / "renamed.zip"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(renamed, "w") as target:
        for entry in source.namelist():
            content = source.read(entry).replace(b'"reg2d-head-neck-ct"', b'"my-own-model"')
            target.writestr(entry.replace("reg2d-head-neck-ct", "my-own-model"), content)
    panel.models.message.clear()
    dialogs.answer(str(renamed))
    panel.ui.importModelButton.click()
    wait(host, lambda: panel.models.message.kind is not None and "my-own-model" in " ".join(rows(panel)))
    assert panel.models.message.kind == "success", panel.models.message.text
    assert panel.models.chosen["name"] == "my-own-model" and panel.ui.removeModelButton.enabled
    panel.models.message.clear()
    import qt

    dialogs.answer(qt.QMessageBox.Ok)
    panel.ui.removeModelButton.click()
    wait(host, lambda: "my-own-model" not in " ".join(rows(panel)))


def test_a_model_whose_name_is_taken_comes_in_by_a_click_under_another(panel, host, models, tmp_path):
    from SlicerHost import dialogs

    archive = tmp_path / "mine.zip"
    choose_row(panel, "reg2d-head-neck-ct")
    dialogs.answer(str(archive))
    panel.ui.exportModelButton.click()
    wait(host, lambda: panel.models.message.kind == "success")
    panel.models.message.clear()
    dialogs.answer(str(archive))
    panel.ui.importModelButton.click()
    wait(host, lambda: panel.models.message.kind is not None)
    assert "is a bundled model's" in panel.models.message.text
    assert "Import it as reg2d-head-neck-ct-2" in panel.ui.modelMessage.text
    assert "Replace" not in panel.ui.modelMessage.text
    panel.ui.modelMessage.linkActivated.emit("rename")
    wait(host, lambda: "reg2d-head-neck-ct-2" in rows(panel))
    assert panel.models.chosen["name"] == "reg2d-head-neck-ct-2" and panel.models.message.kind == "success"
    assert not panel.models.chosen["bundled"]


def test_a_file_that_is_no_model_is_refused_with_a_sentence(panel, host, models, tmp_path):
    from SlicerHost import dialogs

    wrong = tmp_path / "wrong.zip"
    wrong.write_bytes(b"nothing of the kind")
    dialogs.answer(str(wrong))
    panel.ui.importModelButton.click()
    wait(host, lambda: panel.models.message.kind is not None)
    assert panel.models.message.kind == "error" and "wrong.zip" in panel.models.message.text
    assert "Traceback" not in panel.models.message.text
