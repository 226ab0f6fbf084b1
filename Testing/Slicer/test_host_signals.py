"""Signals, and what lives how long, are in the host as PythonQt has them."""

import gc

import pytest

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


def test_an_error_in_an_observer_of_a_node_is_printed_and_reaches_the_test(slicer, capsys):
    import vtk
    from SlicerHost import signals

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: 1 / 0)
    node.Modified()
    assert isinstance(signals.callback_errors.pop(), ZeroDivisionError) and not signals.callback_errors
    assert "ZeroDivisionError" in capsys.readouterr().err
