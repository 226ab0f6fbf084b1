"""The files by which Slicer builds, lists and installs the extension agree with the tree and with each other."""

import ast
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "SSLFewShot"
sys.path.insert(0, str(ROOT / "Testing"))

import extension_lists  # noqa: E402 - found by the line above

RAW = "https://raw.githubusercontent.com/sslfewshot/SlicerSSLFewShot/main/"


def settings() -> dict[str, str]:
    """The one-line quoted strings of the extension's CMakeLists.txt."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r'^set\((EXTENSION_\w+) "([^"\n]*)"\)$', text, re.MULTILINE))


def bundled_models() -> list[str]:
    return sorted(card.parent.name for card in (ROOT / "Resources" / "Models").glob("*/card.json"))


def test_the_lists_name_every_file_of_the_module_and_no_other():
    lines = extension_lists.drift()
    assert not lines, "\n".join(["SSLFewShot/CMakeLists.txt; python Testing/extension_lists.py does it:", *lines])


def test_a_file_that_is_not_listed_and_one_that_is_gone_are_told(tmp_path):
    (tmp_path / "package").mkdir()
    for name in ("SSLFewShot.py", "package/new.py", "package/form.ui", "package/notes.md"):
        (tmp_path / name).write_text("")
    lists = {"MODULE_PYTHON_SCRIPTS": ["SSLFewShot.py", "gone.py"], "MODULE_PYTHON_RESOURCES": []}
    empty = "set(MODULE_PYTHON_SCRIPTS\n  )\nset(MODULE_PYTHON_RESOURCES\n  )\n"
    (tmp_path / "CMakeLists.txt").write_text(extension_lists.written(empty, lists))
    assert extension_lists.drift(tmp_path) == [
        "add to MODULE_PYTHON_SCRIPTS: package/new.py",
        "remove from MODULE_PYTHON_SCRIPTS: gone.py",
        "add to MODULE_PYTHON_RESOURCES: package/form.ui",
    ]
    text = extension_lists.written(empty, extension_lists.in_tree(tmp_path))
    (tmp_path / "CMakeLists.txt").write_text(text)
    assert extension_lists.drift(tmp_path) == []


def test_the_modules_folder_holds_one_module_and_packages_only():
    # Slicer takes every .py directly in the folder for a module of its own.
    assert [path.name for path in MODULE.glob("*.py")] == ["SSLFewShot.py"]


def code_for_slicers_own_python() -> list[Path]:
    """What runs in the application: Slicer 5.6 has Python 3.9."""
    files = [MODULE / "SSLFewShot.py", *sorted((MODULE / "SSLFewShotSlicer").rglob("*.py"))]
    library = MODULE / "SSLFewShotLib"
    return [*files, *(library / name for name in ("__init__.py", "errors.py", "outputs.py", "progress.py"))]


@pytest.mark.parametrize("file", code_for_slicers_own_python(), ids=lambda path: path.name)
def test_what_runs_in_the_application_is_written_for_python_3_9(file):
    tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))
    newer = []
    for node in ast.walk(tree):
        # Calls that Python 3.9 refuses only when they are made.
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            keywords = {keyword.arg for keyword in node.keywords}
            if node.func.id == "zip" and "strict" in keywords:
                newer.append(f"line {node.lineno}: zip(strict=…)")
            if node.func.id == "dataclass" and keywords & {"slots", "kw_only"}:
                newer.append(f"line {node.lineno}: dataclass(slots, kw_only)")
            alternatives = [
                arg for arg in node.args if isinstance(arg, ast.BinOp) and isinstance(arg.op, ast.BitOr)
            ]
            if node.func.id in ("isinstance", "issubclass") and alternatives:
                newer.append(f"line {node.lineno}: isinstance(…, A | B)")
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    annotated = "annotations" in imported
    unions = [n for n in _annotations(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.BitOr)]
    newer += [f"line {n.lineno}: A | B is read at run time" for n in unions if not annotated]
    assert newer == []


def _annotations(tree: ast.AST):
    for node in ast.walk(tree):
        for given in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if given is not None:
                yield from ast.walk(given)


def installed(folder: Path) -> Path:
    """What an installation has: the listed files, and the bundled models where CMakeLists.txt puts them."""
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    for files in extension_lists.in_cmake(text).values():
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(MODULE / file, folder / file)
    assert "/SSLFewShotLib/bundled" in text
    shutil.copytree(ROOT / "Resources" / "Models", folder / "SSLFewShotLib" / "bundled")
    return folder


def said_in(folder: Path, code: str) -> str:
    """What Python code prints that sees nothing of this checkout but `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "SSLFEWSHOT_MODELS": str(folder / "none")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_listed_files_alone_are_a_library_that_can_be_imported_and_finds_its_models(tmp_path):
    code = (
        "import importlib, pkgutil, SSLFewShotLib\n"
        "from SSLFewShotLib.models import ModelStore\n"
        "for found in pkgutil.walk_packages(SSLFewShotLib.__path__, 'SSLFewShotLib.'):\n"
        "    if not found.name.endswith('__main__'):\n"
        "        importlib.import_module(found.name)\n"
        "print(SSLFewShotLib.__file__)\n"
        "print(*[entry.folder.name for entry in ModelStore().list() if entry.bundled])"
    )
    file, models = said_in(installed(tmp_path), code).splitlines()
    assert Path(file).is_relative_to(tmp_path)
    assert sorted(models.split()) == bundled_models()
    assert len(bundled_models()) >= 4


FAKE_SLICER = """
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.12/qt-scripted-modules)
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${Slicer_USE_FILE})
set(Slicer_EXTENSION_CPACK ${Slicer_USE_FILE})
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown: ${MY_UNPARSED_ARGUMENTS}")
  endif()
  foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})
    get_filename_component(folder ${file} DIRECTORY)
    file(COPY ${CMAKE_CURRENT_SOURCE_DIR}/${file}
      DESTINATION ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${folder})
  endforeach()
endfunction()
function(slicer_add_python_unittest)
  message(STATUS "unit test: ${ARGN}")
endfunction()
"""


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_cmake_reads_the_files_and_brings_module_and_models_into_one_folder(tmp_path):
    fake = tmp_path / "slicer"
    fake.mkdir()
    (fake / "SlicerConfig.cmake").write_text(FAKE_SLICER)
    (fake / "nothing.cmake").write_text("")
    built = tmp_path / "built"
    command = ["cmake", "-S", ROOT, "-B", built, f"-DSlicer_DIR={fake}", "-DBUILD_TESTING=ON"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if "CMAKE_C_COMPILER" in done.stderr:
        pytest.skip("needs a compiler for CMake's own checks")
    assert done.returncode == 0, done.stderr
    assert "unit test: SCRIPT;SSLFewShot.py" in done.stdout
    folder = built / "lib" / "Slicer-5.12" / "qt-scripted-modules"
    assert (folder / "SSLFewShot.py").is_file()
    code = "from SSLFewShotLib.models import ModelStore; print(*[e.folder.name for e in ModelStore().list()])"
    assert sorted(said_in(folder, code).split()) == bundled_models()


def test_the_extension_says_what_the_catalogue_wants_in_one_line_strings():
    said = settings()
    wanted = {"HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"}
    assert {f"EXTENSION_{name}" for name in wanted} <= set(said)
    assert said["EXTENSION_DEPENDS"] == "PyTorch"
    assert said["EXTENSION_HOMEPAGE"].startswith("https://")


def test_icon_and_screenshots_that_the_extension_links_to_are_in_the_repository():
    said = settings()
    links = [said["EXTENSION_ICONURL"], *said["EXTENSION_SCREENSHOTURLS"].split()]
    assert all(link.startswith(RAW) for link in links)
    assert [link for link in links if not (ROOT / link[len(RAW) :]).is_file()] == []


@pytest.mark.parametrize("icon", ["Resources/Icons/SSLFewShot.png", "SSLFewShot/Resources/Icons/SSLFewShot.png"])
def test_icons_are_128_pixels_a_side_and_transparent(icon):
    content = (ROOT / icon).read_bytes()
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    assert content.startswith(b"\x89PNG")
    assert (width, height, depth) == (128, 128, 8)
    assert colour == 6  # red, green, blue and alpha


def test_the_index_entry_fits_the_extension():
    entry = json.loads((ROOT / "SSLFewShot.json").read_text(encoding="utf-8"))
    known = {
        "$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies",
        "build_subdirectory", "enabled", "tier",
    }  # fmt: skip
    assert set(entry) <= known
    assert {"$schema", "category", "scm_url"} <= set(entry)
    assert entry["category"] == "Segmentation"
    assert entry["build_dependencies"] == settings()["EXTENSION_DEPENDS"].split()
    assert entry["scm_url"] == settings()["EXTENSION_HOMEPAGE"] + ".git"
    assert 1 <= entry["tier"] <= 5


def test_slicer_installs_what_pip_installs_less_what_slicer_brings():
    def names(lines):
        return {re.split(r"[<>=!~ ]", line.strip())[0]: line.strip() for line in lines if line.strip("# \n")}

    text = (MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8")
    asked = names(line for line in text.splitlines() if not line.startswith("#"))
    # Python 3.10 has no reader for TOML.
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)[1]
    needed = names(re.findall(r'"([^"]+)"', listed))
    for brought in ("torch", "numpy", "SimpleITK"):
        del needed[brought]
    assert asked == needed


def test_no_requirement_is_pinned():
    text = (MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z-]+>=[\d.]+", line) for line in lines)
