"""The host shows Qt, CTK and Slicer's widgets as PythonQt shows them, and nothing that Slicer has not."""

import gc

import pytest


@pytest.fixture
def qt(host):
    import qt

    return qt


@pytest.fixture
def ctk(host):
    import ctk

    return ctk


@pytest.fixture
def slicer(host):
    import slicer

    return slicer


# Attribute or method


def test_a_property_is_an_attribute_and_never_a_method(qt):
    label = qt.QLabel("one")
    assert label.text == "one"
    label.text = "two"
    assert label.text == "two"
    with pytest.raises(TypeError, match="not callable"):
        label.text()


def test_a_plain_getter_is_a_method(qt):
    timer = qt.QTimer()
    assert timer.isActive() is False
    assert timer.active is False
    button = qt.QPushButton()
    assert button.isVisible() is False and button.visible is False


def test_a_setter_is_there_only_where_it_is_a_slot_or_wrapped(qt, slicer):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    with pytest.raises(AttributeError, match="qMRMLNodeComboBox has no 'setNodeTypes'.*plain C"):
        selector.setNodeTypes(["vtkMRMLScalarVolumeNode"])
    label = qt.QLabel()
    label.setText("a slot")
    assert label.text == "a slot"


def test_items_and_values_have_methods_only(qt):
    item = qt.QTableWidgetItem("cell")
    assert item.text() == "cell"
    assert qt.QColor(1, 2, 3).red() == 1


def test_hidden_members_are_not_there(ctk, slicer):
    with pytest.raises(AttributeError, match="protected or private"):
        ctk.ctkCollapsibleButton().collapse
    with pytest.raises(AttributeError, match="protected or private"):
        slicer.qMRMLNodeComboBox().emitCurrentNodeChanged
    assert not hasattr(ctk.ctkCollapsibleButton(), "setCollapsed")


@pytest.mark.parametrize("name", ["nodeTypez", "setFoo", "PySide"])
def test_an_unknown_name_raises_and_is_named(slicer, name):
    with pytest.raises(AttributeError, match=f"'{name}'"):
        getattr(slicer.qMRMLNodeComboBox(), name)


def test_an_unknown_class_raises_and_is_named(qt, ctk, slicer):
    with pytest.raises(AttributeError, match="qt.QNothing"):
        qt.QNothing
    with pytest.raises(AttributeError, match="ctk.ctkNothing"):
        ctk.ctkNothing
    with pytest.raises(AttributeError, match=r"slicer.qMRMLNothing"):
        slicer.qMRMLNothing


def test_what_is_gone_in_qt_6_raises(qt):
    spin = qt.QSpinBox()
    with pytest.raises(ValueError, match=r"valueChanged\(QString\)"):
        spin.connect("valueChanged(QString)", lambda text: None)


def test_a_new_attribute_cannot_be_set_on_a_wrapper(qt):
    label = qt.QLabel()
    with pytest.raises(AttributeError, match="'note'"):
        label.note = 1
    with pytest.raises(AttributeError, match="setText is a method"):
        label.setText = print


def test_a_read_only_property_cannot_be_set(qt):
    with pytest.raises(AttributeError, match="can only be read"):
        qt.QComboBox().count = 3


def test_a_property_of_wrong_type_is_refused(qt):
    with pytest.raises(AttributeError, match="QSpinBox.value takes int"):
        qt.QSpinBox().value = [1]


def test_dynamic_properties_and_children_are_reached_by_name(qt):
    box = qt.QGroupBox()
    label = qt.QLabel(box)
    label.name = "inner"
    assert label.objectName == "inner"
    assert box.inner == label
    box.setProperty("SlicerParameterName", "volume")
    assert box.property("SlicerParameterName") == "volume"
    assert box.SlicerParameterName == "volume"


# Types and calls


def test_wrapped_classes_are_siblings(qt):
    button = qt.QPushButton()
    assert not isinstance(button, qt.QWidget)
    assert button.inherits("QWidget") and type(button) == qt.QPushButton  # noqa: E721  (as Slicer's own code asks)
    assert button.className() == "QPushButton"


def test_calls_are_positional_only(qt):
    with pytest.raises(ValueError, match="keyword"):
        qt.QLabel(text="one")
    with pytest.raises(ValueError, match="keyword"):
        qt.QLabel().setText(text="one")


