"""A form may use only what Slicer has; the module's own forms do."""

from pathlib import Path

import pytest

FORMS = Path(__file__).resolve().parents[2] / "SSLFewShot" / "Resources" / "UI"

ON = "<string>on</string>"


@pytest.fixture
def load(host, tmp_path):
    """Load a form with this inside of its root widget."""
    import slicer

    def load(inside, after=""):
        path = tmp_path / "form ü.ui"
        text = f'<ui version="4.0"><widget class="qMRMLWidget" name="root">{inside}</widget>{after}</ui>'
        path.write_text(text, encoding="utf-8")
        return slicer.util.loadUI(str(path))

    return load


def widget(class_name, name="one", properties=""):
    return f'<widget class="{class_name}" name="{name}">{properties}</widget>'


@pytest.mark.parametrize("path", sorted(FORMS.glob("*.ui")), ids=lambda path: path.name)
def test_the_modules_own_forms_use_only_what_slicer_has(host, path):
    import slicer

    loaded = slicer.util.loadUI(str(path))
    assert loaded.className() == "qMRMLWidget"
    assert vars(slicer.util.childWidgetVariables(loaded))


def test_a_property_that_slicer_has_not_is_named(load):
    wrong = '<property name="nodeKinds"><stringlist/></property>'
    with pytest.raises(ValueError, match="widget 'one': qMRMLNodeComboBox has no 'nodeKinds'"):
        load(widget("qMRMLNodeComboBox", properties=wrong))


def test_a_class_that_slicer_has_not_is_named(load):
    with pytest.raises(ValueError, match="widget 'one': slicer-api.json has no class qMRMLNothing"):
        load(widget("qMRMLNothing"))


def test_a_widget_that_the_host_has_not_is_named(load):
    with pytest.raises(NotImplementedError, match="no stand-in for qMRMLSubjectHierarchyTreeView"):
        load(widget("qMRMLSubjectHierarchyTreeView"))


def test_properties_of_all_kinds_are_set(load, host):
    import qt
    import slicer

    loaded = load(
        widget("QLabel", "label", '<property name="text"><string>ä</string></property>')
        + widget("ctkPathLineEdit", "path", '<property name="filters"><set>ctkPathLineEdit::Dirs</set></property>')
        + widget(
            "ctkSliderWidget",
            "slider",
            '<property name="decimals"><number>3</number></property>'
            '<property name="maximum"><double>2.5</double></property>',
        )
        + widget(
            "QCheckBox", "box", '<property name="SlicerParameterName" stdset="0"><string>on</string></property>'
        )
        + widget("ctkCollapsibleButton", "section", '<property name="collapsed"><bool>true</bool></property>')
    )
    ui = slicer.util.childWidgetVariables(loaded)
    assert ui.label.text == "ä"
    assert ui.path.filters == 1 and ui.slider.decimals == 3 and ui.slider.maximum == 2.5
    assert ui.box.property("SlicerParameterName") == "on"
    assert ui.section.collapsed is True
    assert type(ui.label) == qt.QLabel  # noqa: E721


def connection(sender, signal, receiver, slot):
    parts = {"sender": sender, "signal": signal, "receiver": receiver, "slot": slot}
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in parts.items())
    return f"<connections><connection>{inside}</connection></connections>"


def test_connections_of_the_form_are_made(load, host):
    import slicer

    scene = "mrmlSceneChanged(vtkMRMLScene*)", "selector", "setMRMLScene(vtkMRMLScene*)"
    loaded = load(widget("qMRMLNodeComboBox", "selector"), connection("root", *scene))
    loaded.setMRMLScene(slicer.mrmlScene)
    assert loaded.selector.mrmlScene() is slicer.mrmlScene


@pytest.mark.parametrize(
    ("ends", "complaint"),
    [
        (("root", "sceneChanged()", "one", "clear()"), "no signal"),
        (("root", "mrmlSceneChanged(vtkMRMLScene*)", "one", "vanish()"), "no slot"),
        (("root", "mrmlSceneChanged(vtkMRMLScene*)", "two", "clear()"), "not in the form"),
    ],
)
def test_a_connection_that_slicer_would_not_make_raises(load, ends, complaint):
    with pytest.raises(ValueError, match=complaint):
        load(widget("QLineEdit"), connection(*ends))


def test_a_form_that_is_not_there_raises(host):
    import slicer

    with pytest.raises(RuntimeError, match="file not found"):
        slicer.util.loadUI("/no/such/form.ui")
