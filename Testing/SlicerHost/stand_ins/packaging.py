"""slicer.packaging: what is installed is asked for truly, and nothing is ever installed into a test's Python.

`pip_command` is the command that stands for pip; a test sets it to a program of its own. Without it an
installation raises, as it does in Slicer where PythonSlicer is not found.
"""

import importlib.metadata
import subprocess
from pathlib import Path

import slicer
from packaging.requirements import Requirement

pip_command = None


def load_requirements(path):
    lines = (line.split("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def pip_check(req, _seen=None):
    if isinstance(req, (list, tuple)):
        return all(pip_check(one) for one in req)
    req = Requirement(str(req))
    if req.marker is not None and not req.marker.evaluate():
        return True
    try:
        return req.specifier.contains(importlib.metadata.version(req.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


def pip_ensure(
    requirements,
    constraints=None,
    skip_packages=None,
    prompt_install=True,
    prompt_restart=True,
    requester=None,
    skip_in_testing=True,
    show_progress=True,
):
    missing = [str(one) for one in _listed(requirements) if not pip_check(one)]
    if not missing or (skip_in_testing and slicer.app.testingEnabled()):
        return None
    title = f"{requester} - Install Python Packages" if requester else "Install Python Packages"
    message = f"{len(missing)} Python packages need to be installed."
    if prompt_install and not slicer.util.confirmOkCancelDisplay(message, title, detailedText="\n".join(missing)):
        raise RuntimeError("User declined package installation")
    return pip_install(missing, constraints=constraints, skip_packages=skip_packages)


def pip_install(
    requirements,
    constraints=None,
    no_deps_requirements=None,
    skip_packages=None,
    blocking=True,
    show_progress=True,
    requester=None,
    logCallback=None,
    completedCallback=None,
):
    arguments = ["install", *[str(one) for one in _listed(requirements)]]
    if constraints is not None:
        arguments += ["--constraint", str(constraints)]
    return _run(arguments, blocking, logCallback, completedCallback)


def pip_uninstall(requirements, blocking=True, logCallback=None, completedCallback=None):
    return _run(["uninstall", "--yes", *_listed(requirements)], blocking, logCallback, completedCallback)


def isPipInstallInProgress():
    return False


def _listed(requirements):
    return requirements if isinstance(requirements, (list, tuple)) else str(requirements).split()


def _run(arguments, blocking, log, completed):
    if pip_command is None:
        raise RuntimeError("PythonSlicer executable not found (the test host installs nothing: set pip_command)")
    command = [*pip_command, *arguments]
    if blocking:
        subprocess.run(command, check=True)
        return
    slicer.util.launchConsoleProcess(
        command, useStartupEnvironment=False, blocking=False, logCallback=log, completedCallback=completed
    )
