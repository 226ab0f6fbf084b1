"""The section "Segment": which scans, Apply, and how far it is."""

import qt
import slicer

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer.bridge import list_segments
from SSLFewShotSlicer.durations import in_words
from SSLFewShotSlicer.jobs import CANCELLED, DONE, FAILED
from SSLFewShotSlicer.parameters import folder_of, supports_of, targets_of
from SSLFewShotSlicer.result_section import ResultSection
from SSLFewShotSlicer.section import Section, fit_height, show_widget
from SSLFewShotSlicer.segmenting import SegmentRequest, folder_batch, segmenting
from SSLFewShotSlicer.translation import _

METHODS = {"aligned": "Alignment", "knn": "Nearest neighbours"}
"""Methods of the worker that the panel offers, beside automatic; those that it does not have are not shown."""

REPLACE_LINK, KEEP_LINK = "replace", "keep"


class SegmentSection(Section):
    """Runs the segmenting; `result` shows what comes of it."""

    form = "Segment"
    message_label = "segmentMessage"

    def set_up(self):
        ui = self.ui
        self.job = None
        self.result = ResultSection(self.panel, self.message)
        self._filling = False
        self._listed = None
        ui.applyButton.connect("clicked(bool)", lambda _checked: self.apply_or_cancel())
        ui.targetPlaceSelector.connect("currentIndexChanged(int)", self._on_place)
        ui.moreTargetsButton.connect("toggled(bool)", lambda _checked: self._show_rows())
        ui.moreTargetsList.connect("itemChanged(QListWidgetItem*)", self._on_target_ticked)
        ui.methodSelector.connect("currentIndexChanged(int)", self._on_method)
        ui.modelSelector.connect("currentIndexChanged(int)", self._on_model)
        ui.roiSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self._fit_region)
        ui.segmentMessage.connect("linkActivated(QString)", self._on_link)
        self.tie_folder(ui.inputFolderEdit, "input_folder")
        self.tie_folder(ui.outputFolderEdit, "output_folder")
        self.session.listen(self._on_log)
        self.fill_models([])

    def refresh(self):
        parameters = self.parameters
        self._filling = True
        ui = self.ui
        ui.targetPlaceSelector.currentIndex = 1 if parameters.targets_in_folder else 0
        _choose(ui.methodSelector, parameters.method)
        _choose(ui.modelSelector, parameters.model)
        self._filling = False
        self.show_folder(ui.inputFolderEdit, "input_folder")
        self.show_folder(ui.outputFolderEdit, "output_folder")
        self._fill_targets()
        self._show_rows()
        self._show_apply()
        self.result.refresh(self.running)

    def scene_closing(self):
        super().scene_closing()
        self.job = None
        self.result.forget()
        self._listed = None
        self._show_progress()

    def close(self):
        super().close()
        self.session.stop_listening(self._on_log)

    @property
    def running(self):
        """Whether the segmenting runs."""
        return self.job is not None and not self.job.over

    @property
    def finished(self):
        """Whether there is a result to look at."""
        return bool(self.result.results)

    def ready(self):
        """What is missing before Apply can be clicked, as a sentence; "" when nothing is."""
        parameters = self.parameters
        if not supports_of(parameters):
            return _("Choose a marked scan and its segmentation first")
        if not self.panel.support.ticked_names():
            return _("Mark or tick at least one structure first")
        if parameters.targets_in_folder:
            if not folder_of(parameters.input_folder) or not folder_of(parameters.output_folder):
                return _("Choose the folder with the scans and the one for the results first")
        elif not targets_of(parameters):
            return _("Choose the scan to segment first")
        return ""

    def apply_or_cancel(self):
        """The one button: starts, and while it runs, cancels."""
        if self.running:
            self.job.cancel()
            self._show_apply()
            return
        self.apply()

    def apply(self, existing=None):
        """Start segmenting; asks in the panel when segments are there already."""
        self.message.clear()
        parameters = self.parameters
        try:
            if parameters.targets_in_folder:
                steps = self._folder_steps()
            else:
                targets = targets_of(parameters)
                into = parameters.result_segmentation if len(targets) == 1 else None
                there = self._already_there(into) if existing is None else []
                request = SegmentRequest(
                    supports_of(parameters),
                    targets,
                    self.panel.support.ticked_names(),
                    roi=parameters.roi,
                    into=into,
                    existing=existing or "rename",
                    method=parameters.method,
                    model=parameters.model,
                    device=self.panel.device(),
                )
                if there:
                    self._ask(into, there)
                    return
                steps = segmenting(self.session, self.session.support_files, request)
        except InputError as error:
            self.message.error(str(error))
            return
        self.result.hide_views()
        # A result that is there stays, to be accepted or taken back, until the next one has come.
        self.job = self.session.run(_("segmenting"), steps)
        self.panel.watch(self.job, self._on_job)
        self.panel.refresh()

    def fill_models(self, cards):
        """Offer these models."""
        self._filling = True
        selector = self.ui.modelSelector
        selector.clear()
        selector.addItem(_("Automatic"), "")
        for card in cards:
            selector.addItem(card.get("title") or card["name"], card["name"])
        for name in ("xavier+gvdiff", "gvdiff", "mind"):
            selector.addItem(_("{name} (needs no training)").format(name=name), name)
        methods = self.ui.methodSelector
        methods.clear()
        methods.addItem(_("Automatic"), "")
        known = (self.session.info or {}).get("segmenters", METHODS)
        for name, title in METHODS.items():
            if name in known:
                methods.addItem(_(title), name)
        if self.parameters is not None:
            _choose(selector, self.parameters.model)
            _choose(methods, self.parameters.method)
        self._filling = False

    def _folder_steps(self):
        parameters = self.parameters
        source, output = folder_of(parameters.input_folder), folder_of(parameters.output_folder)
        if not source.is_dir():
            raise InputError(_("{folder}: is not a folder; choose the one with the scans").format(folder=source))
        if source.resolve() == output.resolve():
            raise InputError(
                _("the results need a folder of their own, not that of the scans; choose another one")
            )
        return folder_batch(
            self.session,
            self.session.support_files,
            supports_of(parameters),
            self.panel.support.ticked_names(),
            source,
            output,
            parameters.method,
            parameters.model,
            self.panel.device(),
        )

    def _already_there(self, into):
        if into is None:
            return []
        there = {segment.name for segment in list_segments(into)}
        return [name for name in self.panel.support.ticked_names() if name in there]

    def _ask(self, into, names):
        self.message.question(
            _("{segmentation} has {segments} already").format(
                segmentation=into.GetName(), segments=", ".join(names)
            ),
            [(REPLACE_LINK, _("Replace them")), (KEEP_LINK, _("Keep both"))],
        )

    def _on_link(self, link):
        if link == REPLACE_LINK:
            self.apply("replace")
        elif link == KEEP_LINK:
            self.apply("rename")

    def _on_job(self, job):
        if self.closed or job is not self.job:
            return
        self._show_progress()
        if not job.over:
            self._show_apply()
            return
        if job.state == DONE:
            self.result.take(job)
        elif job.state == CANCELLED:
            self.message.information(_("Cancelled; nothing was changed"))
        elif job.state == FAILED:
            self.message.error(job.sentence)
        self.panel.refresh()

    def _show_progress(self):
        ui, job = self.ui, self.job
        running = self.running
        show_widget(ui.segmentProgress, running)
        show_widget(ui.segmentStatus, running)
        if running:
            ui.segmentProgress.value = int(1000 * job.fraction)
            left = _(", about {time} left").format(time=in_words(job.remaining)) if job.remaining else ""
            ui.segmentStatus.text = f"{job.message[:1].upper()}{job.message[1:]}{left}"

    def _show_apply(self):
        button = self.ui.applyButton
        if self.running:
            cancelling = self.job.cancelling.is_set()
            button.text = _("Cancelling…") if cancelling else _("Cancel")
            button.enabled = not cancelling
            button.toolTip = _("Stops; nothing in the scene is changed.")
            return
        missing = self.ready()
        button.text = _("Apply")
        button.enabled = not missing
        button.toolTip = missing or _("Segments the chosen scans.")

    def _show_rows(self):
        ui = self.ui
        folder = self.parameters.targets_in_folder
        show_widget(ui.scenePage, not folder)
        show_widget(ui.folderPage, folder)
        show_widget(ui.moreTargetsList, ui.moreTargetsButton.checked)
        for widget in (ui.resultLabel, ui.resultSelector):
            show_widget(widget, len(targets_of(self.parameters)) < 2)

    def _fill_targets(self):
        """All other scans of the scene, with a tick for those that are segmented too."""
        parameters = self.parameters
        chosen = {node.GetID() for node in parameters.more_targets if node}
        left_out = {volume.GetID() for volume, _segmentation in supports_of(parameters)}
        if parameters.target_volume is not None:
            left_out.add(parameters.target_volume.GetID())
        listed = [
            (node.GetID(), node.GetName(), node.GetID() in chosen)
            for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            if not node.IsA("vtkMRMLLabelMapVolumeNode")
            and not node.GetHideFromEditors()
            and node.GetID() not in left_out
        ]
        if listed == self._listed:
            return
        self._listed = listed
        self._filling = True
        self.ui.moreTargetsList.clear()
        for node_id, name, ticked in listed:
            item = qt.QListWidgetItem(name)
            item.setData(qt.Qt.UserRole, node_id)
            item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled)
            item.setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)
            self.ui.moreTargetsList.addItem(item)
        fit_height(self.ui.moreTargetsList, 6)
        self._filling = False
        if chosen:
            self.ui.moreTargetsButton.checked = True

    def _on_target_ticked(self, item):
        if self._filling or self.closed:
            return
        node = slicer.mrmlScene.GetNodeByID(item.data(qt.Qt.UserRole))
        kept = [known for known in self.parameters.more_targets if known and known is not node]
        if node is not None and item.checkState() == qt.Qt.Checked:
            kept.append(node)
        self._listed = None
        self.parameters.more_targets = kept

    def _on_place(self, index):
        if not self._filling and self.parameters is not None:
            self.parameters.targets_in_folder = index == 1

    def _on_method(self, _index):
        if not self._filling and self.parameters is not None:
            self.parameters.method = str(self.ui.methodSelector.currentData or "")

    def _on_model(self, _index):
        if not self._filling and self.parameters is not None:
            self.parameters.model = str(self.ui.modelSelector.currentData or "")

    def _fit_region(self, roi):
        """Lay a new region around the scan, to be made smaller by its handles."""
        target = self.parameters.target_volume
        if target is None or roi is None or target.GetImageData() is None:
            return
        bounds = [0.0] * 6
        target.GetRASBounds(bounds)
        roi.SetCenter([(bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)])
        roi.SetSize([(bounds[2 * axis + 1] - bounds[2 * axis]) for axis in range(3)])

    def _on_log(self, line):
        if not self.closed:
            self.ui.segmentLog.appendPlainText(line)


def _choose(selector, data):
    """Choose the entry with that data; the first one when there is none."""
    index = selector.findData(data)
    selector.currentIndex = max(0, index)
