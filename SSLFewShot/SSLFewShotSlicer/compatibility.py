"""What differs between versions of Slicer: asked for here, by feature, and nowhere else.

5.6 to 5.10 have no `slicer.packaging`; the PyTorch extension may not be there; Sample Data learned new calls.
"""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import slicer

MODULE_FOLDER = Path(__file__).resolve().parents[1]
# The library computes with newer Python than that of Slicer 5.6, whose own Python can only hold the panel.
OLDEST_PYTHON = (3, 10)
_OTHER_PYTHON = "SSLFEWSHOT_WORKER_PYTHON"


def testing() -> bool:
    """Whether Slicer runs tests: its dialogs then answer by themselves, so that nothing may be installed."""
    return bool(slicer.app.testingEnabled())


def other_python() -> str:
    """The Python that the variable SSLFEWSHOT_WORKER_PYTHON names for the worker; "" for Slicer's own."""
    return os.environ.get(_OTHER_PYTHON, "")


def worker_python() -> str:
    """The Python that computes: the named one, or Slicer's own without the application around it."""
    return other_python() or shutil.which("PythonSlicer") or sys.executable


def worker_environment() -> dict[str, str | None]:
    """Changes to the environment for `worker_python`: name → value, None to take it out.

    What the application's launcher added is taken back; the folder of the module comes first where Python looks.
    """
    startup = slicer.util.startupEnvironment()
    names = {*os.environ, *startup}
    changes = {name: startup.get(name) for name in names if os.environ.get(name) != startup.get(name)}
    paths = [str(MODULE_FOLDER), startup.get("PYTHONPATH", "")]
    changes["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    changes["PYTHONUTF8"] = "1"
    return changes


def confirm(text: str, title: str) -> bool:
    """Ask the user, OK or Cancel."""
    return bool(slicer.util.confirmOkCancelDisplay(text, title))


def install_torch(requirement: str) -> bool | None:
    """Have the PyTorch extension install torch, which asks the user and finds what suits the graphics card.

    Returns whether it was, None when the extension is not there. Raises whatever the extension raises.
    """
    try:
        import PyTorchUtils
    except ImportError:
        return None
    install = PyTorchUtils.PyTorchUtilsLogic().installTorch
    known = inspect.signature(install).parameters
    wanted = {"askConfirmation": True, "torchVersionRequirement": requirement}
    return install(**{name: value for name, value in wanted.items() if name in known}) is not None


def pip_install(requirements: list[str], constraints: Path, log: Callable[[str], None]) -> int:
    """Run pip in Slicer's Python and return its exit code; wheels only.

    Newer Slicer hands over every line as it comes and stays usable meanwhile; older ones freeze until it is done.
    """
    arguments = ["--only-binary=:all:", *requirements]
    try:
        from slicer import packaging
    except ImportError:
        packaging = None
    if packaging is None or "logCallback" not in inspect.signature(packaging.pip_install).parameters:
        try:
            slicer.util.pip_install([*arguments, "--constraint", str(constraints)])
        except subprocess.CalledProcessError as error:
            return error.returncode or 1
        return 0
    codes: list[int] = []
    packaging.pip_install(
        arguments,
        constraints=str(constraints),
        blocking=False,
        show_progress=False,
        logCallback=log,
        completedCallback=codes.append,
    )
    wait_for(lambda: bool(codes))
    return codes[0]


def wait_for(done: Callable[[], bool], seconds: float | None = None) -> bool:
    """Let the application live until `done()`; False when that took longer than `seconds`."""
    began = time.monotonic()
    while not done():
        if seconds is not None and time.monotonic() - began > seconds:
            return False
        slicer.app.processEvents()
        time.sleep(0.02)
    return True


def register_sample(category: str, title: str, **source) -> None:
    """List a sample in the module Sample Data. source: what registerCustomSampleDataSource takes."""
    from SampleData import SampleDataLogic

    if hasattr(SampleDataLogic, "registerCustomSampleDataCategory"):
        SampleDataLogic.registerCustomSampleDataCategory(category, title=title)
    SampleDataLogic.registerCustomSampleDataSource(category=category, **source)
