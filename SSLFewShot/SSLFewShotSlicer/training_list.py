"""The list of trainings in the section "Learn from my own scans": how each is, and pausing, resuming, removing."""

import pathlib

import qt

from SSLFewShotSlicer import dialogs
from SSLFewShotSlicer.durations import in_words
from SSLFewShotSlicer.jobs import DONE, FAILED
from SSLFewShotSlicer.loss_plot import draw_loss
from SSLFewShotSlicer.section import PanelPart, fit_height, plain_table
from SSLFewShotSlicer.translation import _
from SSLFewShotSlicer.worker_session import custom_command

LOOK_EVERY_MS = 2000
# What was stopped can be gone on with: for the user it is paused.
STATES = {"running": "running", "paused": "paused", "stopped": "paused", "done": "done", "failed": "failed"}


class TrainingList(PanelPart):
    """Shows the trainings while the section is open, and tells them what the user wants; `section` is that."""

    def __init__(self, section):
        super().__init__(section.panel)
        self._section = section
        self.trainings = []
        self._looking = False
        self._outdated = False  # what is being looked at was asked for before a training was told something
        self._wanted = None  # the training to choose once it is listed
        self._announced = set()
        ui = self.ui
        header = ui.jobsTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        plain_table(ui.jobsTable)
        ui.pauseJobButton.connect("clicked(bool)", lambda _checked: self.tell("pretrain/stop"))
        ui.resumeJobButton.connect("clicked(bool)", lambda _checked: self.tell("pretrain/resume"))
        ui.removeJobButton.connect("clicked(bool)", lambda _checked: self.remove())
        ui.openJobButton.connect("clicked(bool)", lambda _checked: self.open_folder())
        ui.jobsTable.connect("itemSelectionChanged()", self.refresh)
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_EVERY_MS)
        self._timer.connect("timeout()", self.look)
        self.refresh()

    def close(self):
        """The panel goes away."""
        self._timer.stop()

    def watch(self, watched):
        """Look at the trainings from time to time, or no longer."""
        if watched:
            self.look()
            self._timer.start()
        else:
            self._timer.stop()

    @property
    def chosen(self):
        """The status of the chosen training, or None."""
        row = self.ui.jobsTable.currentRow()
        return self.trainings[row] if 0 <= row < len(self.trainings) else None

    def tell(self, method):
        """Tell the chosen training to pause, go on or end."""
        training = self.chosen
        if training is not None:
            self.ask(method, {"job": training["job"]}, lambda answer: ("", training["job"]))

    def remove(self):
        """Delete the chosen training's folder, after asking."""
        training = self.chosen
        if training is not None and dialogs.confirm(
            _("Delete the training {name} with its log and checkpoint?").format(name=_name_of(training))
        ):
            self.ask("pretrain/remove", {"job": training["job"]}, lambda answer: ("", None))

    def open_folder(self):
        """Show the chosen training's folder in the file manager."""
        folder = (self.chosen or {}).get("folder")
        if folder:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(folder))

    def look(self):
        """Ask how the trainings are."""
        if self._looking or self._section.closed:
            return

        def steps(job):
            listed = yield self.session.request("pretrain/list")
            chosen = self._wanted or (self.chosen or {}).get("job") or (listed[0]["job"] if listed else None)
            rows = []
            if chosen is not None and any(training["job"] == chosen for training in listed):
                status = yield self.session.request("pretrain/status", {"job": chosen})
                rows = status.get("rows", [])
            return listed, chosen, rows

        def show(job):
            self._looking = not job.over
            if self._section.closed or not job.over:
                return
            if self._outdated:
                self._outdated = False
                self.look()
            elif job.state == DONE:
                self._wanted = None
                self._fill(*job.result)
            elif job.state == FAILED:
                self._timer.stop()
                self._section.message.error(job.sentence)

        self._looking = True
        self.panel.watch(self.session.run(_("looking at the trainings"), steps), show)

    def ask(self, method, params, told):
        """Make a request about a training; told(answer) returns what to say and the training to choose."""

        def steps(job):
            answer = yield self.session.request(method, params)
            return answer

        def show(job):
            if self._section.closed or not job.over:
                return
            if job.state == FAILED:
                self._section.message.error(job.sentence)
            elif job.state == DONE:
                sentence, chosen = told(job.result if isinstance(job.result, dict) else {})
                if sentence:
                    self._section.message.success(sentence)
                self._wanted = chosen
                self._outdated = self._looking
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
        self.refresh()
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
                    self._section.message.success(
                        _("{name} is ready: it is in the list of models now").format(name=_name_of(training))
                    )
                    self.panel.models.load(choose=training.get("model"))
                elif state == "failed":
                    self._section.message.error(
                        str(training.get("error") or _("The training failed; its folder has the log"))
                    )

    def _choose(self, job):
        rows = [row for row, training in enumerate(self.trainings) if training["job"] == job]
        if rows:
            self.ui.jobsTable.setCurrentCell(rows[0], 0)

    def refresh(self):
        """Show what can be done with the chosen training."""
        training = self.chosen
        state = (training or {}).get("state")
        ui = self.ui
        running = state == "running" and not _stopping(training)
        self.offer(ui.pauseJobButton, "" if running else _("Only a training that runs can be paused"))
        self.offer(
            ui.resumeJobButton,
            "" if state in ("paused", "stopped", "failed") else _("Only a training that is paused can go on"),
        )
        self.offer(
            ui.removeJobButton,
            _("Choose a training first")
            if state is None
            else _("Pause the training first")
            if state == "running"
            else "",
        )
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


def _name_of(training):
    return str(training.get("name") or pathlib.Path(str(training.get("folder", ""))).name or training["job"])


def _stopping(training):
    return training.get("state") == "running" and training.get("message") == "stopping"
