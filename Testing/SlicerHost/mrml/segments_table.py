"""qMRMLSegmentsTableView: visibility, colour, opacity, name and state of each segment."""

from PySide6.QtCore import QItemSelection, QItemSelectionModel, Qt, Signal
from PySide6.QtGui import QColor, QIcon, QPainter, QPixmap
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLineEdit,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
)

from ..qt_names import stands_for
from .roots import SCENE_SIGNAL, MRMLWidget
from .segment_rows import segment_ids, watch_segments
from .watching import Watch

SEGMENT_ID = Qt.UserRole + 1
VISIBLE, COLOUR, OPACITY, NAME, STATUS = range(5)
HEADERS = ("", "", "Opacity", "Name", "")


def eye(open_):
    """A small eye, open or shut."""
    picture = QPixmap(16, 16)
    picture.fill(Qt.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.Antialiasing)
    painter.setPen(QColor(70, 70, 70))
    painter.drawArc(1, 3, 14, 12, 20 * 16, 140 * 16)
    if open_:
        painter.drawArc(1, 1, 14, 12, 200 * 16, 140 * 16)
        painter.setBrush(QColor(70, 70, 70))
        painter.drawEllipse(6, 5, 5, 5)
    painter.end()
    return QIcon(picture)


@stands_for("qMRMLSegmentsTableView", SCENE_SIGNAL)
class SegmentsTableView(MRMLWidget):
    selectionChanged = Signal(QItemSelection, QItemSelection)
    segmentAboutToBeModified = Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.search = QLineEdit(self)
        self.search.setPlaceholderText("Filter segments...")
        self.search.setVisible(False)
        self.table = QTableWidget(0, len(HEADERS), self)
        self.table.setHorizontalHeaderLabels(HEADERS)
        self.table.verticalHeader().setVisible(False)
        self.table.setSelectionBehavior(QAbstractItemView.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.ExtendedSelection)
        header = self.table.horizontalHeader()
        for column in (VISIBLE, COLOUR, STATUS):
            header.setSectionResizeMode(column, QHeaderView.ResizeToContents)
        header.setSectionResizeMode(OPACITY, QHeaderView.ResizeToContents)
        header.setSectionResizeMode(NAME, QHeaderView.Stretch)
        layout.addWidget(self.search)
        layout.addWidget(self.table)
        self._node_id, self._watch, self._filling, self._read_only = None, Watch(self), False, False
        self._hidden, self._filter, self._jump, self._settings = [], "", False, {}
        self.search.textChanged.connect(self.setTextFilter)
        self.table.selectionModel().selectionChanged.connect(self.selectionChanged)
        self.table.itemChanged.connect(self._on_item)
        self.table.cellClicked.connect(self._on_click)

    def segmentationNode(self):
        return self._scene.GetNodeByID(self._node_id) if self._scene and self._node_id else None

    def setSegmentationNode(self, node):
        self._watch.stop()
        self._node_id = node.GetID() if node is not None else None
        if node is not None:
            if self._scene is None:
                self._scene = node.GetScene()
            watch_segments(self._watch, node, "refresh")
            self._watch.observe(node.GetScene(), node.GetScene().NodeRemovedEvent, "refresh")
        self.refresh()

    def refresh(self):
        chosen = self.selectedSegmentIDs()
        node = self.segmentationNode()
        self._filling = True
        shown = [one for one in segment_ids(node) if self._shows(node.GetSegmentation().GetSegment(one), one)]
        self.table.setRowCount(len(shown))
        for row, segment_id in enumerate(shown):
            self._show_row(row, segment_id, node)
        self._filling = False
        if chosen:
            self.setSelectedSegmentIDs(chosen)

    def _shows(self, segment, segment_id):
        return segment_id not in self._hidden and self._filter.lower() in segment.GetName().lower()

    def _show_row(self, row, segment_id, node):
        segment = node.GetSegmentation().GetSegment(segment_id)
        display = node.GetDisplayNode()
        visible = display is None or display.GetSegmentVisibility(segment_id)
        opacity = display.GetSegmentOpacity3D(segment_id) if display else 1.0
        colour = QPixmap(15, 15)
        colour.fill(QColor.fromRgbF(*segment.GetColor()))
        items = [QTableWidgetItem() for _ in HEADERS]
        items[VISIBLE].setIcon(eye(visible))
        items[COLOUR].setIcon(QIcon(colour))
        items[OPACITY].setText(f"{opacity:.2f}")
        items[NAME].setText(segment.GetName())
        items[STATUS].setText("○")
        for column, item in enumerate(items):
            item.setData(SEGMENT_ID, segment_id)
            if column != NAME or self._read_only:
                item.setFlags(item.flags() & ~Qt.ItemIsEditable)
            self.table.setItem(row, column, item)

    def _on_item(self, item):
        if self._filling or item.column() != NAME:
            return
        segment_id = item.data(SEGMENT_ID)
        self.segmentAboutToBeModified.emit(segment_id)
        self.segmentationNode().GetSegmentation().GetSegment(segment_id).SetName(item.text())

    def _on_click(self, row, column):
        if column != VISIBLE or self._read_only:
            return
        segment_id = self.segmentIDForRow(row)
        display = self.segmentationNode().GetDisplayNode()
        if display is not None:
            display.SetSegmentVisibility(segment_id, not display.GetSegmentVisibility(segment_id))
            self.refresh()

    def segmentIDForRow(self, row):
        item = self.table.item(row, NAME)
        return item.data(SEGMENT_ID) if item is not None else ""

    def rowForSegmentID(self, segment_id):
        rows = [row for row in range(self.table.rowCount()) if self.segmentIDForRow(row) == segment_id]
        return rows[0] if rows else -1

    def displayedSegmentIDs(self):
        return [self.segmentIDForRow(row) for row in range(self.table.rowCount())]

    def segmentCount(self):
        return self.table.rowCount()

    def selectedSegmentIDs(self):
        return [self.segmentIDForRow(index.row()) for index in self.table.selectionModel().selectedRows(NAME)]

    def setSelectedSegmentIDs(self, segment_ids):
        model, selection = self.table.model(), QItemSelection()
        for segment_id in segment_ids:
            row = self.rowForSegmentID(segment_id)
            if row >= 0:
                selection.select(model.index(row, 0), model.index(row, len(HEADERS) - 1))
        self.table.selectionModel().select(selection, QItemSelectionModel.ClearAndSelect)

    def clearSelection(self):
        self.table.clearSelection()

    def hideSegments(self):
        return self._hidden

    def setHideSegments(self, segment_ids):
        self._hidden = list(segment_ids)
        self.refresh()

    def textFilter(self):
        return self._filter

    def setTextFilter(self, text):
        self._filter = text
        self.refresh()

    def readOnly(self):
        return self._read_only

    def setReadOnly(self, read_only):
        self._read_only = read_only
        self.refresh()

    def selectionMode(self):
        return self.table.selectionMode().value

    def setSelectionMode(self, mode):
        self.table.setSelectionMode(QAbstractItemView.SelectionMode(mode))

    def headerVisible(self):
        return not self.table.horizontalHeader().isHidden()

    def setHeaderVisible(self, visible):
        self.table.horizontalHeader().setVisible(visible)

    def filterBarVisible(self):
        return not self.search.isHidden()

    def setFilterBarVisible(self, visible):
        self.search.setVisible(visible)

    def jumpToSelectedSegmentEnabled(self):
        return self._jump

    def setJumpToSelectedSegmentEnabled(self, enabled):
        self._jump = enabled

    def tableWidget(self):
        return self.table

    def showOnlySelectedSegments(self):
        display = self.segmentationNode().GetDisplayNode()
        for segment_id in self.displayedSegmentIDs():
            display.SetSegmentVisibility(segment_id, segment_id in self.selectedSegmentIDs())


def _column_setting(name, column):
    def read(self):
        return not self.table.isColumnHidden(column)

    def write(self, visible):
        self.table.setColumnHidden(column, not visible)

    setattr(SegmentsTableView, name, read)
    setattr(SegmentsTableView, f"set{name[0].upper()}{name[1:]}", write)


for _name, _column in (
    ("visibilityColumnVisible", VISIBLE), ("colorColumnVisible", COLOUR), ("opacityColumnVisible", OPACITY),
    ("statusColumnVisible", STATUS),
):  # fmt: skip
    _column_setting(_name, _column)
