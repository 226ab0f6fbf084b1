"""The sample is made on the spot by the Python that computes, loaded, and found again afterwards."""

from bridge_scene import empty_scene  # noqa: F401 - a fixture that every test uses

# isort: split
import os
import sys
import types

import numpy as np
import pytest
import slicer
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotSlicer.bridge import list_segments


@pytest.fixture
def sample_data(monkeypatch, tmp_path):
    """The module, in whatever runs it: the test host, or a bare scene with what it asks of the application."""
    if "slicer.i18n" not in sys.modules:
        i18n = types.ModuleType("slicer.i18n")
        i18n.tr = lambda text: text
        monkeypatch.setitem(sys.modules, "slicer.i18n", i18n)
    application = types.SimpleNamespace(processEvents=lambda: None)
    monkeypatch.setattr(slicer, "app", application, raising=False)
    monkeypatch.setattr(slicer.util, "startupEnvironment", lambda: dict(os.environ))
    monkeypatch.setenv("SSLFEWSHOT_WORKER_PYTHON", sys.executable)
    from SSLFewShotSlicer import sample_data

    monkeypatch.setattr(sample_data, "sample_folder", lambda: tmp_path / "cäche" / "torsos")
    return sample_data


def test_two_torsos_are_made_one_marked_and_one_whose_truth_is_hidden(sample_data):
    sample = sample_data.load_sample()
    volume, segmentation = sample.support
    made, labels = phantom((2026, 0))
    assert np.array_equal(slicer.util.arrayFromVolume(volume), made.array)
    assert [s.name for s in list_segments(segmentation)] == [s.name for s in labels.segments]
    assert [s.terminology for s in list_segments(segmentation)] == [s.terminology for s in labels.segments]
    assert segmentation.GetDisplayNode().GetVisibility()
    assert not sample.truth.GetDisplayNode().GetVisibility()
    assert (volume.GetName(), sample.target.GetName()) == ("Torso 1", "Torso 2")
    assert segmentation.GetName() == "Torso 1 marked"


def test_the_second_time_nothing_is_made_and_names_stay_different(sample_data, monkeypatch):
    sample_data.load_sample()
    monkeypatch.setattr(sample_data, "_run", lambda *_: pytest.fail("made again"))
    again = sample_data.load_sample()
    assert again.target.GetName() != "Torso 2"


def test_a_package_that_is_missing_is_told_with_where_to_install_it(sample_data, monkeypatch):
    monkeypatch.setattr(sample_data, "_MAKE", "import a_package_that_is_not_there")
    with pytest.raises(InputError, match=r"a_package_that_is_not_there.*open Setup"):
        sample_data.load_sample()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_a_python_that_is_not_there_is_told(sample_data, monkeypatch, tmp_path):
    monkeypatch.setenv("SSLFEWSHOT_WORKER_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"could not be made.*nowhere"):
        sample_data.load_sample()


def test_a_python_that_hangs_is_ended(sample_data, monkeypatch):
    monkeypatch.setattr(sample_data, "_MAKE", "import time; time.sleep(60)")
    monkeypatch.setattr(sample_data, "_SECONDS", 0.5)
    with pytest.raises(InputError, match="not done after"):
        sample_data.load_sample()


class Registry:
    """SampleDataLogic as Slicer has it, in its older and newer form."""

    def __init__(self):
        self.sources = []
        self.titles = {}


@pytest.mark.parametrize("newer", [False, True])
def test_it_is_listed_in_sample_data_with_a_thumbnail_and_a_button_that_makes_it(sample_data, monkeypatch, newer):
    registry = Registry()

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(**source):
            registry.sources.append(source)

    if newer:
        SampleDataLogic.registerCustomSampleDataCategory = lambda name, title: registry.titles.update(
            {name: title}
        )
    module = types.ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic
    monkeypatch.setitem(sys.modules, "SampleData", module)
    sample_data.register()
    (source,) = registry.sources
    assert source["category"] == "SSLFewShot"
    assert os.path.isfile(source["thumbnailFileName"])
    assert len(source["uris"]) == len(source["fileNames"]) == len(source["nodeNames"]) == 2
    assert source["customDownloader"](None).target.GetName() == "Torso 2"
    assert registry.titles == ({"SSLFewShot": "SSLFewShot"} if newer else {})
