"""The section "Learn from my own scans": starts trainings that run by themselves, and finds them again."""

import pathlib
import re

import qt
import slicer

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer import dialogs
from SSLFewShotSlicer.durations import in_words
from SSLFewShotSlicer.jobs import DONE, FAILED, explained
from SSLFewShotSlicer.loss_plot import draw_loss
from SSLFewShotSlicer.parameters import folder_of
from SSLFewShotSlicer.section import Section, fit_height, plain_table
from SSLFewShotSlicer.translation import _
from SSLFewShotSlicer.worker_session import custom_command

LOOK_EVERY_MS = 2000
METHODS = {
    "dense": "DENSE: the same place in two deformed views",
    "heatmap": "HEATMAP: where a neighbouring patch lies, as a map",
    "reg2d": "REG2D: how far two patches are apart",
    "doersch": "DOERSCH: which of six neighbours a cube is",
}
# What was stopped can be gone on with: for the user it is paused.
STATES = {"running": "running", "paused": "paused", "stopped": "paused", "done": "done", "failed": "failed"}


class PretrainSection(Section):
    """Starts, watches and ends trainings."""

    form = "Pretrain"
    message_label = "pretrainMessage"

    def set_up(self):
        ui = self.ui
        self.trainings = []
        self._looking = False
        self._announced = set()
        self._filling = True
        for name, title in METHODS.items():
            ui.pretrainMethodSelector.addItem(title, name)
        self._filling = False
        self.fill_devices([])
        header = ui.jobsTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        plain_table(ui.jobsTable)
        ui.pretrainMethodSelector.connect("currentIndexChanged(int)", self._on_choice)
        ui.pretrainUnitSelector.connect("currentIndexChanged(int)", self._on_choice)
        ui.startPretrainButton.connect("clicked(bool)", lambda _checked: self.start())
        ui.pauseJobButton.connect("clicked(bool)", lambda _checked: self.tell("pretrain/stop"))
        ui.resumeJobButton.connect("clicked(bool)", lambda _checked: self.tell("pretrain/resume"))
        ui.removeJobButton.connect("clicked(bool)", lambda _checked: self.remove())
        ui.openJobButton.connect("clicked(bool)", lambda _checked: self.open_folder())
        ui.jobsTable.connect("itemSelectionChanged()", self._show_chosen)
        ui.pretrainSection.connect("contentsCollapsed(bool)", self._on_collapsed)
        self.tie_folder(ui.pretrainFolderEdit, "pretrain_folder")
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_EVERY_MS)
        self._timer.connect("timeout()", self.look)
        self._show_chosen()

    def refresh(self):
        parameters, ui = self.parameters, self.ui
        self._filling = True
        ui.pretrainMethodSelector.currentIndex = max(
            0, ui.pretrainMethodSelector.findData(parameters.pretrain_method)
        )
        ui.pretrainUnitSelector.currentIndex = 1 if parameters.pretrain_unit == "iterations" else 0
        self._filling = False
        self.show_folder(ui.pretrainFolderEdit, "pretrain_folder")
        given = folder_of(parameters.pretrain_folder) is not None
        ui.startPretrainButton.enabled = given
        ui.startPretrainButton.toolTip = (
            _("Starts a training in the background.") if given else _("Choose the folder with the scans first.")
        )

    def close(self):
        super().close()
        self._timer.stop()

    def watch_trainings(self, watched):
        """Look at the trainings from time to time, or no longer."""
        if watched and not self.ui.pretrainSection.collapsed and not self.panel.missing_packages():
            self.look()
            self._timer.start()
        else:
            self._timer.stop()

    def fill_devices(self, devices):
        """Offer these devices: [(name, title)]."""
        selector = self.ui.pretrainDeviceSelector
        chosen = selector.currentData
        selector.clear()
        selector.addItem(_("as in Setup"), "")
        for name, title in devices:
            selector.addItem(title, name)
        selector.currentIndex = max(0, selector.findData(chosen)) if chosen else 0

    @property
    def chosen(self):
        """The status of the chosen training, or None."""
        row = self.ui.jobsTable.currentRow()
        return self.trainings[row] if 0 <= row < len(self.trainings) else None

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

        self._ask("pretrain/start", params, told)

    def tell(self, method):
        """Tell the chosen training to pause, go on or end."""
        training = self.chosen
        if training is not None:
            self._ask(method, {"job": training["job"]}, lambda answer: ("", training["job"]))

    def remove(self):
        """Delete the chosen training's folder, after asking."""
        training = self.chosen
        if training is not None and dialogs.confirm(
            _("Delete the training {name} with its log and checkpoint?").format(name=_name_of(training))
        ):
            self._ask("pretrain/remove", {"job": training["job"]}, lambda answer: ("", None))

    def open_folder(self):
        """Show the chosen training's folder in the file manager."""
        folder = (self.chosen or {}).get("folder")
        if folder:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(folder))

    def look(self):
        """Ask how the trainings are."""
        if self._looking or self.closed:
            return

        def steps(job):
            listed = yield self.session.request("pretrain/list")
            chosen = (self.chosen or {}).get("job") or (listed[0]["job"] if listed else None)
            rows = []
            if chosen is not None and any(training["job"] == chosen for training in listed):
                status = yield self.session.request("pretrain/status", {"job": chosen})
                rows = status.get("rows", [])
            return listed, chosen, rows

        def show(job):
            self._looking = not job.over
            if self.closed or not job.over:
                return
            if job.state == DONE:
                self._fill(*job.result)
            elif job.state == FAILED:
                self._timer.stop()
                self.message.error(job.sentence)

        self._looking = True
        self.panel.watch(self.session.run(_("looking at the trainings"), steps), show)

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
        unit = "iterations" if parameters.pretrain_unit == "iterations" else "minutes"
        return {
            "folder": parameters.pretrain_folder.strip() if elsewhere else str(folder),
            "method": parameters.pretrain_method,
            **({} if elsewhere else {"output": str(trainings_folder() / name)}),
            "name": name,
            unit: parameters.pretrain_amount,
            "device": str(self.ui.pretrainDeviceSelector.currentData or "") or self.panel.device(),
            "keep_running": parameters.keep_running,
        }

    def _ask(self, method, params, told):
        def steps(job):
            answer = yield self.session.request(method, params)
            return answer

        def show(job):
            if self.closed or not job.over:
                return
            if job.state == FAILED:
                self.message.error(job.sentence)
            elif job.state == DONE:
                sentence, chosen = told(job.result if isinstance(job.result, dict) else {})
                if sentence:
                    self.message.success(sentence)
                self._choose(chosen)
                self.look()
                self._timer.start()

        self.panel.watch(self.session.run(_("training"), steps), show)

    def _fill(self, listed, chosen, rows):
        self.trainings = list(listed)
        table = self.ui.jobsTable
        table.blockSignals(True)
        table.setRowCount(len(self.trainings))
        for row, training in enumerate(self.trainings):
            running = training.get("state") == "running"
            remaining = training.get("remaining") if running else None
            texts = (
                _name_of(training),
                _("pausing") if _stopping(training) else _(STATES.get(training.get("state"), "unknown")),
                f"{100 * float(training.get('fraction') or 0):.0f} %",
                in_words(remaining) if remaining else "",
            )
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(str(training.get("error") or training.get("message") or text))
                table.setItem(row, column, item)
        fit_height(table, 5)
        self._choose(chosen)
        table.blockSignals(False)
        self._show_chosen()
        self._show_loss(rows)
        self._announce()
        if not any(training.get("state") == "running" for training in self.trainings):
            self._timer.stop()

    def _announce(self):
        """Say once that a training that was seen running is over."""
        for training in self.trainings:
            state, job = training.get("state"), training["job"]
            if state == "running":
                self._announced.add(job)
            elif job in self._announced:
                self._announced.discard(job)
                if state == "done":
                    self.message.success(
                        _("{name} is ready: it is in the list of models now").format(name=_name_of(training))
                    )
                    self.panel.models.load(choose=training.get("model"))
                elif state == "failed":
                    self.message.error(
                        str(training.get("error") or _("The training failed; its folder has the log"))
                    )

    def _choose(self, job):
        rows = [row for row, training in enumerate(self.trainings) if training["job"] == job]
        if rows:
            self.ui.jobsTable.setCurrentCell(rows[0], 0)

    def _show_chosen(self):
        training = self.chosen
        state = (training or {}).get("state")
        ui = self.ui
        ui.pauseJobButton.enabled = state == "running" and not _stopping(training)
        ui.resumeJobButton.enabled = state in ("paused", "stopped", "failed")
        ui.removeJobButton.enabled = state is not None and state != "running"
        ui.openJobButton.enabled = training is not None and not custom_command()
        some = bool(self.trainings)
        for widget in (
            ui.jobsLabel,
            ui.jobsTable,
            ui.pauseJobButton,
            ui.resumeJobButton,
            ui.removeJobButton,
            ui.openJobButton,
        ):
            widget.visible = some
        if training is None:
            ui.lossPlot.hide()

    def _show_loss(self, rows):
        label = self.ui.lossPlot
        label.visible = bool(self.trainings)
        if self.trainings:
            width, height = max(240, label.width), 180
            label.setPixmap(draw_loss(rows, width, height, label.font, label.devicePixelRatioF()))

    def _on_choice(self, _index):
        if self._filling or self.parameters is None:
            return
        self.parameters.pretrain_method = str(self.ui.pretrainMethodSelector.currentData or "dense")
        self.parameters.pretrain_unit = (
            "iterations" if self.ui.pretrainUnitSelector.currentIndex == 1 else "minutes"
        )

    def _on_collapsed(self, collapsed):
        self.watch_trainings(not collapsed)


def trainings_folder():
    """Where trainings lie: they outlive the session, so it is no temporary folder."""
    return pathlib.Path(slicer.app.userSettings().fileName()).parent / "SSLFewShot" / "trainings"


def _suggested_name(folder, method):
    stem = re.sub(r"[^a-z0-9._-]+", "-", folder.name.lower()).strip("-._") or "my-scans"
    return f"{method}-{stem}"[:80]


def _name_of(training):
    return str(training.get("name") or pathlib.Path(str(training.get("folder", ""))).name or training["job"])


def _stopping(training):
    return training.get("state") == "running" and training.get("message") == "stopping"
