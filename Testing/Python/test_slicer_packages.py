"""Finding and installing what the worker needs, with a stand-in for Slicer: nothing is installed here."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from fake_slicer import OTHERS, FakeSlicer, the_pytorch_extension
from SSLFewShotLib.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def slicer(monkeypatch):
    fake = FakeSlicer()
    for name, module in {"slicer": fake, "slicer.i18n": fake.i18n, "slicer.packaging": fake.packaging}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(ROOT / "SSLFewShot"))
    monkeypatch.delenv("SSLFEWSHOT_WORKER_PYTHON", raising=False)
    _forget()

    def version(name):
        if name not in fake.installed:
            raise metadata.PackageNotFoundError(name)
        return fake.installed[name]

    monkeypatch.setattr(metadata, "version", version)
    yield fake
    _forget()


def _forget():
    for name in [n for n in sys.modules if n.split(".")[0] in ("SSLFewShotSlicer", "PyTorchUtils")]:
        del sys.modules[name]


@pytest.fixture
def packages(slicer):
    from SSLFewShotSlicer import packages

    return packages


def test_nothing_is_missing_and_nothing_is_asked_when_all_is_there(slicer, packages):
    assert packages.missing() == []
    assert [s.name for s in packages.status()] == ["torch", *OTHERS]
    assert packages.status()[0].installed == "2.6.0+cu124"
    assert packages.install() is True
    assert slicer.asked == slicer.commands == []


def test_looking_imports_nothing_heavy(slicer):
    code = (
        "import sys, types\n"
        "for name in ('slicer', 'slicer.i18n'):\n    sys.modules[name] = types.ModuleType(name)\n"
        "sys.modules['slicer.i18n'].tr = str\n"
        "from SSLFewShotSlicer import packages\npackages.status()\n"
        "print(sorted({'torch', 'faiss', 'scipy', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "SSLFewShot")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_is_missing_and_what_is_too_old_are_told_apart(slicer, packages):
    del slicer.installed["faiss-cpu"]
    slicer.installed["scipy"] = "1.9.3"
    assert packages.missing() == ["faiss-cpu", "scipy"]
    titles = {s.name: s.title for s in packages.status()}
    assert titles["scipy"] == "scipy (1.9.3 is too old)"
    assert titles["faiss-cpu"] == "faiss-cpu"
    assert titles["torch"] == "PyTorch"


@pytest.mark.parametrize(
    ("version", "enough"),
    [("1.11", True), ("1.11.0", True), ("1.9.9", False), ("1.17.0rc1", True), ("2", True), ("1.11.dev0", True)],
)
def test_versions_are_compared_as_numbers(slicer, packages, version, enough):
    slicer.installed["scipy"] = version
    assert (packages.missing() == []) is enough


def test_only_what_is_missing_is_installed_as_wheels_once_the_user_agrees(slicer, packages):
    del slicer.installed["faiss-cpu"]
    lines = []
    assert packages.install(lines.append) is True
    assert slicer.commands == [["--only-binary=:all:", "faiss-cpu>=1.8"]]
    assert "faiss-cpu>=1.8" in slicer.asked[0]
    assert "Collecting things" in lines


def test_slicers_own_packages_and_torch_are_held_where_they_are(slicer, packages):
    del slicer.installed["scikit-image"]
    packages.install()
    held = slicer.constraints.split()
    assert held == ["numpy==2.1.3", "SimpleITK==2.5.0", "requests==2.32.0", "torch==2.6.0+cu124"]


def test_an_older_slicer_without_its_packaging_module_installs_too(slicer, packages, monkeypatch):
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    del slicer.packaging
    del slicer.installed["faiss-cpu"]
    assert packages.install() is True
    assert slicer.commands[0][:2] == ["--only-binary=:all:", "faiss-cpu>=1.8"]
    assert "numpy==2.1.3" in slicer.constraints


def test_who_declines_has_changed_nothing(slicer, packages, monkeypatch):
    calls = the_pytorch_extension(monkeypatch, slicer, True)
    del slicer.installed["faiss-cpu"], slicer.installed["torch"]
    slicer.agrees = False
    with pytest.raises(packages.PackagesDeclinedError, match="Nothing was installed"):
        packages.install()
    assert slicer.commands == calls == []


def test_torch_comes_from_the_pytorch_extension_which_asks_itself(slicer, packages, monkeypatch):
    calls = the_pytorch_extension(monkeypatch, slicer, object())
    del slicer.installed["torch"]
    assert packages.install() is True
    assert calls == [(True, ">=2.2")]
    assert slicer.commands == []


def test_torch_declined_is_said_and_is_no_failure(slicer, packages, monkeypatch):
    the_pytorch_extension(monkeypatch, slicer, None)
    del slicer.installed["torch"]
    with pytest.raises(packages.PackagesDeclinedError, match="PyTorch was not installed"):
        packages.install()


def test_without_the_pytorch_extension_the_user_is_told_where_to_get_it(slicer, packages, monkeypatch):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    del slicer.installed["torch"]
    with pytest.raises(packages.PackagesError, match="open the Extensions Manager, install PyTorch, restart"):
        packages.install()
    assert slicer.commands == []


def test_a_failing_pytorch_extension_is_one_sentence(slicer, packages, monkeypatch):
    the_pytorch_extension(monkeypatch, slicer, RuntimeError("Failed to establish a new connection"))
    del slicer.installed["torch"]
    with pytest.raises(packages.PackagesError, match="PyTorch could not be downloaded: this computer is offline"):
        packages.install()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "WARNING: NewConnectionError: [Errno -3] Temporary failure in name resolution",
            "is offline",
        ),
        (
            "ERROR: Could not install packages: [Errno 28] No space left on device",
            "disk is full",
        ),
        ("ERROR: Could not install packages: [Errno 13] Permission denied: '/opt/Slicer'", "not allowed"),
        (
            "ERROR: No matching distribution found for faiss-cpu>=1.8",
            "No matching distribution found for faiss-cpu",
        ),
    ],
)
def test_why_pip_failed_is_told_with_what_to_do(slicer, packages, line, said):
    del slicer.installed["faiss-cpu"]
    slicer.pip_code, slicer.pip_lines = 1, ["Collecting faiss-cpu", line, "exiting"]
    with pytest.raises(packages.PackagesError, match=said) as failure:
        packages.install()
    assert "faiss-cpu" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_an_older_slicers_failure_is_one_sentence_too(slicer, packages, monkeypatch):
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    del slicer.packaging
    del slicer.installed["faiss-cpu"]
    slicer.pip_code = 1
    with pytest.raises(packages.PackagesError, match="could not be installed"):
        packages.install()


def test_what_is_not_found_after_all_asks_for_a_restart(slicer, packages, monkeypatch):
    del slicer.installed["faiss-cpu"]
    monkeypatch.setattr(slicer, "_run", lambda *_: None)
    with pytest.raises(packages.PackagesError, match="faiss-cpu was installed but is not found; restart Slicer"):
        packages.install()


def test_while_slicer_runs_tests_nothing_is_installed(slicer, packages):
    # Its dialogs answer OK by themselves then.
    slicer.app.testingEnabled = lambda: True
    del slicer.installed["faiss-cpu"]
    with pytest.raises(packages.PackagesError, match="Slicer runs tests"):
        packages.install()
    assert slicer.asked == slicer.commands == []


def test_a_slicer_whose_python_is_too_old_to_compute_says_so(slicer, packages, monkeypatch):
    del slicer.installed["faiss-cpu"]
    monkeypatch.setattr(packages.compatibility, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(packages.PackagesError, match="use a newer Slicer"):
        packages.install()
    assert slicer.commands == []


def test_another_python_that_computes_is_asked_what_it_has(slicer, packages, monkeypatch):
    monkeypatch.setenv("SSLFEWSHOT_WORKER_PYTHON", sys.executable)
    slicer.installed = {}
    assert packages.missing() == []


def test_another_python_is_never_installed_into(slicer, packages, monkeypatch, tmp_path):
    monkeypatch.setenv("SSLFEWSHOT_WORKER_PYTHON", sys.executable)
    monkeypatch.setattr(packages, "_versions", lambda names: {})
    with pytest.raises(packages.PackagesError, match="install there with pip"):
        packages.install()
    assert slicer.commands == []


def test_another_python_that_cannot_be_started_is_named(slicer, packages, monkeypatch, tmp_path):
    monkeypatch.setenv("SSLFEWSHOT_WORKER_PYTHON", str(tmp_path / "python"))
    with pytest.raises(packages.PackagesError, match=r"python: this Python, named by SSLFEWSHOT_WORKER_PYTHON"):
        packages.status()


def test_every_message_is_one_that_the_panel_shows_as_it_is(slicer, packages):
    assert issubclass(packages.PackagesError, InputError)
    assert issubclass(packages.PackagesDeclinedError, packages.PackagesError)


def test_the_worker_runs_in_slicers_python_without_the_application(slicer, monkeypatch, tmp_path):
    from SSLFewShotSlicer import compatibility

    launcher = tmp_path / ("PythonSlicer.exe" if os.name == "nt" else "PythonSlicer")
    launcher.write_text("")
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compatibility.worker_python() == str(launcher)
    monkeypatch.setenv("PATH", "")
    assert compatibility.worker_python() == sys.executable


def test_what_the_launcher_added_to_the_environment_is_taken_back(slicer, monkeypatch):
    from SSLFewShotSlicer import compatibility

    before = {**os.environ, "PYTHONPATH": "theirs"}
    monkeypatch.setattr(slicer.util, "startupEnvironment", lambda: before)
    monkeypatch.setenv("LD_LIBRARY_PATH_OF_SLICER", "x")
    changes = compatibility.worker_environment()
    assert changes["LD_LIBRARY_PATH_OF_SLICER"] is None
    assert changes["PYTHONPATH"] == os.pathsep.join([str(ROOT / "SSLFewShot"), "theirs"])
    assert changes["PYTHONUTF8"] == "1"
