"""The host shows Qt, CTK and Slicer's widgets as PythonQt shows them, and nothing that Slicer has not."""

import pytest

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
