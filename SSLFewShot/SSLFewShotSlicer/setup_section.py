"""The section "Setup": what is installed, what computes, and the background process."""

import html

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer import packages, worker_session
from SSLFewShotSlicer.jobs import DONE, FAILED, explained
from SSLFewShotSlicer.section import Section
from SSLFewShotSlicer.translation import _

HERE, ELSEWHERE = 0, 1


class SetupSection(Section):
    """Installs, and chooses where to compute."""

    form = "Setup"
    message_label = "setupMessage"

    def set_up(self):
        ui = self.ui
        self.missing = []
        self._packages = []
        self._checked = False
        self._filling = False
        self._starting = None
        ui.installButton.connect("clicked(bool)", lambda _checked: self.install())
        ui.checkPackagesButton.connect("clicked(bool)", lambda _checked: self.check(again=True))
        ui.workerPlaceSelector.connect("currentIndexChanged(int)", self._on_place)
        ui.workerCommandEdit.connect("editingFinished()", self._on_command)
        ui.deviceSelector.connect("currentIndexChanged(int)", self._on_device)
        ui.refreshDevicesButton.connect("clicked(bool)", lambda _checked: self.ask_devices())
        ui.restartWorkerButton.connect("clicked(bool)", lambda _checked: self.restart_worker())
        self.session.listen(self._on_log)
        self._filling = True
        command = worker_session.custom_command()
        ui.workerPlaceSelector.currentIndex = ELSEWHERE if command else HERE
        ui.workerCommandEdit.text = command
        self._filling = False
        self._fill_devices([])
        self._show_place()

    def refresh(self):
        self._show_worker()
        self.offer(self.ui.refreshDevicesButton)

    def close(self):
        super().close()
        self.session.stop_listening(self._on_log)

    @property
    def elsewhere(self):
        """Whether another machine computes, so that nothing has to be installed here."""
        return bool(worker_session.custom_command())

    def check(self, again=False):
        """Look at what is installed; opens the section when something is missing."""
        if self._checked and not again:
            return
        first = not self._checked
        self._checked = True
        try:
            self._packages = [] if self.elsewhere else packages.status()
        except InputError as error:
            self.message.error(explained(error))
            self._packages = []
        self.missing = [package.title for package in self._packages if not package.installed]
        self._show_packages()
        if self.missing:
            self.ui.setupSection.collapsed = False
        elif first:
            self.panel.models.load()
        if again:
            self.panel.refresh()

    def install(self):
        """Install what is missing, after asking."""
        self.message.clear()
        self.ui.installButton.enabled = False
        self.ui.installProgress.show()
        try:
            installed = packages.install(self._on_log)
        except InputError as error:
            self.message.error(explained(error))
            installed = None
        finally:
            self.ui.installProgress.hide()
            self.ui.installButton.enabled = True
        if installed:
            self.message.success(_("All is installed"))
            self.session.end_worker()
        self.check(again=True)

    def ask_devices(self):
        """Ask the worker, which is started for that, what can compute and how much memory is free."""

        def steps(job):
            answer = yield self.session.request("initialize", worker_session.initialize_params())
            return answer

        def show(job):
            if self.closed or not job.over:
                return
            self._starting = None
            if job.state == DONE:
                self.message.clear()
                self._fill_devices(job.result.get("devices", []))
                self.panel.models.load()
            elif job.state == FAILED:
                self.message.error(job.sentence)
            self._show_worker()

        try:
            self._starting = self.session.run(_("starting the background process"), steps)
        except InputError as error:
            self.message.error(explained(error))
            return
        self.panel.watch(self._starting, show)
        self._show_worker()

    def restart_worker(self):
        """End the background process and start it again."""
        self.session.end_worker()
        self.ask_devices()

    def _show_packages(self):
        ui = self.ui
        if self.elsewhere:
            ui.packagesLabel.text = _("Another machine computes: nothing has to be installed here.")
        else:
            rows = "".join(_package_row(status) for status in self._packages)
            title = (
                _("These packages compute. Some are missing and have to be installed once:")
                if self.missing
                else _("Everything needed is installed.")
            )
            ui.packagesLabel.text = (
                f"{title}<table cellspacing='0' cellpadding='0' style='margin-top:4px'>{rows}</table>"
            )
        ui.installButton.visible = bool(self.missing)
        ui.checkPackagesButton.visible = not self.elsewhere

    def _show_place(self):
        elsewhere = self.ui.workerPlaceSelector.currentIndex == ELSEWHERE
        self.ui.workerCommandEdit.visible = elsewhere

    def _show_worker(self):
        info = self.session.info
        ui = self.ui
        if self._starting is not None and not self._starting.over:
            ui.workerStatusLabel.text = _("starting…")
        elif self.session.running and info:
            versions = info.get("versions", {})
            ui.workerStatusLabel.text = _("running, PyTorch {torch}").format(torch=versions.get("torch", "?"))
            listed = "\n".join(f"{name} {version}" for name, version in versions.items())
            ui.workerStatusLabel.toolTip = _("Process {pid}").format(pid=info.get("pid")) + "\n" + listed
        elif self.session.running:
            ui.workerStatusLabel.text = _("starting…")
        else:
            ui.workerStatusLabel.text = _("not started (starts by itself)")
        ui.restartWorkerButton.text = _("Restart") if self.session.running else _("Start")
        self.offer(ui.restartWorkerButton)

    def _fill_devices(self, devices):
        self._filling = True
        selector = self.ui.deviceSelector
        selector.clear()
        selector.addItem(_("automatic"), "auto")
        listed = [(str(device["name"]), _device_title(device)) for device in devices]
        chosen = worker_session.device()
        if chosen != "auto" and chosen not in dict(listed):
            listed.append((chosen, chosen))
        for name, title in listed:
            selector.addItem(title, name)
        selector.currentIndex = max(0, selector.findData(chosen))
        self._filling = False
        self.panel_devices = listed
        if hasattr(self.panel, "pretrain"):
            self.panel.pretrain.fill_devices(listed)

    def _on_device(self, _index):
        if not self._filling:
            worker_session.set_device(str(self.ui.deviceSelector.currentData or "auto"))

    def _on_place(self, index):
        self._show_place()
        if self._filling:
            return
        if index == HERE:
            self._take_command("")
        elif self.ui.workerCommandEdit.text.strip():
            self._on_command()

    def _on_command(self):
        if not self._filling and self.ui.workerPlaceSelector.currentIndex == ELSEWHERE:
            self._take_command(self.ui.workerCommandEdit.text.strip())

    def _take_command(self, command):
        if command == worker_session.custom_command():
            return
        worker_session.set_custom_command(command)
        # What was said concerns the other machine.
        self.message.clear()
        self.session.end_worker()
        self.check(again=True)
        if not self.missing:
            self.ask_devices()

    def _on_log(self, line):
        if not self.closed:
            self.ui.setupLog.appendPlainText(str(line))


def _package_row(status):
    sign = "<span style='color:rgb(56,158,100)'>✓</span>" if status.installed else "<b>–</b>"
    version = html.escape(status.installed or _("missing"))
    return (
        f"<tr><td style='padding-right:8px'>{sign}</td>"
        f"<td style='padding-right:16px'>{html.escape(status.title)}</td>"
        f"<td style='color:rgb(128,128,128)'>{version}</td></tr>"
    )


def _device_title(device):
    total, free = device.get("memory_total"), device.get("memory_free")
    title = str(device.get("title") or device["name"])
    if total and free is not None:
        return _("{device}: {free:.1f} of {total:.1f} GB free").format(
            device=title, free=free / 1e9, total=total / 1e9
        )
    return title
