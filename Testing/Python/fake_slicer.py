"""What of Slicer and of its PyTorch extension an installation touches."""

# ruff: noqa: N802, N803 - names as Slicer and its PyTorch extension have them

import os
import subprocess
import sys
import types
from pathlib import Path

OTHERS = ["faiss-cpu", "jsonschema", "matplotlib", "safetensors", "scikit-image", "scikit-learn", "scipy"]


class FakeSlicer(types.ModuleType):
    """What of Slicer the installation touches; `installed` is the Python environment, `asked` the questions."""

    def __init__(self):
        super().__init__("slicer")
        self.__path__ = []
        self.installed = dict.fromkeys(OTHERS, "99.0") | {"numpy": "2.1.3", "SimpleITK": "2.5.0"}
        self.installed |= {"requests": "2.32.0", "torch": "2.6.0+cu124"}
        self.asked = []
        self.agrees = True
        self.commands = []
        self.constraints = ""
        self.pip_code = 0
        self.pip_lines = ["Collecting things"]
        self.i18n = types.ModuleType("slicer.i18n")
        self.i18n.tr = lambda text: text
        self.app = types.SimpleNamespace(testingEnabled=lambda: False, processEvents=lambda: None)
        self.util = types.SimpleNamespace(
            confirmOkCancelDisplay=self.confirm,
            pip_install=self.old_pip,
            startupEnvironment=lambda: dict(os.environ),
        )
        self.packaging = types.ModuleType("slicer.packaging")
        self.packaging.pip_install = self.new_pip

    def confirm(self, text, title):
        self.asked.append(text)
        return self.agrees

    def new_pip(
        self, requirements, constraints=None, blocking=True, show_progress=True, logCallback=None,
        completedCallback=None,
    ):  # fmt: skip
        assert not blocking
        self._run(requirements, constraints)
        for line in self.pip_lines:
            logCallback(line)
        completedCallback(self.pip_code)

    def old_pip(self, requirements):
        self._run(requirements, requirements[requirements.index("--constraint") + 1])
        if self.pip_code:
            raise subprocess.CalledProcessError(self.pip_code, "pip")

    def _run(self, requirements, constraints):
        self.commands.append(list(requirements))
        self.constraints = Path(constraints).read_text()
        if not self.pip_code:
            self.installed |= {r.split(">=")[0]: "99.0" for r in requirements if ">=" in r}


def the_pytorch_extension(monkeypatch, slicer, outcome):
    """PyTorchUtils as the extension has it; outcome: what installTorch returns or raises."""
    calls = []

    class Logic:
        def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None):
            calls.append((askConfirmation, torchVersionRequirement))
            if isinstance(outcome, Exception):
                raise outcome
            if outcome:
                slicer.installed["torch"] = "2.6.0"
            return outcome

    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = Logic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    return calls
