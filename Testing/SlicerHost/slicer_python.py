"""slicer.ScriptedLoadableModule, slicer.parameterNodeWrapper and the like, which slicer-core leaves out.

Slicer's own files are used where SSLFEWSHOT_SLICER_PYTHON names the folder that holds its `slicer` package
(`bin/Python` of an installed Slicer); else the stand-ins beside this file.
"""

import importlib.util
import os
import sys
from pathlib import Path

STAND_INS = Path(__file__).with_name("stand_ins")


def provide(slicer):
    """Make the modules importable; "slicer" or "stand-ins", which of the two they are."""
    _provide_sample_data()
    given = os.environ.get("SSLFEWSHOT_SLICER_PYTHON")
    if given:
        package = Path(given) / "slicer"
        if not (package / "ScriptedLoadableModule.py").is_file():
            raise FileNotFoundError(f"SSLFEWSHOT_SLICER_PYTHON holds no slicer/ScriptedLoadableModule.py: {given}")
        slicer.__path__.append(str(package))
        return "slicer"
    slicer.__path__.append(str(STAND_INS))
    return "stand-ins"


def _provide_sample_data():
    spec = importlib.util.spec_from_file_location("SampleData", STAND_INS / "SampleData.py")
    sys.modules["SampleData"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["SampleData"])