def test_a_call_that_fits_no_overload_raises(qt):
    with pytest.raises(ValueError, match=r"QLabel.setText takes void\(QString\)"):
        qt.QLabel().setText()


def test_conversion_is_lenient_as_pythonqt_is(qt):
    label = qt.QLabel()
    label.text = None
    assert label.text == "None"
    combo = qt.QComboBox()
    combo.addItems("abc")
    assert combo.count == 3
    spin = qt.QSpinBox()
    spin.value = 2.9
    assert spin.value == 2


def test_lists_come_back_as_tuples(qt, slicer):
    widget = qt.QWidget()
    child = qt.QLabel(widget)
    assert widget.children() == (child,)
    assert slicer.app.layoutManager().sliceViewNames() == ("Red", "Green", "Yellow")


def test_ctk_widgets_are_made_without_a_text(ctk, qt):
    with pytest.raises(ValueError, match="ctkCollapsibleButton takes"):
        ctk.ctkCollapsibleButton("Title")
    parent = qt.QWidget()
    assert ctk.ctkCollapsibleButton(parent).parent() == parent


def test_a_class_without_constructor_cannot_be_made(slicer):
    with pytest.raises(TypeError, match="qSlicerAbstractModule cannot be made"):
        slicer.qSlicerAbstractModule()


def test_enumerations_are_ints_on_the_class_and_on_the_type(qt):
    assert qt.QMessageBox.Yes == qt.QMessageBox.StandardButton.Yes == 0x4000
    both = qt.QMessageBox.Yes | qt.QMessageBox.No
    assert type(both) is int
    assert qt.QSizePolicy.Expanding == 7
    with pytest.raises(AttributeError):
        qt.QSizePolicy.Enormous


def test_an_enumeration_property_takes_a_number_or_a_key(qt):
    label = qt.QLabel()
    label.alignment = qt.Qt.AlignRight | qt.Qt.AlignVCenter
    assert label.alignment == 0x82
    label.textFormat = "RichText"
    assert label.textFormat == qt.Qt.RichText


# Signals


def test_a_signal_is_connected_by_its_signature(qt):
    button, seen = qt.QPushButton(), []
    assert button.connect("clicked( bool )", seen.append) is True
    button.checkable = True
    button.click()
    assert seen == [True]


def test_a_wrong_signature_raises_and_says_which_there_are(qt):
    with pytest.raises(ValueError, match=r"'clicked\(int\)'.*clicked\(bool\), clicked\(\)"):
        qt.QPushButton().connect("clicked(int)", lambda: None)


def test_a_callback_gets_as_many_arguments_as_it_names(qt):
    button, seen = qt.QPushButton(), []

    class Listener:
        def on_click(self):
            seen.append("method")

    listener = Listener()
    button.connect("clicked(bool)", lambda: seen.append("none"))
    button.connect("clicked(bool)", lambda *all_of_them: seen.append(all_of_them))
    button.connect("clicked(bool)", listener.on_click)
    button.click()
    assert seen == ["none", (False,), "method"]


def test_disconnecting_a_bound_method_works(qt):
    class Listener:
        count = 0

        def on_click(self):
            self.count += 1

    button, listener = qt.QPushButton(), Listener()
    button.connect("clicked(bool)", listener.on_click)
    assert button.disconnect("clicked(bool)", listener.on_click) is True
    button.click()
    assert listener.count == 0
    assert button.disconnect("clicked(bool)", listener.on_click) is False


def test_a_signal_as_attribute_is_its_first_overload(qt, slicer):
    button, seen = qt.QPushButton(), []
    button.clicked.connect(seen.append)
    button.click()
    button.clicked.disconnect(seen.append)
    button.click()
    assert seen == [False]


def test_a_signal_can_join_an_object_and_its_slot(qt):
    button, label = qt.QPushButton(), qt.QLineEdit("text")
    button.connect("clicked()", label, "clear()")
    button.click()
    assert label.text == ""
    with pytest.raises(ValueError, match="no slot 'vanish"):
        button.connect("clicked()", label, "vanish()")


def test_a_connection_keeps_its_callable_alive(qt):
    button, seen = qt.QPushButton(), []
    button.connect("clicked()", lambda: seen.append(1))
    gc.collect()
    button.click()
    assert seen == [1]


