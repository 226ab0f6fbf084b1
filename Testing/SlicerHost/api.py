"""What a scripted module reaches from Python in Slicer, as slicer-api.json lists it.

The file is an inventory of Slicer's own sources and is not shipped with the project. SSLFEWSHOT_SLICER_API
names it; without that variable it is looked for beside the test data, in $SSLFEWSHOT_DATA/../docs.
"""

import functools
import json
import os
from pathlib import Path

CALLABLE = ("static", "decorated", "wrapped", "slots", "invokables")


class NoInventory(Exception):
    """slicer-api.json is not here, so nothing can be said of what Slicer has."""


def inventory_path():
    """Path of slicer-api.json; NoInventory, saying what to set, where there is none."""
    named = os.environ.get("SSLFEWSHOT_SLICER_API")
    if named:
        if not Path(named).is_file():
            raise NoInventory(f"SSLFEWSHOT_SLICER_API names no file: {named}")
        return Path(named)
    data = os.environ.get("SSLFEWSHOT_DATA")
    if data:
        beside = Path(data).resolve().parent / "docs" / "slicer-api.json"
        if beside.is_file():
            return beside
    raise NoInventory("slicer-api.json was not found: let SSLFEWSHOT_SLICER_API name it")


class Inventory:
    """Look-ups in the inventory, in the order in which PythonQt looks."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.data = json.load(file)
        self.classes = {**self.data["qt"], **self.data["classes"]}
        self._found = {}
        self._chains = {}

    def chain(self, name):
        """The class and its bases, most derived first."""
        if name not in self._chains:
            found, todo = [], [name]
            while todo:
                candidate = todo.pop(0)
                if candidate in self.classes and candidate not in found:
                    found.append(candidate)
                    todo += self.classes[candidate].get("bases", [])
            self._chains[name] = found
        return self._chains[name]

    def lookup(self, class_name, name):
        """(kind, class that has it, detail) of an attribute, or None where Slicer has none of that name."""
        key = class_name, name
        if key not in self._found:
            self._found[key] = self._lookup(class_name, name)
        return self._found[key]

    def _lookup(self, class_name, name):
        chain = self.chain(class_name)
        if name == "name" and "QObject" in chain:
            name = "objectName"
        if not (name == "singleShot" and "QTimer" in chain):
            for owner in chain:
                detail = self.classes[owner].get("properties", {}).get(name)
                if detail:
                    return "property", owner, detail
        for owner in chain:
            entry = self.classes[owner]
            overloads = [signature for kind in CALLABLE for signature in entry.get(kind, {}).get(name, [])]
            if overloads:
                kind = (
                    "static"
                    if name in entry.get("static", {}) and name not in ("connect", "disconnect")
                    else "method"
                )
                return kind, owner, overloads + self._inherited(chain, owner, name)
            signals = [signature for signature in entry.get("signals", []) if signature.split("(")[0] == name]
            if signals:
                return "signal", owner, signals
            if name in entry.get("fields", {}):
                return "field", owner, entry["fields"][name]
        for owner in chain:
            found = self._enumeration(owner, name)
            if found:
                return found
        if name in self.data["pythonqt"]["instance_builtin_methods"]:
            return "builtin", "PythonQt", [name]
        if len(name) > 2 and name.endswith("_") and not name.endswith("__"):
            return self._lookup(class_name, name[:-1])
        return None

    def _inherited(self, chain, owner, name):
        """Overloads of the bases: QFile.open(mode) is QIODevice's, and can be called."""
        return [
            signature
            for base in chain[chain.index(owner) + 1 :]
            for kind in CALLABLE
            for signature in self.classes[base].get(kind, {}).get(name, [])
        ]

    def _enumeration(self, owner, name):
        entry = self.classes[owner]
        for kind, values in entry.get("enums", {}).items():
            if name in values:
                return "enum value", owner, (kind, values[name])
        for kind, flags in entry.get("flags", {}).items():
            if name in flags["values"]:
                return "enum value", owner, (flags.get("enum") or kind, flags["values"][name])
        if name in entry.get("enums", {}) or name in entry.get("flags", {}):
            return "enum type", owner, name
        return None

    def enumeration(self, owner, kind):
        """{key: number} of an enumeration or of the flags made of it."""
        entry = self.classes[owner]
        if kind in entry.get("enums", {}):
            return entry["enums"][kind]
        flags = entry.get("flags", {})
        if kind in flags:
            return flags[kind]["values"]
        return next((made["values"] for made in flags.values() if made.get("enum") == kind), {})

    def signals(self, class_name):
        return [
            (owner, signal)
            for owner in self.chain(class_name)
            for signal in self.classes[owner].get("signals", [])
        ]

    def why_not(self, class_name, name):
        """One sentence on a name that Slicer's Python does not have."""
        entries = [self.classes[owner] for owner in self.chain(class_name)]
        if any(name in entry.get("hidden", []) for entry in entries):
            reason = "it is protected or private in C++"
        elif any(name in entry.get("cpp_only", []) for entry in entries):
            reason = "it is a plain C++ method that PythonQt does not show"
        else:
            reason = "slicer-api.json does not list it"
        return f"{class_name} has no '{name}' in Slicer's Python: {reason}"

    def module_of(self, class_name):
        return self.classes[class_name].get("in_namespace")


@functools.cache
def inventory():
    return Inventory(inventory_path())
