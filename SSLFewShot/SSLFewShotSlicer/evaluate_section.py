"""The section "Compare and look inside": a result against a reference, and what the model sees."""

import qt
import slicer

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer import descriptor_maps, views
from SSLFewShotSlicer.comparing import comparing, table_of
from SSLFewShotSlicer.durations import in_words
from SSLFewShotSlicer.jobs import CANCELLED, DONE, FAILED, explained
from SSLFewShotSlicer.parameters import supports_of
from SSLFewShotSlicer.section import Section, fit_height, plain_table
from SSLFewShotSlicer.translation import _

KINDS = ("pca", "tsne")


class EvaluateSection(Section):
    """Measures a result, and shows descriptors."""

    form = "Evaluate"
    message_label = "evaluateMessage"

    def set_up(self):
        ui = self.ui
        self.job = None
        self._place = None
        header = ui.scoreTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        plain_table(ui.scoreTable)
        ui.compareButton.connect("clicked(bool)", lambda _checked: self.compare())
        ui.coloursButton.connect("clicked(bool)", lambda _checked: self.show_colours())
        ui.similarButton.connect("toggled(bool)", self._on_similar)
        ui.evaluateCancelButton.connect("clicked(bool)", lambda _checked: self.cancel())
        ui.scoreHint.connect("linkActivated(QString)", self._on_link)

    def refresh(self):
        parameters, ui = self.parameters, self.ui
        running = self.running
        chosen = parameters.reference_segmentation and parameters.compared_segmentation
        ui.compareButton.enabled = bool(chosen) and not running
        inside = parameters.inspected_volume is not None and not running
        ui.coloursButton.enabled = inside
        ui.similarButton.enabled = ui.similarButton.checked or (inside and bool(supports_of(parameters)))
        # Their files are not carried to another machine.
        ui.insideGroup.visible = not self.panel.setup.elsewhere

    def scene_closing(self):
        super().scene_closing()
        self.job = None
        self._forget_place()
        self.ui.scoreTable.hide()
        self.ui.scoreHint.hide()
        self._show_progress()

    def close(self):
        super().close()
        self._forget_place()

    @property
    def running(self):
        """Whether something is computed."""
        return self.job is not None and not self.job.over

    def cancel(self):
        """Stop what is computed."""
        if self.running:
            self.job.cancel()

    def compare(self):
        """Measure the compared segmentation against the reference."""
        parameters = self.parameters
        self._run(
            _("comparing"),
            comparing(self.session, parameters.reference_segmentation, parameters.compared_segmentation),
            self._show_scores,
        )

    def show_colours(self):
        """Lay the model's view of the scan over it, as colours."""
        kind = KINDS[max(0, self.ui.coloursSelector.currentIndex)]
        self._run(
            _("computing colours"),
            descriptor_maps.colours(
                self.session, self.parameters.inspected_volume, self.parameters.model, kind, self.panel.device()
            ),
            self._show_colours,
        )

    def find_similar(self, position):
        """Show where the other scan looks like the place of the marked one; position: (3,) RAS in the world."""
        volume = supports_of(self.parameters)[0][0]
        self._run(
            _("looking for the same place"),
            descriptor_maps.similar(
                self.session,
                volume,
                position,
                self.parameters.inspected_volume,
                self.parameters.model,
                self.panel.device(),
            ),
            self._show_similar,
        )

    def _run(self, title, steps, show):
        self.message.clear()

        def observe(job):
            if self.closed or job is not self.job:
                return
            self._show_progress()
            if job.over:
                if job.state == DONE:
                    show(job.result)
                elif job.state == FAILED:
                    self.message.error(job.sentence)
                elif job.state == CANCELLED:
                    self.message.information(_("Cancelled"))
                self.panel.refresh()

        if self.running:
            self.job.cancel()
        self.job = self.session.run(title, steps)
        self.panel.watch(self.job, observe)
        self._show_progress()

    def _show_progress(self):
        ui, running = self.ui, self.running
        for widget in (ui.evaluateProgress, ui.evaluateStatus, ui.evaluateCancelButton):
            widget.visible = running
        if running:
            left = _(", about {time} left").format(time=in_words(self.job.remaining)) if self.job.remaining else ""
            ui.evaluateProgress.value = int(1000 * self.job.fraction)
            ui.evaluateStatus.text = f"{self.job.message[:1].upper()}{self.job.message[1:]}{left}"

    def _show_scores(self, comparison):
        table = self.ui.scoreTable
        table.setRowCount(len(comparison.rows))
        for row, entry in enumerate(comparison.rows):
            texts = (entry["name"], _number(entry["dice"], 3), _number(entry["nsd"], 3), _number(entry["hd95"], 1))
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                if column:
                    item.setTextAlignment(int(qt.Qt.AlignRight) | int(qt.Qt.AlignVCenter))
                table.setItem(row, column, item)
        node = table_of(comparison)
        fit_height(table, 12)
        table.show()
        self.ui.scoreHint.text = _(
            'Also in the scene as the table "{table}". <a href="{link}">Show it beside the slices</a>'
        ).format(table=node.GetName(), link=node.GetID())
        self.ui.scoreHint.show()
        measured = [entry["dice"] for entry in comparison.rows if entry["dice"] is not None]
        if measured:
            self.message.success(
                _("Mean Dice {dice:.3f} over {number} structures").format(
                    dice=sum(measured) / len(measured), number=len(measured)
                )
            )
        else:
            self.message.warning(
                _("The reference holds no voxel of any structure, so there is nothing to measure")
            )

    def _on_link(self, node_id):
        node = slicer.mrmlScene.GetNodeByID(node_id)
        manager = slicer.app.layoutManager()
        if node is None or manager is None:
            return
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)
        slicer.app.applicationLogic().GetSelectionNode().SetActiveTableID(node.GetID())
        slicer.app.applicationLogic().PropagateTableSelection()

    def _show_colours(self, node_id):
        node = slicer.mrmlScene.GetNodeByID(node_id)
        if node is not None:
            self._hide_marks()
            slicer.util.setSliceViewerLayers(
                background=self.parameters.inspected_volume, foreground=node, foregroundOpacity=0.7, fit=True
            )
            self.message.success(_("Places with the same colour look alike to the model"))

    def _show_similar(self, found):
        node = slicer.mrmlScene.GetNodeByID(found.volume_id)
        if node is not None:
            self._hide_marks()
            slicer.util.setSliceViewerLayers(
                background=self.parameters.inspected_volume, foreground=node, foregroundOpacity=0.6, fit=True
            )
            slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *found.position)
            self.message.success(_("The slices show the place that is most alike"))

    def _on_similar(self, chosen):
        if not chosen:
            self._forget_place()
            return
        volume, segmentation = supports_of(self.parameters)[0]
        views.show_scan(volume)
        views.show_marks(segmentation, True)
        try:
            self._place = descriptor_maps.PickedPlace(self._on_place)
        except InputError as error:
            self.message.error(explained(error))
            self.ui.similarButton.checked = False
            return
        self.message.information(_("Click into a slice of {scan}").format(scan=volume.GetName()))

    def _hide_marks(self):
        for volume, segmentation in supports_of(self.parameters):
            views.show_marks(segmentation, volume is self.parameters.inspected_volume)

    def _on_place(self, position):
        if self.closed or self.parameters is None:
            return
        self.ui.similarButton.checked = False
        self.find_similar(position)

    def _forget_place(self):
        place, self._place = self._place, None
        if place is not None:
            place.close()


def _number(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"
