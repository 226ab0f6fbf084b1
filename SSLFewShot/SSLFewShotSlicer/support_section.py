"""The section "Marked scan": the scan that the user has marked, which structures count, further marked scans."""

import qt
import slicer

from SSLFewShotLib.errors import InputError, OutputError
from SSLFewShotSlicer import dialogs, edit_trip, support_folder
from SSLFewShotSlicer.bridge.segments import list_segments
from SSLFewShotSlicer.jobs import explained
from SSLFewShotSlicer.parameters import more_supports, set_more_supports, supports_of
from SSLFewShotSlicer.section import Section, fit_height, plain_table
from SSLFewShotSlicer.translation import _


class SupportSection(Section):
    """Chooses the support set."""

    form = "Support"
    message_label = "supportMessage"

    def set_up(self):
        ui = self.ui
        ui.segmentList.connect("itemChanged(QListWidgetItem*)", self._on_ticked)
        ui.editSegmentsButton.connect("clicked(bool)", lambda _checked: self.edit())
        ui.addSupportButton.connect("clicked(bool)", lambda _checked: self.add_current())
        ui.removeSupportButton.connect("clicked(bool)", lambda _checked: self.remove_chosen())
        ui.saveSupportButton.connect("clicked(bool)", lambda _checked: self.save())
        ui.loadSupportButton.connect("clicked(bool)", lambda _checked: self.load())
        ui.supportTable.connect("itemSelectionChanged()", self._show_buttons)
        ui.supportSegmentationSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self._on_segmentation_added)
        header = ui.supportTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.Stretch)
        plain_table(ui.supportTable)
        self._filling = False
        self._observed = None
        self._shown = None

    def refresh(self):
        parameters = self.parameters
        self._follow_scan()
        self._observe(parameters.support_segmentation)
        self._fill_structures()
        self._fill_table()
        self._show_buttons()

    def scene_closing(self):
        super().scene_closing()
        self._observed = None

    def ticked_names(self):
        """Names of the structures to look for, over all marked scans; each once."""
        unticked = set(self.parameters.unticked_segments)
        names = {}
        for _volume, segmentation in supports_of(self.parameters):
            for segment in list_segments(segmentation):
                names.setdefault(segment.name, segment)
        return [name for name in names if name not in unticked]

    def edit(self, segmentation=None, volume=None):
        """Open the Segment Editor on the marked scan (or on the nodes that are given)."""
        parameters = self.parameters
        volume = volume or parameters.support_volume
        segmentation = segmentation or parameters.support_segmentation
        if volume is None:
            self.message.error(_("Choose the scan to be marked first"))
            return
        if segmentation is None:
            segmentation = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLSegmentationNode", _("{scan} segmentation").format(scan=volume.GetName())
            )
            segmentation.CreateDefaultDisplayNodes()
            segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
            parameters.support_segmentation = segmentation
        self.message.clear()
        if not edit_trip.go(self.panel, segmentation, volume):
            self.message.warning(_("The Segment Editor cannot be opened here; look for it in the list of modules"))

    def add(self, volume, segmentation):
        """Make a scan and its segmentation a further marked scan; False when it is one already."""
        known = [(v.GetID(), s.GetID()) for v, s in supports_of(self.parameters)]
        if (volume.GetID(), segmentation.GetID()) in known:
            return False
        set_more_supports(self.parameters, [*more_supports(self.parameters), (volume, segmentation)])
        return True

    def add_current(self):
        """Put the marked scan above into the table and free the selectors for another one."""
        parameters = self.parameters
        volume, segmentation = parameters.support_volume, parameters.support_segmentation
        if volume is None or segmentation is None:
            self.message.error(_("Choose a marked scan and its segmentation above, then add them"))
            return
        known = [(v.GetID(), s.GetID()) for v, s in more_supports(parameters)]
        if (volume.GetID(), segmentation.GetID()) in known:
            self.message.information(_("{scan} is in the table already").format(scan=volume.GetName()))
            return
        self.message.clear()
        set_more_supports(parameters, [*more_supports(parameters), (volume, segmentation)])
        parameters.support_segmentation = None
        parameters.support_volume = None

    def remove_chosen(self):
        """Take the chosen rows out of the table."""
        rows = self._chosen_rows()
        kept = [pair for row, pair in enumerate(more_supports(self.parameters)) if row not in rows]
        set_more_supports(self.parameters, kept)

    def save(self):
        """Save all marked scans in a folder that the user chooses."""
        folder = dialogs.choose_folder(_("Save the marked scans in"))
        if not folder:
            return
        job = self.session.run(
            _("saving the marked scans"),
            support_folder.saving(supports_of(self.parameters), folder, self.ticked_names()),
        )
        self.panel.watch(job, self._on_saved)

    def load(self):
        """Load marked scans from a folder that the user chooses."""
        folder = dialogs.choose_folder(_("Load marked scans from"))
        if not folder:
            return
        try:
            pairs = support_folder.load(folder)
        except (InputError, OutputError) as error:
            self.message.error(explained(error))
            return
        self._take(pairs)
        self.message.success(_("{number} marked scans were loaded").format(number=len(pairs)))

    def _take(self, pairs):
        parameters = self.parameters
        modifying = parameters.StartModify()
        try:
            if parameters.support_volume is None:
                parameters.support_volume, parameters.support_segmentation = pairs[0]
                pairs = pairs[1:]
            set_more_supports(parameters, [*more_supports(parameters), *pairs])
        finally:
            parameters.EndModify(modifying)

    def _on_saved(self, job):
        if not job.over:
            return
        if job.state == "failed":
            self.message.error(job.sentence)
        elif job.state == "done":
            self.message.success(_("The marked scans were saved in {folder}").format(folder=job.result))

    def _on_segmentation_added(self, node):
        volume = self.parameters.support_volume
        if volume is not None:
            node.SetReferenceImageGeometryParameterFromVolumeNode(volume)

    def _follow_scan(self):
        """A segmentation says which scan it was made on: choosing the one chooses the other."""
        parameters = self.parameters
        if parameters.support_volume is None and parameters.support_segmentation is not None:
            role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
            volume = parameters.support_segmentation.GetNodeReference(role)
            if volume is not None and volume.IsA("vtkMRMLScalarVolumeNode"):
                parameters.support_volume = volume

    def _observe(self, segmentation):
        if segmentation is self._observed:
            return
        self.removeObservers()
        self._observed = segmentation
        if segmentation is not None:
            kinds = slicer.vtkSegmentation
            for event in (kinds.SegmentAdded, kinds.SegmentRemoved, kinds.SegmentModified):
                self.addObserver(segmentation.GetSegmentation(), event, self._on_segments_changed)

    def _on_segments_changed(self, _caller, _event):
        if not self.closed and self.parameters is not None:
            self.panel.refresh_soon()

    def _fill_structures(self):
        segmentation = self.parameters.support_segmentation
        unticked = set(self.parameters.unticked_segments)
        segments = list_segments(segmentation) if segmentation is not None else []
        shown = [(segment.name, segment.colour, segment.name not in unticked) for segment in segments]
        if (segmentation is not None, shown) == self._shown:
            return
        self._shown = segmentation is not None, shown
        self._filling = True
        self.ui.segmentList.clear()
        for name, colour, ticked in shown:
            item = qt.QListWidgetItem(_swatch(colour), name)
            item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            item.setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)
            self.ui.segmentList.addItem(item)
        if not shown:
            item = qt.QListWidgetItem(
                _("nothing is marked yet") if segmentation else _("no segmentation is chosen")
            )
            item.setFlags(qt.Qt.NoItemFlags)
            self.ui.segmentList.addItem(item)
        fit_height(self.ui.segmentList, 8)
        self._filling = False

    def _on_ticked(self, item):
        if self._filling or self.closed:
            return
        unticked = [name for name in self.parameters.unticked_segments if name != item.text()]
        if item.checkState() != qt.Qt.Checked:
            unticked.append(item.text())
        self._shown = None
        self.parameters.unticked_segments = unticked

    def _fill_table(self):
        table = self.ui.supportTable
        pairs = more_supports(self.parameters)
        table.setRowCount(len(pairs))
        for row, (volume, segmentation) in enumerate(pairs):
            names = ", ".join(segment.name for segment in list_segments(segmentation)) or _("nothing is marked")
            for column, text in enumerate((volume.GetName(), segmentation.GetName(), names)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                table.setItem(row, column, item)
        fit_height(table, 5)
        number = len(supports_of(self.parameters))
        self.ui.moreSupportsGroup.title = (
            _("More marked scans ({number} in all)").format(number=number)
            if number > 1
            else _("More marked scans")
        )

    def _chosen_rows(self):
        return {index.row() for index in self.ui.supportTable.selectionModel().selectedRows()}

    def _show_buttons(self):
        if self.parameters is None:
            return
        parameters = self.parameters
        self.ui.editSegmentsButton.enabled = parameters.support_volume is not None
        self.ui.addSupportButton.enabled = bool(parameters.support_volume and parameters.support_segmentation)
        self.ui.removeSupportButton.enabled = bool(self._chosen_rows())
        self.ui.saveSupportButton.enabled = bool(supports_of(parameters))


def _swatch(colour):
    """A small square of a segment's colour."""
    pixmap = qt.QPixmap(12, 12)
    pixmap.fill(qt.QColor.fromRgbF(*colour))
    return qt.QIcon(pixmap)
