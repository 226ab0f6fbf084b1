"""Starting the host, opening a module in it, and letting its event loop run."""

import atexit
import os
import sys
import time
import types
from pathlib import Path

_running = None


class _Running:
    """The one application of this process."""

    def __init__(self, main_window):
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        from . import modules

        modules.install()
        import slicer

        self.slicer = slicer
        self._clean_namespace()
        self._quieten_qt()
        self._keep_errors_of_observers()
        from . import dialogs, differences, ui_files, widgets  # noqa: F401
        from .application import Application, MainWindow

        self.raw = Application()
        from .conversion import to_python
        from .wrapper import wrapper_class

        slicer.app = to_python(self.raw)
        if type(slicer.app) is not wrapper_class("qSlicerApplication"):
            raise RuntimeError("slicer.app is not wrapped as qSlicerApplication")
        from .slicer_python import provide

        self.python_source = provide(slicer)
        from .logics import Logics

        self.raw.logics = Logics(self.raw.cache_folder())
        slicer.mrmlScene = self.raw.logics.scene
        for name in ("modules", "moduleNames"):
            setattr(slicer, name, types.ModuleType(name))
            sys.modules[f"slicer.{name}"] = getattr(slicer, name)
        from . import mrml  # noqa: F401
        from .module_objects import LoadableModule

        for name, logic in self.raw.logics.by_module.items():
            self.register(LoadableModule(name, logic))
        if main_window:
            from .layout import LayoutManager

            self.raw.layout_manager = LayoutManager(self.raw, self.raw.logics)
            self.raw.main_window = MainWindow()
        from .look import dress
        from .watch import BlockWatch

        dress(self.raw)
        self.watch = BlockWatch(self.raw)

    def _quieten_qt(self):
        """Drop what Qt says of its offscreen screen each time a window is shown; all else is printed."""
        from PySide6.QtCore import qInstallMessageHandler

        def handle(kind, context, text):
            if "propagateSizeHints" not in text:
                print(text, file=sys.stderr)

        qInstallMessageHandler(handle)

    def _keep_errors_of_observers(self):
        """What an observer of a node lets out VTK hands to sys.excepthook; it is kept as that of a callback is."""
        from .signals import callback_errors

        show = sys.excepthook

        def keep(kind, error, trace):
            callback_errors.append(error)
            show(kind, error, trace)

        sys.excepthook = keep

    def _clean_namespace(self):
        """slicer-core leaves the functions of slicer.util in `slicer` too; Slicer does not."""
        from .modules import slicer_attribute

        slicer = self.slicer
        for name, value in list(vars(slicer.util).items()):
            if not name.startswith(("vtk", "_")) and vars(slicer).get(name) is value:
                delattr(slicer, name)
        slicer.__getattr__ = slicer_attribute

    def register(self, module):
        from .conversion import to_python

        name = module.name()
        self.raw.module_manager.modules[name] = module
        setattr(self.slicer.modules, name.lower(), to_python(module))
        setattr(self.slicer.moduleNames, name, name)
        self.raw.module_manager.moduleLoaded.emit(name)


def start(main_window=True):
    """Start the application once; `main_window=False` is Slicer's --no-main-window."""
    global _running
    if _running is None:
        _running = _Running(main_window)
        atexit.register(_shut_down)
    return _running


def stop():
    """What happens when the user quits Slicer: aboutToQuit, then the modules are unloaded."""
    running = start()
    running.raw.aboutToQuit.emit()
    for name, module in list(running.raw.module_manager.modules.items()):
        if hasattr(module, "instance"):
            close_module(name)


def _shut_down():
    """Take Qt and MRML apart while Python still can: widgets first, then the scene, then the application."""
    from PySide6.QtCore import qInstallMessageHandler
    from PySide6.QtWidgets import QApplication

    stop()
    _running.watch.stop()
    for widget in QApplication.topLevelWidgets():
        widget.close()
        widget.deleteLater()
    process()
    _running.raw.logics.scene.RemoveAllObservers()
    qInstallMessageHandler(None)
    _running.raw.close_down()
    _running.raw.shutdown()


def module_file(name):
    """SSLFewShot/SSLFewShot.py of this checkout for "SSLFewShot"; else the path that was given."""
    if str(name).endswith(".py"):
        return Path(name)
    return Path(__file__).resolve().parents[2] / name / f"{name}.py"


def open_module(name, enter=True):
    """Load the module file, build its panel and show it; the module's own widget object comes back."""
    from .module_objects import ScriptedModule

    running = start()
    path = module_file(name)
    known = running.raw.module_manager.modules.get(path.stem)
    if known is None:
        known = ScriptedModule(path)
        known.load()
        running.register(known)
        running.raw.startupCompleted.emit()  # Slicer loads its modules, then says this once
    panel = known.widgetRepresentation()
    panel.resize(500, 900)
    panel.show()
    if enter:
        panel.enter()
    process(0.01)
    return panel.self()


def close_module(name):
    """Unload a module: exit, moduleAboutToBeUnloaded (which calls its cleanup), the panel deleted."""
    running = start()
    module = running.raw.module_manager.modules.get(name)
    if module is None:
        return
    panel = module._panel
    if panel is not None and panel.isEntered():
        panel.exit()
    running.raw.module_manager.moduleAboutToBeUnloaded.emit(name)
    if panel is not None:
        panel.deleteLater()
        module._panel = None
    for attribute in (f"{name}Widget", f"{name}Instance", name.lower()):
        if hasattr(running.slicer.modules, attribute):
            delattr(running.slicer.modules, attribute)
    running.raw.module_manager.modules.pop(name, None)
    process(0.01)


def close_scene():
    """File / Close scene."""
    start().raw.logics.scene.Clear(0)
    process(0.01)


def process(seconds=0.0):
    """Run the event loop for this long."""
    from PySide6.QtCore import QCoreApplication, QEvent, QEventLoop, QTimer

    watch = start().watch
    watch.resume()
    if seconds > 0:
        loop = QEventLoop()
        QTimer.singleShot(max(1, int(seconds * 1000)), loop.quit)
        loop.exec()
    QCoreApplication.processEvents()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    watch.finish()


def wait_until(condition, seconds=10.0):
    """Run the event loop until the condition holds; whether it did."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        process(0.02)
    return bool(condition())


def longest_block():
    """The longest time in ms that the event loop was kept waiting since `reset_block`."""
    return start().watch.longest()


def reset_block():
    start().watch.reset()
