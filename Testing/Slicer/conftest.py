import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from panel_scene import case, panel, unloaded

__all__ = ["case", "panel", "unloaded"]


def _why_no_mrml():
    try:
        import slicer_core  # noqa: F401
    except ImportError as missing:
        return f"{missing} (pip install '.[slicer]')"
    return None


def _why_no_host():
    try:
        from PySide6 import QtUiTools, QtWidgets  # noqa: F401
    except ImportError as missing:
        # Not only the package: Qt also needs libEGL of the system.
        return f"{missing} (pip install '.[slicer]'; on Debian and Ubuntu also apt-get install libegl1)"
    from SlicerHost.api import NoInventory, inventory_path

    try:
        inventory_path()
    except NoInventory as reason:
        return str(reason)
    return None


collect_ignore_glob = ["modules/*"]


def pytest_collection_modifyitems(items):
    here = str(Path(__file__).parent)
    no_mrml = _why_no_mrml()
    no_host = no_mrml or _why_no_host()
    for item in items:
        if not str(item.path).startswith(here):
            continue
        item.add_marker(pytest.mark.slicer)
        reason = no_host if "running" in item.fixturenames else no_mrml
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def same_modules():
    """A test that reloads the module leaves to the others the classes that they have imported."""
    before = _packages()
    yield
    if any(sys.modules.get(name) is not module for name, module in before.items()):
        for name in _packages():
            del sys.modules[name]
        sys.modules.update(before)
        for name, module in before.items():
            package, _, own = name.rpartition(".")
            if package in before:
                setattr(before[package], own, module)


def _packages() -> dict:
    ours = ("SSLFewShotSlicer", "SSLFewShotLib")
    return {name: module for name, module in sys.modules.items() if name.split(".")[0] in ours}


@pytest.fixture(scope="session")
def running():
    """The host, started once: one application for a process, as in Slicer."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    import SlicerHost

    SlicerHost.start()
    return SlicerHost


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


@pytest.fixture
def host(running):
    """The host with an empty scene; an exception that a callback let out fails the test."""
    from SlicerHost import dialogs, signals

    running.close_scene()
    signals.callback_errors.clear()
    dialogs.forget()
    yield running
    errors = list(signals.callback_errors)
    signals.callback_errors.clear()
    assert not errors, f"a callback raised: {errors[0]!r}"
