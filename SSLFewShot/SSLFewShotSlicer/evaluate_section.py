"""The section "Compare and look inside": a result against a reference, and what the model sees."""

import qt
import slicer

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer import descriptor_maps, views
from SSLFewShotSlicer.comparing import comparing, table_of
from SSLFewShotSlicer.job_display import JobDisplay
from SSLFewShotSlicer.jobs import explained
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
        self.display = JobDisplay(self, ui.evaluateProgress, ui.evaluateStatus, ui.evaluateCancelButton)
        self._place = None
        header = ui.scoreTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        plain_table(ui.scoreTable)
        ui.compareButton.connect("clicked(bool)", lambda _checked: self.compare())
        ui.coloursButton.connect("clicked(bool)", lambda _checked: self.show_colours())
        ui.similarButton.connect("toggled(bool)", self._on_similar)
        ui.scoreHint.connect("linkActivated(QString)", self._on_link)

    def refresh(self):
        parameters, ui = self.parameters, self.ui
        busy = _("Something is being computed already; wait for it, or cancel it") if self.display.running else ""
        chosen = parameters.reference_segmentation and parameters.compared_segmentation
        self.offer(ui.compareButton, busy or ("" if chosen else _("Choose two segmentations first")))
        inside = busy or ("" if parameters.inspected_volume is not None else _("Choose a scan first"))
        self.offer(ui.coloursButton, inside)
        if not ui.similarButton.checked:
            marked = "" if supports_of(parameters) else _("Choose a marked scan and its segmentation first")
            self.offer(ui.similarButton, inside or marked)

    def scene_closing(self):
        super().scene_closing()
        self.display.forget()
        self._forget_place()
        self.ui.scoreTable.hide()
        self.ui.scoreHint.hide()

    def close(self):
        super().close()
        self._forget_place()

    @property
    def job(self):
        """The last computation, or None."""
        return self.display.job

    def compare(self):
        """Measure the compared segmentation against the reference."""
        parameters = self.parameters
        self.display.run(
            _("comparing"),
            comparing(self.session, parameters.reference_segmentation, parameters.compared_segmentation),
            self._show_scores,
        )

    def show_colours(self):
        """Lay the model's view of the scan over it, as colours."""
        kind = KINDS[max(0, self.ui.coloursSelector.currentIndex)]
        self.display.run(
            _("computing colours"),
            descriptor_maps.colours(
                self.session, self.parameters.inspected_volume, self.parameters.model, kind, self.panel.device()
            ),
            self._show_colours,
        )

    def find_similar(self, position):
        """Show where the other scan looks like the place of the marked one; position: (3,) RAS in the world."""
        volume = supports_of(self.parameters)[0][0]
        self.display.run(
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

    def _show_scores(self, job):
        comparison = job.result
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

    def _show_colours(self, job):
        node = slicer.mrmlScene.GetNodeByID(job.result)
        if node is not None:
            self._hide_marks()
            slicer.util.setSliceViewerLayers(
                background=self.parameters.inspected_volume, foreground=node, foregroundOpacity=0.7, fit=True
            )
            self.message.success(_("Places with the same colour look alike to the model"))

    def _show_similar(self, job):
        found = job.result
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
