"""Every name of qt, ctk and slicer that Python sources use, as dotted chains, and what is wrong with it."""

import ast

ROOTS = ("qt", "ctk", "slicer")
# What the application adds to `slicer` at run time, and what may follow is not listed anywhere.
OPEN_ENDED = {"modules", "moduleNames", "selfTests"}


def chains(source):
    """(line, "qt.QMessageBox.Yes") for each longest chain that starts at qt, ctk or slicer, and each import."""
    tree = ast.parse(source)
    inner, found = set(), []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] in ROOTS
            and not node.level
        ):
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            names, part = [], node
            while isinstance(part, ast.Attribute):
                names.append(part.attr)
                inner.add(id(part))
                part = part.value
            if isinstance(part, ast.Name) and part.id in ROOTS:
                found.append((node.lineno, ".".join([part.id, *reversed(names)])))
    return found


def complaint(chain, inventory, slicer):
    """Why a chain does not exist in Slicer, or None where it does."""
    root, *names = chain.split(".")
    if not names or names == ["*"]:
        return None
    if root == "slicer":
        return _in_slicer(names, inventory, slicer)
    return _in_qt(root, names, inventory)


def _in_qt(module, names, inventory):
    entry = inventory.classes.get(names[0])
    if entry is None or entry.get("in_namespace") != module:
        functions = inventory.data["pythonqt"]["qt_module_functions"]
        if module == "qt" and names[0] in functions:
            return None
        return f"{module}.{names[0]} is not listed"
    return _in_class(names[0], names[1:], inventory)


def _in_class(class_name, names, inventory):
    if names and inventory.lookup(class_name, names[0]) is None:
        return inventory.why_not(class_name, names[0])
    return None


def _in_slicer(names, inventory, slicer):
    first, rest = names[0], names[1:]
    if first in OPEN_ENDED:
        return None
    if first == "app":
        return _in_class("qSlicerApplication", rest, inventory)
    if first == "mrmlScene":
        return _in_vtk(slicer.vtkMRMLScene, rest)
    python = inventory.data["python"]
    if f"slicer.{first}" in python or first == "parameterNodeWrapper":
        return _in_python(first, rest, python)
    if first.startswith("vtk"):
        found = vars(slicer).get(first)
        return f"slicer.{first} is not in slicer-core" if found is None else _in_vtk(found, rest)
    entry = inventory.classes.get(first)
    if entry is None or entry.get("in_namespace") != "slicer":
        return f"slicer.{first} is not listed"
    return _in_class(first, rest, inventory)


def _in_vtk(cls, names):
    if names and not hasattr(cls, names[0]):
        return f"{cls.__name__} has no '{names[0]}'"
    return None


def _in_python(module, names, python):
    if not names:
        return None
    known = set()
    for name, entry in python.items():
        if name == f"slicer.{module}" or name.startswith(f"slicer.{module}."):
            for kind in ("__all__", "functions", "classes", "annotation_classes", "constants", "ctor"):
                known |= set(entry.get(kind, ()))
    return None if names[0] in known else f"slicer.{module}.{names[0]} is not listed"
