"""The lists of files in SSLFewShot/CMakeLists.txt, by which Slicer installs the module: made from the tree.

python Testing/extension_lists.py           # write both lists anew
python Testing/extension_lists.py --check   # say what is missing or no longer there; exit code 1 if anything
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "SSLFewShot"
LISTS = ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES")
# What stands in the module's folder and is no part of the module.
_NOT_INSTALLED = {".md", ".toml", ".pyc"}
_OTHERS = {"CMakeLists.txt"}


def in_tree(module: Path = MODULE) -> dict[str, list[str]]:
    """List → the files that belong into it, as CMake names them: sorted, relative to the module's folder."""
    files = []
    for path in module.rglob("*"):
        inner = path.relative_to(module)
        hidden = any(part.startswith(".") or part in ("__pycache__", "bundled") for part in inner.parts)
        built = any(part.endswith(".egg-info") for part in inner.parts)
        if path.is_file() and not hidden and not built and inner.name not in _OTHERS:
            files.append(inner)
    files = [file for file in files if file.suffix not in _NOT_INSTALLED]
    # Packages first, then what is in them; the module's own file before all.
    files.sort(key=lambda file: (len(file.parts) > 1, file.parent.as_posix(), file.name))
    return {
        LISTS[0]: [file.as_posix() for file in files if file.suffix == ".py"],
        LISTS[1]: [file.as_posix() for file in files if file.suffix != ".py"],
    }


def in_cmake(text: str) -> dict[str, list[str]]:
    """List → the files that a CMakeLists.txt names in it."""
    found = {}
    for name in LISTS:
        matched = re.search(rf"set\({name}\n(.*?)\)", text, re.DOTALL)
        found[name] = matched[1].replace("${MODULE_NAME}", "SSLFewShot").split() if matched else []
    return found


def drift(module: Path = MODULE) -> list[str]:
    """What is to be changed in the lists, a line each."""
    there, listed = in_tree(module), in_cmake((module / "CMakeLists.txt").read_text(encoding="utf-8"))
    lines = []
    for name in LISTS:
        lines += [f"add to {name}: {file}" for file in there[name] if file not in listed[name]]
        lines += [f"remove from {name}: {file}" for file in listed[name] if file not in there[name]]
        lines += [
            f"twice in {name}: {file}" for file in sorted({f for f in listed[name] if listed[name].count(f) > 1})
        ]
    return lines


def written(text: str, lists: dict[str, list[str]]) -> str:
    """A CMakeLists.txt with other lists."""
    for name, files in lists.items():
        body = "".join(f"  {file}\n" for file in files)
        text = re.sub(rf"set\({name}\n.*?\)", lambda _, b=body, n=name: f"set({n}\n{b}  )", text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        problems = drift()
        print("\n".join(problems) or "both lists match the tree")
        sys.exit(bool(problems))
    path = MODULE / "CMakeLists.txt"
    path.write_text(written(path.read_text(encoding="utf-8"), in_tree()), encoding="utf-8", newline="\n")
