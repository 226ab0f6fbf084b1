"""MRML events that reach a widget for as long as it lives."""

import weakref

import shiboken6
import vtk


class Watch:
    """Observers of one widget, removed with `stop` or when Qt has deleted the widget."""

    def __init__(self, widget):
        self._widget = weakref.ref(widget)
        self._observed = []

    def observe(self, subject, event, method_name, with_node=False):
        """Call the widget's method of that name on an event, with the event's node where asked."""

        def deliver(caller, event_name, node=None):
            widget = self._widget()
            if widget is None or not shiboken6.isValid(widget):
                self.stop()
                return
            method = getattr(widget, method_name)
            method(node) if with_node else method()

        if with_node:
            deliver.CallDataType = vtk.VTK_OBJECT
        self._observed.append((subject, subject.AddObserver(event, deliver)))

    def stop(self):
        for subject, tag in self._observed:
            subject.RemoveObserver(tag)
        self._observed = []
