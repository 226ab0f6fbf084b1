"""The package as a whole: imports run downwards, nothing heavy is loaded early, and the wheel is complete."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import SSLFewShotLib
from model_samples import TENSORS, a_card
from SSLFewShotLib.models import save_model

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path(SSLFewShotLib.__file__).resolve().parent
HOST = {"slicer", "qt", "ctk", "vtk", "PythonQt", "PySide6", "PyQt5", "PyQt6"}


def output_of(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """What a command wrote, once it has ended well."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def imported_modules(source: str) -> set[str]:
    """The top-level names that Python source imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_the_import_contract_holds():
    pytest.importorskip("importlinter")
    check = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    # It draws a banner, which a pipe in a Windows code page could not take.
    said = output_of(sys.executable, "-c", check, "--no-cache", PYTHONIOENCODING="utf-8")
    assert "0 broken" in said


def test_ruff_finds_nothing():
    pytest.importorskip("ruff")
    output_of(sys.executable, "-m", "ruff", "check", "--no-cache", "SSLFewShot", "Testing", "setup.py")


@pytest.mark.parametrize(
    "statement",
    ["import SSLFewShotLib", "import SSLFewShotLib.imaging, SSLFewShotLib.models"],
)
def test_nothing_heavy_is_loaded_with_scans_and_models(statement):
    heavy = "{'torch', 'faiss', 'matplotlib', 'sklearn', 'torchvision'}"
    code = f"import sys; {statement}; print(sorted({heavy} & set(sys.modules)))"
    assert output_of(sys.executable, "-c", code).strip() == "[]"


def test_the_package_alone_loads_no_numerics():
    code = "import sys, SSLFewShotLib; print(sorted({'numpy', 'SimpleITK', 'jsonschema'} & set(sys.modules)))"
    assert output_of(sys.executable, "-c", code).strip() == "[]"


def test_no_file_of_the_library_imports_the_host_application():
    files = sorted(LIBRARY.rglob("*.py"))
    assert len(files) > 10
    found = {
        str(file.relative_to(LIBRARY)): imported_modules(file.read_text(encoding="utf-8")) & HOST for file in files
    }
    assert {file: names for file, names in found.items() if names} == {}


def test_imports_are_found_wherever_they_stand():
    assert imported_modules("def f():\n    import slicer.util\n    from qt import QTimer") == {"slicer", "qt"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of this checkout to which one bundled model was added."""
    if any(importlib.util.find_spec(name) is None for name in ("pip", "setuptools")):
        pytest.skip("needs pip and setuptools")
    copy = tmp_path_factory.mktemp("wheel") / "checkout"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "weights.safetensors", "card.json")
    for name in ("SSLFewShot", "Resources/Models"):
        shutil.copytree(ROOT / name, copy / name, ignore=left_out)
    save_model(copy / "Resources" / "Models" / "from-resources", a_card("from-resources"), TENSORS)
    built = copy.parent / "built"
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir")
    output_of(sys.executable, "-m", "pip", "wheel", *options, built, copy, cwd=copy.parent)
    return next(built.glob("*.whl"))


def test_the_wheel_holds_every_file_of_the_library_and_no_test(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {f"SSLFewShotLib/{file.relative_to(LIBRARY).as_posix()}" for file in LIBRARY.rglob("*.py")}
    assert wanted <= names
    assert "SSLFewShotLib/models/card.schema.json" in names
    assert not [name for name in names if name.rsplit("/")[-1].startswith(("test_", "conftest"))]


def test_an_installed_wheel_finds_its_bundled_models(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = (
        "from SSLFewShotLib.models import ModelStore\n"
        "entry = ModelStore().find('from-resources')\n"
        "print(entry.bundled, len(entry.load()[1]), entry.folder)"
    )
    said = output_of(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "installed"))
    folder = tmp_path / "installed" / "SSLFewShotLib" / "bundled" / "from-resources"
    assert said.split(maxsplit=2) == ["True", str(len(TENSORS)), f"{folder}\n"]
