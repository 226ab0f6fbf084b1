"""The choice of the scans to segment: one, several of the scene, or a folder; and the part of them to search."""

import qt
import slicer

from SSLFewShotSlicer.parameters import folder_of, supports_of, targets_of
from SSLFewShotSlicer.section import PanelPart, fit_height, show_widget
from SSLFewShotSlicer.translation import _


class TargetChoice(PanelPart):
    """The upper part of the section "Segment"; `section` is that."""

    def __init__(self, section):
        super().__init__(section.panel)
        self._section = section
        self._filling = False
        self._listed = None
        ui = self.ui
        ui.targetPlaceSelector.connect("currentIndexChanged(int)", self._on_place)
        ui.moreTargetsButton.connect("toggled(bool)", lambda _checked: self._show_rows())
        ui.moreTargetsList.connect("itemChanged(QListWidgetItem*)", self._on_ticked)
        ui.roiSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self._fit_region)
        section.tie_folder(ui.inputFolderEdit, "input_folder")
        section.tie_folder(ui.outputFolderEdit, "output_folder")

    def refresh(self):
        """Show the choices as they are."""
        ui = self.ui
        self._filling = True
        ui.targetPlaceSelector.currentIndex = 1 if self.parameters.targets_in_folder else 0
        self._filling = False
        self._section.show_folder(ui.inputFolderEdit, "input_folder")
        self._section.show_folder(ui.outputFolderEdit, "output_folder")
        self._fill_more()
        self._show_rows()

    def forget(self):
        """Let go of the scans: their scene is closed."""
        self._listed = None

    def ready(self):
        """What is missing, as a sentence; "" when nothing is."""
        parameters = self.parameters
        if parameters.targets_in_folder:
            if not folder_of(parameters.input_folder) or not folder_of(parameters.output_folder):
                return _("Choose the folder with the scans and the one for the results first")
        elif not targets_of(parameters):
            return _("Choose the scan to segment first")
        return ""

    def _show_rows(self):
        ui = self.ui
        folder = self.parameters.targets_in_folder
        show_widget(ui.scenePage, not folder)
        show_widget(ui.folderPage, folder)
        show_widget(ui.moreTargetsList, ui.moreTargetsButton.checked)
        for widget in (ui.resultLabel, ui.resultSelector):
            show_widget(widget, len(targets_of(self.parameters)) < 2)

    def _fill_more(self):
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

    def _on_ticked(self, item):
        if self._filling or self._section.closed:
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

    def _fit_region(self, roi):
        """Lay a new region around the scan, to be made smaller by its handles."""
        target = self.parameters.target_volume
        if target is None or roi is None or target.GetImageData() is None:
            return
        bounds = [0.0] * 6
        target.GetRASBounds(bounds)
        roi.SetCenter([(bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)])
        roi.SetSize([(bounds[2 * axis + 1] - bounds[2 * axis]) for axis in range(3)])
