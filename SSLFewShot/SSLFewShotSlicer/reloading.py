"""Forgetting the packages below the module: Reload then reads all of them anew, in the order of their imports."""

import sys

PACKAGES = ("SSLFewShotSlicer", "SSLFewShotLib")


def forget_packages():
    """Take the packages out of Python's memory; what imports them next reads them from disk."""
    for name in list(sys.modules):
        if name.split(".")[0] in PACKAGES:
            del sys.modules[name]
