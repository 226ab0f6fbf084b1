"""The section "Learn from my own scans": starts trainings that run by themselves."""

import pathlib
import re

import slicer

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer.jobs import explained
from SSLFewShotSlicer.parameters import folder_of
from SSLFewShotSlicer.section import Section, show_entries
from SSLFewShotSlicer.training_list import TrainingList
from SSLFewShotSlicer.translation import _
from SSLFewShotSlicer.worker_session import custom_command

METHODS = {
    "dense": "DENSE: the same place in two deformed views",
    "heatmap": "HEATMAP: where a neighbouring patch lies, as a map",
    "reg2d": "REG2D: how far two patches are apart",
    "doersch": "DOERSCH: which of six neighbours a cube is",
    "alpnet": "ALPNET: where the same region lies in a deformed view",
    "slice-rotation": "SLICE ROTATION: how far a slice is turned (finds boxes)",
    "slice-order": "SLICE ORDER: which of two slices comes first (finds boxes)",
    "cpc": "CPC: which patch follows below others",
    "rpl": "RPL: which of 26 neighbours a patch is",
    "jigsaw": "JIGSAW: in which order patches lie",
    "rotation": "ROTATION: by which quarter turns a scan is turned",
    "exemplar": "EXEMPLAR: which views are of one place",
    "sides": "SIDES: whether two marked organs are of one side",
}
_VECTORS = "Its model describes places: for alignment, prototypes or nearest neighbours."
_BOXES = "Its model finds boxes around objects that nobody has marked."
_ENCODER = "Its model is the beginning of a fine-tuning on scans that you have marked."
PURPOSES = {
    **dict.fromkeys(("dense", "heatmap", "reg2d", "doersch", "alpnet"), _VECTORS),
    **dict.fromkeys(("slice-rotation", "slice-order"), _BOXES),
    **dict.fromkeys(("cpc", "rpl", "jigsaw", "rotation", "exemplar"), _ENCODER),
    "sides": (
        "Learns from marked scans: the folder needs labels beside at least two, with an organ that is left and "
        "right (kidneys, parotids). Its model is the beginning of a fine-tuning."
    ),
}
"""What a method's model is for."""


class PretrainSection(Section):
    """Takes what a training needs; `jobs` lists those that there are."""

    form = "Pretrain"
    message_label = "pretrainMessage"

    def set_up(self):
        ui = self.ui
        self._filling = False
        self.fill_devices([])
        self.jobs = TrainingList(self)
        ui.pretrainMethodSelector.connect("currentIndexChanged(int)", self._on_choice)
        ui.pretrainUnitSelector.connect("currentIndexChanged(int)", self._on_choice)
        ui.startPretrainButton.connect("clicked(bool)", lambda _checked: self.start())
        ui.pretrainSection.connect("contentsCollapsed(bool)", lambda _collapsed: self.watch_trainings(True))
        self.tie_folder(ui.pretrainFolderEdit, "pretrain_folder")

    def refresh(self):
        parameters, ui = self.parameters, self.ui
        self._filling = True
        known = (self.session.info or {}).get("pretexts", METHODS)
        chosen = parameters.pretrain_method
        offered = [(name, _(title)) for name, title in METHODS.items() if name in known or name == chosen]
        show_entries(ui.pretrainMethodSelector, offered, chosen)
        ui.pretrainMethodHint.text = _(PURPOSES[chosen]) if chosen in PURPOSES else ""
        for widget in (ui.pretrainPairEdit, ui.pretrainPairEditLabel):
            widget.visible = chosen == "sides"
        ui.pretrainUnitSelector.currentIndex = 1 if parameters.pretrain_unit == "iterations" else 0
        self._filling = False
        self.show_folder(ui.pretrainFolderEdit, "pretrain_folder")
        given = folder_of(parameters.pretrain_folder) is not None
        self.offer(ui.startPretrainButton, "" if given else _("Choose the folder with the scans first"))
        self.jobs.refresh()

    def close(self):
        super().close()
        self.jobs.close()

    def watch_trainings(self, watched):
        """Look at the trainings from time to time while the section is open, or no longer."""
        self.jobs.watch(watched and not self.ui.pretrainSection.collapsed and not self.panel.obstacle())

    def fill_devices(self, devices):
        """Offer these devices: [(name, title)]."""
        selector = self.ui.pretrainDeviceSelector
        chosen = selector.currentData
        selector.clear()
        selector.addItem(_("as in Setup"), "")
        for name, title in devices:
            selector.addItem(title, name)
        selector.currentIndex = max(0, selector.findData(chosen)) if chosen else 0

    def start(self):
        """Start a training with the choices of the form."""
        self.message.clear()
        try:
            params = self._params()
        except InputError as error:
            self.message.error(explained(error))
            return

        def told(answer):
            return _("The training has begun; it goes on in the background, and is listed below"), answer.get(
                "job"
            )

        self.jobs.ask("pretrain/start", params, told)

    def _params(self):
        parameters = self.parameters
        folder = folder_of(parameters.pretrain_folder)
        # A worker that may be on another machine has its own folders: there scans are, and the model comes to be.
        elsewhere = bool(custom_command())
        if folder is None or not (elsewhere or folder.is_dir()):
            raise InputError(_("{folder}: is not a folder; choose the one with the scans").format(folder=folder))
        name = parameters.pretrain_name.strip() or _suggested_name(folder, parameters.pretrain_method)
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,79}", name):
            raise InputError(
                _("{name}: is not a model's name; use a-z, 0-9, dot, dash and underscore").format(name=name)
            )
        output = trainings_folder() / name
        if not elsewhere and any(place.exists() for place in (output, output.with_name(f"{name}.training"))):
            raise InputError(
                _(
                    "{name}: there is a training of this name already; choose another name, or remove that one"
                ).format(name=name)
            )
        pair = [part.strip() for part in parameters.pretrain_pair.split(",") if part.strip()]
        unit = "iterations" if parameters.pretrain_unit == "iterations" else "minutes"
        return {
            "folder": parameters.pretrain_folder.strip() if elsewhere else str(folder),
            "method": parameters.pretrain_method,
            **({} if elsewhere else {"output": str(output)}),
            "name": name,
            unit: parameters.pretrain_amount,
            "device": str(self.ui.pretrainDeviceSelector.currentData or "") or self.panel.device(),
            "keep_running": parameters.keep_running,
            **({"options": {"pair": pair}} if pair and parameters.pretrain_method == "sides" else {}),
        }

    def _on_choice(self, _index):
        if self._filling or self.parameters is None:
            return
        self.parameters.pretrain_method = str(self.ui.pretrainMethodSelector.currentData or "dense")
        self.parameters.pretrain_unit = (
            "iterations" if self.ui.pretrainUnitSelector.currentIndex == 1 else "minutes"
        )


def trainings_folder():
    """Where trainings lie: they outlive the session, so it is no temporary folder."""
    return pathlib.Path(slicer.app.userSettings().fileName()).parent / "SSLFewShot" / "trainings"


def _suggested_name(folder, method):
    stem = re.sub(r"[^a-z0-9._-]+", "-", folder.name.lower()).strip("-._") or "my-scans"
    return f"{method}-{stem}"[:80]
