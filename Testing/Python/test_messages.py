"""What the library says is right wherever it is read: in a terminal, in 3D Slicer, in a notebook."""

import ast
import re
from pathlib import Path

import pytest
import SSLFewShotLib

LIBRARY = Path(SSLFewShotLib.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z]")


def texts(source: str) -> list[str]:
    """All texts in a module but its docstrings."""
    tree = ast.parse(source)
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
    ]


@pytest.mark.parametrize("part", sorted({path.name for path in LIBRARY.iterdir()} - {"cli", "__pycache__"}))
def test_only_the_command_speaks_of_its_options(part):
    files = sorted((LIBRARY / part).rglob("*.py")) if (LIBRARY / part).is_dir() else [LIBRARY / part]
    found = {
        str(file.relative_to(LIBRARY)): [text for text in texts(file.read_text("utf-8")) if OPTION.search(text)]
        for file in files
        if file.suffix == ".py"
    }
    assert not {name: said for name, said in found.items() if said}


def test_an_option_in_a_message_would_be_seen():
    assert [
        bool(OPTION.search(text)) for text in ("give --overwrite", "a -- b", "up--down", "(--method knn)")
    ] == [
        True,
        False,
        False,
        True,
    ]
    assert texts('"""Of a module."""\nraise InputError(f"{path}: give --resume")\n') == [": give --resume"]
