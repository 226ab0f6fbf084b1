"""Versions of what a result depends on, found without importing any of it."""

from __future__ import annotations

import platform
from importlib import metadata

from SSLFewShotLib.version import __version__


def versions() -> dict[str, str]:
    """Package → version, or "not installed"."""
    found = {"sslfewshot": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "SimpleITK", "faiss-cpu", "safetensors"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
