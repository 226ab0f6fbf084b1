"""The module uses no name of Qt, CTK or Slicer that Slicer's Python does not have."""

from pathlib import Path

import pytest

from slicer_names import chains, complaint

ROOT = Path(__file__).resolve().parents[2] / "SSLFewShot"
SOURCES = [ROOT / "SSLFewShot.py", *sorted((ROOT / "SSLFewShotSlicer").rglob("*.py"))]


@pytest.fixture(scope="module")
def ask(running):
    import slicer
    from SlicerHost.api import inventory

    return lambda chain: complaint(chain, inventory(), slicer)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_qt_ctk_and_slicer_name_exists_in_slicer(path, ask):
    wrong = [
        f"{path.name}:{line}: {chain}: {ask(chain)}"
        for line, chain in chains(path.read_text(encoding="utf-8"))
        if ask(chain)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_module_uses_names_at_all():
    found = [chain for path in SOURCES for _, chain in chains(path.read_text(encoding="utf-8"))]
    assert len(found) > 50


@pytest.mark.parametrize(
    "chain",
    [
        "qt.QNothing",
        "qt.QLabel.setTextt",
        "ctk.ctkNothing",
        "slicer.qMRMLNothing",
        "slicer.util.loadEverything",
        "slicer.vtkMRMLNothingNode",
        "slicer.mrmlScene.AddEverything",
        "slicer.app.quitNow",
        "slicer.arrayFromVolume",
    ],
)
def test_a_name_that_slicer_has_not_is_found(chain, ask):
    assert ask(chain)


@pytest.mark.parametrize(
    "chain",
    [
        "qt.QMessageBox.Yes",
        "qt.QTimer.singleShot",
        "ctk.ctkCollapsibleButton",
        "slicer.qMRMLNodeComboBox",
        "slicer.util.loadUI",
        "slicer.vtkMRMLScene.NodeAddedEvent",
        "slicer.mrmlScene.GetNodeByID",
        "slicer.app.processEvents",
        "slicer.packaging.pip_check",
        "slicer.parameterNodeWrapper.parameterNodeWrapper",
        "slicer.i18n.tr",
    ],
)
def test_a_name_that_slicer_has_is_let_pass(chain, ask):
    assert ask(chain) is None


def test_chains_are_read_from_calls_imports_and_decorators():
    source = "from slicer.util import loadUI\n@qt.Slot\ndef f(w=qt.QLabel('a').text):\n    slicer.app.x().y\n"
    assert {chain for _, chain in chains(source)} == {"slicer.util.loadUI", "qt.Slot", "qt.QLabel", "slicer.app.x"}