def test_an_exception_in_a_callback_is_printed_and_does_not_reach_the_sender(qt, capsys):
    from SlicerHost import signals

    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert isinstance(signals.callback_errors.pop(), ZeroDivisionError)


def test_timers_fire_in_the_event_loop(qt, host):
    seen, timer = [], qt.QTimer()
    timer.interval = 5
    timer.connect("timeout()", lambda: seen.append("tick"))
    timer.start()
    qt.QTimer.singleShot(5, lambda: seen.append("once"))
    assert seen == []
    host.process(0.1)
    assert "once" in seen and seen.count("tick") > 3
    timer.stop()


# Ownership


def test_use_after_deletion_raises_and_the_wrapper_is_false(qt, host):
    label = qt.QLabel()
    label.deleteLater()
    host.process(0.01)
    assert not label
    with pytest.raises(ValueError, match="deleted"):
        label.text


def test_a_child_lives_as_long_as_its_parent(qt):
    parent = qt.QWidget()
    layout = qt.QVBoxLayout(parent)
    layout.addWidget(qt.QLabel("kept"))
    gc.collect()
    assert layout.itemAt(0).widget().text == "kept"


def test_the_same_object_is_equal_and_while_it_is_held_identical(qt):
    parent = qt.QWidget()
    child = qt.QLabel(parent)
    assert parent.children()[0] is child
    assert child.parent() == parent


def test_a_python_subclass_takes_attributes_and_overrides_virtuals(qt):
    class Filter(qt.QObject):
        def __init__(self, parent=None):
            super().__init__(parent)
            self.seen = 0

        def eventFilter(self, watched, event):
            if event.type() == qt.QEvent.EnabledChange:
                self.seen += 1
            return False

    button = qt.QPushButton()
    watcher = Filter(button)
    button.installEventFilter(watcher)
    button.enabled = False
    assert watcher.seen == 1


# The scene, the application, dialogs


def test_the_scene_is_the_real_one(slicer):
    assert slicer.mrmlScene.IsA("vtkMRMLScene")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "name")
    assert slicer.util.getNode("name") is node


def test_functions_of_slicer_util_are_in_slicer_util_only(slicer):
    assert slicer.util.arrayFromVolume
    with pytest.raises(AttributeError, match="arrayFromVolume"):
        slicer.arrayFromVolume


def test_scene_events_reach_python_observers(slicer):
    import vtk

    seen = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def added(caller, event, node):
        seen.append(node.GetName())

    tag = slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, added)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "news")
    slicer.mrmlScene.RemoveObserver(tag)
    assert seen == ["news"]


def test_a_dialog_is_answered_by_the_test_and_what_it_asked_is_kept(qt, slicer):
    from SlicerHost import dialogs

    dialogs.answer(qt.QMessageBox.Yes, qt.QMessageBox.No)
    assert slicer.util.confirmYesNoDisplay("Overwrite?") is True
    assert slicer.util.confirmYesNoDisplay("Really?") is False
    assert [text for _, text in dialogs.asked] == ["Overwrite?", "Really?"]


def test_a_dialog_without_an_answer_is_cancelled(slicer, qt):
    assert slicer.util.confirmOkCancelDisplay("Go on?") is False
    assert qt.QFileDialog.getOpenFileName(None, "Open", "") == ""


def test_a_file_dialog_gives_a_path_and_not_a_pair(qt):
    from SlicerHost import dialogs

    dialogs.answer("/somewhere/ä b.nrrd")
    assert qt.QFileDialog.getOpenFileName(None, "Open", "") == "/somewhere/ä b.nrrd"


def test_settings_are_those_of_this_run_only(qt, slicer):
    qt.QSettings().setValue("SSLFewShot/Path", "ä")
    assert qt.QSettings().value("SSLFewShot/Path") == "ä"
    assert slicer.app.settings().value("Nothing/There", 5) == 5


def test_the_longest_block_is_measured_in_the_event_loop(qt, host):
    import time

    host.process(0.05)
    host.reset_block()
    host.process(0.2)
    assert host.longest_block() < 80
    qt.QTimer.singleShot(10, lambda: time.sleep(0.15))
    host.process(0.3)
    assert 140 < host.longest_block() < 300


def test_time_outside_the_event_loop_is_no_block(host):
    import time

    host.reset_block()
    time.sleep(0.2)
    host.process(0.02)
    assert host.longest_block() < 80
