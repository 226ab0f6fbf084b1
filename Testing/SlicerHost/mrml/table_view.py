"""qMRMLTableView: a table node, read."""

from PySide6.QtCore import Signal
from PySide6.QtGui import QStandardItemModel
from PySide6.QtWidgets import QTableView
from vtk import vtkCommand

from ..qt_names import stands_for
from .watching import Watch


@stands_for(
    "qMRMLTableView", {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged", "selectionChanged()": "rowsChosen"}
)
class TableView(QTableView):
    mrmlSceneChanged = Signal(object)
    rowsChosen = Signal()

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._node, self._watch = None, None, Watch(self)
        self._locked = {"column": False, "row": False}
        self.setModel(QStandardItemModel(self))
        self.selectionModel().selectionChanged.connect(lambda *_: self.rowsChosen.emit())

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlTableNode(self):
        return self._node

    def setMRMLTableNode(self, node):
        self._watch.stop()
        self._node = node
        if node is not None:
            self._watch.observe(node, vtkCommand.ModifiedEvent, "refresh")
        self.refresh()

    def refresh(self):
        model = self.model()
        model.clear()
        if self._node is None or self._node.GetTable() is None:
            return
        table = self._node.GetTable()
        titles = [table.GetColumnName(column) for column in range(table.GetNumberOfColumns())]
        model.setHorizontalHeaderLabels(titles)
        model.setRowCount(table.GetNumberOfRows())
        for row in range(table.GetNumberOfRows()):
            for column in range(len(titles)):
                # By its index: items are Qt's own, and Python has none of them.
                model.setData(model.index(row, column), table.GetValue(row, column).ToString())

    def firstColumnLocked(self):
        return self._locked["column"]

    def setFirstColumnLocked(self, locked):
        self._locked["column"] = locked

    def firstRowLocked(self):
        return self._locked["row"]

    def setFirstRowLocked(self, locked):
        self._locked["row"] = locked
