"""The Python packages that the worker needs: what is there, what is missing, and having it installed.

Nothing is imported to find out: importing torch in the application costs seconds and locks its files on Windows.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Callable

from slicer.i18n import tr as _

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer import compatibility

TORCH = "torch"
_TORCH_REQUIREMENT = "torch>=2.2"
# These are Slicer's own: what depends on them must be content with the version that is there.
_NEVER_REPLACED = ("numpy", "SimpleITK", "requests", "torch", "torchvision")
_OFFLINE = re.compile(
    r"NewConnectionError|NameResolutionError|name resolution|getaddrinfo|ConnectTimeout|ProxyError|"
    r"Network is unreachable|Could not fetch URL|Failed to establish a new connection",
    re.IGNORECASE,
)
_NO_SPACE = re.compile(r"No space left|Errno 28|not enough space", re.IGNORECASE)
_FORBIDDEN = re.compile(r"Permission denied|Errno 13|Access is denied|WinError 5\b", re.IGNORECASE)
_ASK = (
    "import json, sys\nfrom importlib import metadata\nfound = {}\n"
    "for name in sys.argv[1:]:\n    try:\n        found[name] = metadata.version(name)\n"
    "    except metadata.PackageNotFoundError:\n        pass\nprint(json.dumps(found))"
)


class PackagesError(InputError):
    """Packages could not be installed; the message says why and what to do."""


class PackagesDeclinedError(PackagesError):
    """The user does not want them installed."""


@dataclass(frozen=True)
class PackageStatus:
    """A package that is needed. name: as pip knows it; title: what to show; requirement: "scipy>=1.11".

    installed: the version that is there and new enough, else "".
    """

    name: str
    title: str
    requirement: str
    installed: str


def status() -> list[PackageStatus]:
    """Every package that has to be installed beside Slicer's own, torch first.

    Raises PackagesError when the Python named by SSLFEWSHOT_WORKER_PYTHON cannot be asked.
    """
    requirements = [_TORCH_REQUIREMENT, *required()]
    there = _versions([_name(requirement) for requirement in requirements])
    found = []
    for requirement in requirements:
        name = _name(requirement)
        version = there.get(name, "")
        old = bool(version) and not _new_enough(version, requirement)
        title = "PyTorch" if name == TORCH else name
        if old:
            title = _("{package} ({version} is too old)").format(package=title, version=version)
        found.append(PackageStatus(name, title, requirement, "" if old else version))
    return found


def missing() -> list[str]:
    """Names of packages that are not there, or too old."""
    return [package.name for package in status() if not package.installed]


def required() -> list[str]:
    """The requirements in Resources/requirements.txt, which also tells pip."""
    path = compatibility.MODULE_FOLDER / "Resources" / "requirements.txt"
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def install(log: Callable[[str], None] | None = None) -> bool:
    """Install what is missing, after asking; True when all is there afterwards.

    torch comes from the PyTorch extension, the rest from pip, which may not replace what is Slicer's own.
    log: called with every line that pip writes.

    Raises PackagesDeclinedError, or PackagesError saying why it failed and what to do.
    """
    say = log or (lambda line: None)
    wanted = [package for package in status() if not package.installed]
    if not wanted:
        return True
    _refuse_where_nothing_can_be_installed(wanted)
    others = [package.requirement for package in wanted if package.name != TORCH]
    # Asked before anything is done: who declines has changed nothing.
    if others and not _agreed(others):
        raise PackagesDeclinedError(
            _("Nothing was installed. Segmenting needs these packages: click Install again when you are ready")
        )
    if len(others) < len(wanted):
        _install_torch(say)
    if others:
        _install_others(others, say)
    left = missing()
    if left:
        raise PackagesError(
            _("{packages} was installed but is not found; restart Slicer and look again").format(
                packages=", ".join(left)
            )
        )
    say(_("All is installed"))
    return True


def _refuse_where_nothing_can_be_installed(wanted: list[PackageStatus]) -> None:
    names = " ".join(f'"{package.requirement}"' for package in wanted)
    if compatibility.other_python():
        raise PackagesError(
            _("{python} computes, which is not Slicer's Python: install there with pip: {packages}").format(
                python=compatibility.other_python(), packages=names
            )
        )
    if sys.version_info < compatibility.OLDEST_PYTHON:
        raise PackagesError(
            _(
                "This Slicer has Python {version}, 3.10 or newer is needed to compute: use a newer Slicer, or "
                "name a command that starts the worker with another Python"
            ).format(version=".".join(map(str, sys.version_info[:2])))
        )
    if compatibility.testing():
        raise PackagesError(_("Slicer runs tests, nothing is installed: {packages}").format(packages=names))


def _agreed(requirements: list[str]) -> bool:
    text = _(
        "These Python packages will be downloaded and installed into Slicer's Python:\n\n{packages}\n\n"
        "Slicer's own packages stay as they are. It takes some minutes, once."
    )
    return compatibility.confirm(text.format(packages="\n".join(requirements)), _("SSLFewShot: install packages"))


def _install_torch(say: Callable[[str], None]) -> None:
    say(_("Installing PyTorch"))
    try:
        done = compatibility.install_torch(_TORCH_REQUIREMENT[len(TORCH) :])
    except Exception as error:  # the extension's own code, and pip below it
        raise PackagesError(_failure("PyTorch", [str(error), str(getattr(error, "output", "") or "")])) from error
    if done is None:
        raise PackagesError(
            _(
                "The extension PyTorch is not there: open the Extensions Manager, install PyTorch, restart "
                "Slicer, and click Install again"
            )
        )
    if not done:
        raise PackagesDeclinedError(
            _("PyTorch was not installed. Segmenting needs it: click Install again when you are ready")
        )


def _install_others(requirements: list[str], say: Callable[[str], None]) -> None:
    lines: list[str] = []

    def keep(line: str) -> None:
        lines.append(str(line))
        say(str(line).rstrip())

    say(_("Installing {packages}").format(packages=", ".join(requirements)))
    with tempfile.TemporaryDirectory(prefix="sslfewshot-") as folder:
        constraints = Path(folder) / "constraints.txt"
        kept = _versions(list(_NEVER_REPLACED))
        text = "".join(f"{name}=={version}\n" for name, version in kept.items())
        constraints.write_text(text, encoding="utf-8")
        try:
            code = compatibility.pip_install(requirements, constraints, keep)
        except Exception as error:
            raise PackagesError(_failure(", ".join(requirements), [*lines, str(error)])) from error
    if code:
        raise PackagesError(_failure(", ".join(requirements), lines))


def _failure(packages: str, lines: list[str]) -> str:
    """Why an installation failed, as far as what was written tells, and what to do."""
    text = "\n".join(lines)
    if _OFFLINE.search(text):
        return _(
            "{packages} could not be downloaded: this computer is offline, or a proxy is in the way. Connect it "
            "and click Install again; or compute on another machine, with a command"
        ).format(packages=packages)
    if _NO_SPACE.search(text):
        return _("{packages} could not be installed: the disk is full; free some space and try again").format(
            packages=packages
        )
    if _FORBIDDEN.search(text):
        return _(
            "{packages} could not be installed: writing into Slicer's folder is not allowed; start Slicer once as "
            "administrator, or install Slicer in a folder of your own"
        ).format(packages=packages)
    last = next((line.strip() for line in reversed(lines) if "error" in line.lower()), "")
    reason = f" ({last[:300]})" if last else ""
    return _("{packages} could not be installed{reason}; the log tells more").format(
        packages=packages, reason=reason
    )


def _versions(names: list[str]) -> dict[str, str]:
    """Name → version of those that are installed in the Python that computes."""
    python = compatibility.other_python()
    if not python:
        found = {}
        for name in names:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        # An interrupted installation can leave a package's files without a version.
        return {name: version for name, version in found.items() if version}
    try:
        done = subprocess.run([python, "-c", _ASK, *names], capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise PackagesError(
            _("{python}: this Python, named by SSLFEWSHOT_WORKER_PYTHON, cannot be started ({reason})").format(
                python=python, reason=error
            )
        ) from error


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~ \[]", requirement)[0]


def _new_enough(version: str, requirement: str) -> bool:
    """Whether a version is at least the one that "name>=1.2" asks for."""
    wanted = requirement.partition(">=")[2]
    return _numbers(version) >= _numbers(wanted)


def _numbers(version: str) -> list[int]:
    """The release number of a version: [2, 4, 1] for "2.4.1+cu121", [2] for "2.0"."""
    release = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in release.group().split(".")] if release else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers
